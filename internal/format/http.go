package format

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// httpCommands are the operators that read heads and trailers.
func httpCommands() map[string]command {
	req := headerCommand(requestHeader)
	resp := headerCommand(responseHeader)
	trailer := headerCommand(func(s *stream.Stream, name string) (string, bool) { return s.Response.Trailer.Get(name) })
	return map[string]command{
		"REQ": req, "REQUEST_HEADER": req, "STREAM_INFO_REQ": req,
		"RESP": resp, "RESPONSE_HEADER": resp,
		"TRAILER": trailer, "RESPONSE_TRAILER": trailer,
		"PATH":                  {paramOptional | lengthAllowed, pathOperator},
		"QUERY_PARAM":           {paramRequired | lengthAllowed, queryParam},
		"QUERY_PARAMS":          {paramOptional | lengthAllowed, queryParams},
		"REQUESTED_SERVER_NAME": {paramOptional, serverName},
		"XFCC_VALUE":            {paramOptional | lengthAllowed, xfccValue},
		"GRPC_STATUS":           {paramOptional, grpcStatus},
		"GRPC_STATUS_NUMBER": {bare, func(call) (*operator, error) {
			return grpcStatus(call{param: "NUMBER"})
		}},
		"REQUEST_HEADERS_BYTES":   number(requestHeaderBytes),
		"RESPONSE_HEADERS_BYTES":  number(responseHeaderBytes),
		"RESPONSE_TRAILERS_BYTES": number(func(s *stream.Stream) int64 { return mapBytes(&s.Response.Trailer) }),
	}
}

// get finds a header by its name in lower case.
type get func(s *stream.Stream, name string) (string, bool)

func requestHeader(s *stream.Stream, name string) (string, bool) {
	if name[0] != ':' && name != "host" {
		return s.Request.Header.Get(name)
	}
	q, v := &s.Request, ""
	switch name {
	case ":path":
		v = q.Path
	case ":method":
		v = q.Method
	case ":authority", "host":
		v = q.Authority
	case ":scheme":
		v = q.Scheme
	}
	if v == "" {
		return q.Header.Get(name) // :protocol
	}
	return v, true
}

func responseHeader(s *stream.Stream, name string) (string, bool) {
	if name == ":status" && s.Response.Status != 0 {
		return statusText(s.Response.Status), true
	}
	return s.Response.Header.Get(name)
}

func statusText(n int) string { return strconv.Itoa(n) }

// headerCommand is %REQ(X?Y):Z% and its like.
func headerCommand(from get) command {
	return command{paramRequired | lengthAllowed, func(c call) (*operator, error) {
		value, err := headerValue(c, from)
		if err != nil {
			return nil, err
		}
		return stringOperator(value), nil
	}}
}

func stringOperator(value func(s *stream.Stream) (string, bool)) *operator {
	return &operator{text: func(b []byte, s *stream.Stream) ([]byte, bool) {
		v, ok := value(s)
		return append(b, v...), ok
	}}
}

func headerValue(c call, from get) (func(s *stream.Stream) (string, bool), error) {
	name, other, _ := strings.Cut(strings.ToLower(c.param), "?")
	if strings.Contains(other, "?") {
		return nil, errors.New("More than 1 alternative header specified in token: " + c.param)
	}
	if !validName(name) || !validName(other) {
		return nil, errors.New("Invalid header configuration. Format string contains invalid characters.")
	}
	if name == "" {
		name, other = other, ""
	}
	switch {
	case name == "":
		return func(*stream.Stream) (string, bool) { return "", false }, nil
	case other == "":
		return func(s *stream.Stream) (string, bool) { return from(s, name) }, nil
	}
	return func(s *stream.Stream) (string, bool) {
		if v, ok := from(s, name); ok {
			return v, true
		}
		return from(s, other)
	}, nil
}

