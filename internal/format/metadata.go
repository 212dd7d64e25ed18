package format

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// metadataCommands are the operators that look something up by its name.
func metadataCommands() map[string]command {
	return map[string]command{
		"DYNAMIC_METADATA":      {paramRequired | lengthAllowed, metadataOf(dynamicMetadata)},
		"CLUSTER_METADATA":      {paramRequired, metadataOf(clusterMetadata)},
		"UPSTREAM_METADATA":     {paramRequired, metadataOf(hostMetadata)},
		"METADATA":              {paramOptional | lengthAllowed, metadata},
		"FILTER_STATE":          {paramOptional | lengthAllowed, filterState(streamState)},
		"UPSTREAM_FILTER_STATE": {paramOptional | lengthAllowed, filterState(upstreamState)},
	}
}

func dynamicMetadata(s *stream.Stream) stream.Metadata { return s.Info.Metadata }
func clusterMetadata(s *stream.Stream) stream.Metadata { return s.Info.Upstream.ClusterMetadata }
func hostMetadata(s *stream.Stream) stream.Metadata    { return s.Info.Upstream.HostMetadata }

// metadata is %METADATA(TYPE:NAMESPACE:KEY*):Z%.
func metadata(c call) (*operator, error) {
	kind, rest, _ := strings.Cut(c.param, ":")
	of := map[string]func(*stream.Stream) stream.Metadata{
		"DYNAMIC":               dynamicMetadata,
		"CLUSTER":               clusterMetadata,
		"UPSTREAM_HOST":         hostMetadata,
		"ROUTE":                 func(s *stream.Stream) stream.Metadata { return s.Info.RouteMetadata },
		"VIRTUAL_HOST":          func(s *stream.Stream) stream.Metadata { return s.Info.VirtualHostMetadata },
		"LISTENER":              func(s *stream.Stream) stream.Metadata { return s.Info.Conn.ListenerMetadata },
		"LISTENER_FILTER_CHAIN": func(s *stream.Stream) stream.Metadata { return s.Info.Conn.ChainMetadata },
	}[kind]
	if of == nil {
		return nil, errors.New(kind + " is not supported type of metadata")
	}
	return metadataOf(of)(call{param: rest})
}

// metadataOf makes the builder of operators whose parameter is NAMESPACE:KEY*.
func metadataOf(of func(*stream.Stream) stream.Metadata) func(c call) (*operator, error) {
	return func(c call) (*operator, error) {
		path := strings.Split(c.param, ":")
		return valueOperator(func(s *stream.Stream) (any, bool) { return find(of(s), path[0], path[1:]) }), nil
	}
}

// find walks down from a namespace along keys. Null is no value.
func find(m stream.Metadata, namespace string, keys []string) (any, bool) {
	fields, ok := m[namespace]
	if !ok {
		return nil, false
	}
	var value any = fields
	for _, k := range keys {
		fields, ok = value.(map[string]any)
		if !ok {
			return nil, false
		}
		value, ok = fields[k]
		if !ok {
			return nil, false
		}
	}
	return value, value != nil
}

// valueOperator prints a value: a string as it is, anything else as JSON. The maximum length is not for JSON.
func valueOperator(value func(s *stream.Stream) (any, bool)) *operator {
	return &operator{
		text: func(b []byte, s *stream.Stream) ([]byte, bool) {
			v, ok := value(s)
			if !ok {
				return b, false
			}
			if text, ok := v.(string); ok {
				return append(b, text...), true
			}
			return appendValue(b, v), true
		},
		json: func(b []byte, s *stream.Stream) ([]byte, bool) {
			v, ok := value(s)
			if !ok {
				return b, false
			}
			return appendValue(b, v), true
		},
	}
}

func streamState(s *stream.Stream, key string) any {
	if v, ok := s.Info.State[key]; ok {
		return v
	}
	return s.Info.Conn.State[key]
}

func upstreamState(s *stream.Stream, key string) any { return s.Info.Upstream.State[key] }

// filterState makes the builder of %FILTER_STATE(KEY:F:FIELD?):Z%.
func filterState(of func(s *stream.Stream, key string) any) func(c call) (*operator, error) {
	return func(c call) (*operator, error) {
		parts := append(strings.SplitN(c.param, ":", 4), "", "")
		key, kind, field := parts[0], parts[1], parts[2]
		switch {
		case key == "":
			return nil, errors.New("Invalid filter state configuration, key cannot be empty.")
		case kind != "" && kind != "PLAIN" && kind != "TYPED" && kind != "FIELD":
			return nil, errors.New("Invalid filter state serialize type, only support PLAIN/TYPED/FIELD.")
		case (kind == "FIELD") != (field != ""):
			return nil, errors.New("Invalid filter state serialize type, FIELD should be used with the field name.")
		}
		switch kind {
		case "PLAIN":
			return stringOperator(func(s *stream.Stream) (string, bool) { return plain(of(s, key)) }), nil
		case "FIELD":
			return stringOperator(func(s *stream.Stream) (string, bool) { return fieldOf(of(s, key), field) }), nil
		}
		typed := func(b []byte, s *stream.Stream) ([]byte, bool) { return appendTyped(b, of(s, key)) }
		return &operator{text: typed, json: typed}, nil
	}
}

// plain is the text of an object of the filter state.
func plain(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case interface{ String() string }:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	case int:
		return strconv.Itoa(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case uint32:
		return strconv.FormatUint(uint64(v), 10), true
	case uint64:
		return strconv.FormatUint(v, 10), true
	}
	return "", false
}

func fieldOf(v any, name string) (string, bool) {
	if v, ok := v.(interface{ Field(string) any }); ok {
		return plain(v.Field(name))
	}
	return "", false
}

// appendTyped appends an object of the filter state as JSON.
func appendTyped(b []byte, v any) ([]byte, bool) {
	switch v := v.(type) {
	case nil:
		return b, false
	case string, bool, float64, map[string]any, []any:
		return appendValue(b, v), true
	case json.Marshaler:
		text, err := v.MarshalJSON()
		return append(b, text...), err == nil
	}
	if text, ok := plain(v); ok {
		return appendValue(b, text), true
	}
	text, err := json.Marshal(v)
	return append(b, text...), err == nil
}