// validName says whether name, in lower case, may be a header's: a token, with a colon before it for pseudo headers.
func validName(name string) bool {
	name = strings.TrimPrefix(name, ":")
	for i := range len(name) {
		c := name[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return true
}

// withoutQuery is %REQ_WITHOUT_QUERY(X?Y):Z% of the extension envoy.formatter.req_without_query.
func withoutQuery(c call) (*operator, error) {
	value, err := headerValue(c, requestHeader)
	if err != nil {
		return nil, err
	}
	return stringOperator(func(s *stream.Stream) (string, bool) {
		v, ok := value(s)
		v, _, _ = strings.Cut(v, "?")
		return v, ok
	}), nil
}

const originalPath = "x-envoy-original-path"

// pathOperator is %PATH(X:Y):Z%.
func pathOperator(c call) (*operator, error) {
	query, source := options(c.param)
	if query != "" && query != "WQ" && query != "NQ" {
		return nil, fmt.Errorf("Invalid PATH option: '%s', only 'WQ'/'NQ' are allowed", query)
	}
	value := map[string]func(s *stream.Stream) (string, bool){
		"ORIG": func(s *stream.Stream) (string, bool) { return s.Request.Header.Get(originalPath) },
		"PATH": func(s *stream.Stream) (string, bool) { return s.Request.Path, s.Request.Path != "" },
		"": func(s *stream.Stream) (string, bool) {
			if v, ok := s.Request.Header.Get(originalPath); ok {
				return v, true
			}
			return s.Request.Path, s.Request.Path != ""
		},
	}[strings.TrimPrefix(source, "ORIG_OR_PATH")]
	if value == nil {
		return nil, fmt.Errorf("Invalid PATH option: '%s', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed", source)
	}
	if query != "NQ" {
		return stringOperator(value), nil
	}
	return stringOperator(func(s *stream.Stream) (string, bool) {
		v, ok := value(s)
		v, _, _ = strings.Cut(v, "?")
		return v, ok
	}), nil
}

// options splits X:Y; more parts are ignored, as in Envoy.
func options(param string) (x, y string) {
	x, y, _ = strings.Cut(param, ":")
	y, _, _ = strings.Cut(y, ":")
	return x, y
}

// serverName is %REQUESTED_SERVER_NAME(X:Y)%.
func serverName(c call) (*operator, error) {
	order, source := options(c.param)
	host := map[string]func(s *stream.Stream) string{
		"HOST": func(s *stream.Stream) string { return s.Request.Authority },
		"ORIG": originalHost,
		"": func(s *stream.Stream) string {
			if v := originalHost(s); v != "" {
				return v
			}
			return s.Request.Authority
		},
	}[strings.TrimPrefix(source, "ORIG_OR_HOST")]
	if host == nil {
		return nil, fmt.Errorf("Invalid REQUESTED_SERVER_NAME option: '%s', only 'ORIG_OR_HOST'/'HOST'/'ORIG' are allowed", source)
	}
	value := map[string]func(s *stream.Stream) string{
		"": sni, "SNI_ONLY": sni, "HOST_FIRST": host,
		"SNI_FIRST": func(s *stream.Stream) string {
			if v := sni(s); v != "" {
				return v
			}
			return host(s)
		},
	}[order]
	if value == nil {
		return nil, fmt.Errorf("Invalid REQUESTED_SERVER_NAME option: '%s', only 'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed", order)
	}
	return text(value).build(c)
}

func originalHost(s *stream.Stream) string {
	v, _ := s.Request.Header.Get("x-envoy-original-host")
	return v
}

// sni returns the server name that the client asked for; what could not be a host name is made harmless.
func sni(s *stream.Stream) string {
	name := s.Info.Conn.ServerName
	for i := range len(name) {
		if !isHostByte(name[i]) {
			return "invalid:" + strings.Map(func(r rune) rune {
				if r < 0x80 && isHostByte(byte(r)) {
					return r
				}
				return '_'
			}, name)
		}
	}
	return name
}

func isHostByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_'
}

// requestHeaderBytes is the sum of all names and values, pseudo headers too.
func requestHeaderBytes(s *stream.Stream) int64 {
	n := mapBytes(&s.Request.Header)
	q := &s.Request
	n += pseudoBytes(":method", q.Method) + pseudoBytes(":path", q.Path)
	return n + pseudoBytes(":authority", q.Authority) + pseudoBytes(":scheme", q.Scheme)
}

func responseHeaderBytes(s *stream.Stream) int64 {
	n := mapBytes(&s.Response.Header)
	if s.Response.Status != 0 {
		n += int64(len(":status") + 3)
	}
	return n
}

func pseudoBytes(name, value string) int64 {
	if value == "" {
		return 0
	}
	return int64(len(name) + len(value))
}

func mapBytes(m *header.Map) (n int64) {
	fields := m.All()
	for i := range fields {
		n += int64(len(fields[i].Name) + len(fields[i].Value))
	}
	return n
}
