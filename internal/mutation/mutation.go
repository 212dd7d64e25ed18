// Package mutation changes headers as the configuration says: additions with their append actions, and removals.
package mutation

import (
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/format"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// List is a compiled list of changes. The nil List changes nothing. It is immutable and for all workers.
type List struct {
	remove []string
	add    []option
	steps  []step // instead of the others: one after the other
}

// option is a compiled HeaderValueOption.
type option struct {
	name      string
	value     string           // where template is nil
	template  *format.Template // with operators
	action    action
	keepEmpty bool
}

// action is a HeaderValueOption_HeaderAppendAction.
type action uint8

const (
	appendIfExistsOrAdd action = iota
	addIfAbsent
	overwriteIfExistsOrAdd
	overwriteIfExists
)

// step is one of an ordered list of mutations.
type step struct {
	remove  string        // a name
	matches *match.String // names to remove
	add     option        // where both are empty
}

// change is what an option comes to on a stream.
type change struct {
	name, value string
	overwrite   bool
}

// Apply changes h, which is a head or the trailers of s. Values live in the arena of s. As in Envoy, removals come first; then all
// values are found before any header changes; then headers are overwritten, and at last added.
func (l *List) Apply(h *header.Map, s *stream.Stream) {
	if l == nil {
		return
	}
	for _, name := range l.remove {
		h.Del(name)
	}
	if len(l.add) > 0 {
		l.applyOptions(h, s)
	}
	for i := range l.steps {
		l.steps[i].apply(h, s)
	}
}

func (l *List) applyOptions(h *header.Map, s *stream.Stream) {
	var few [16]change // keeps the usual list off the heap
	changes := few[:0]
	for i := range l.add {
		if c, ok := l.add[i].evaluate(h, s); ok {
			changes = append(changes, c)
		}
	}
	for i := range changes {
		if c := &changes[i]; c.overwrite {
			h.Set(c.name, c.value)
		}
	}
	for i := range changes {
		if c := &changes[i]; !c.overwrite {
			add(h, s, c.name, c.value)
		}
	}
}

// evaluate says what o does to h; false: nothing. A value that could not be sent, for it would end its line, is left out.
func (o *option) evaluate(h *header.Map, s *stream.Stream) (change, bool) {
	c := change{name: o.name, value: o.value, overwrite: o.action >= overwriteIfExistsOrAdd}
	if o.action == addIfAbsent || o.action == overwriteIfExists {
		if _, there := get(h, s, o.name); there != (o.action == overwriteIfExists) {
			return c, false
		}
	}
	if o.template != nil {
		c.value = s.Append(o.template.Append)
	}
	return c, (c.value != "" || o.keepEmpty) && !strings.ContainsAny(c.value, "\r\n\x00")
}

// add adds a field. Of some headers there is only ever one: a further value is joined to it by a comma.
func add(h *header.Map, s *stream.Stream, name, value string) {
	if single(h, s, name) {
		if old, there := h.Get(name); there {
			if old != "" {
				value = s.Text(old, ",", value)
			}
			h.Set(name, value)
			return
		}
	}
	h.Add(name, value)
}

// single says whether Envoy keeps only one header of this name in such a map.
func single(h *header.Map, s *stream.Stream, name string) bool {
	switch h {
	case &s.Response.Trailer, &s.Request.Trailer:
		return false
	case &s.Response.Header:
		return singles[name]&ofResponse != 0
	}
	return singles[name]&ofRequest != 0
}

const (
	ofRequest uint8 = 1 << iota
	ofResponse
)

// singles are the headers that Envoy joins (its inline headers), as observed.
var singles = func() map[string]uint8 {
	all := map[string]uint8{}
	for name := range strings.FieldsSeq(`user-agent x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port
		x-forwarded-client-cert accept accept-encoding authorization cache-control content-type content-encoding content-length referer
		origin x-request-id via te x-client-trace-id x-envoy-attempt-count grpc-timeout pragma if-none-match if-match if-range
		if-modified-since if-unmodified-since x-envoy-decorator-operation x-envoy-original-path x-envoy-external-address
		x-envoy-internal access-control-request-method access-control-request-headers connection expect upgrade transfer-encoding
		keep-alive proxy-connection x-envoy-retry-on x-envoy-max-retries x-envoy-expected-rq-timeout-ms
		x-envoy-downstream-service-cluster x-envoy-downstream-service-node x-envoy-force-trace`) {
		all[name] |= ofRequest
	}
	for name := range strings.FieldsSeq(`cache-control content-type content-encoding content-length x-request-id via
		x-envoy-attempt-count date server etag location grpc-status grpc-message x-envoy-decorator-operation vary
		access-control-allow-origin access-control-allow-headers access-control-allow-methods access-control-allow-credentials
		access-control-expose-headers access-control-max-age age expires last-modified connection keep-alive proxy-connection upgrade
		transfer-encoding x-envoy-degraded x-envoy-upstream-service-time x-envoy-immediate-health-check-fail`) {
		all[name] |= ofResponse
	}
	return all
}()

// apply runs one mutation of an ordered list. Pseudo headers may be set, not removed.
func (t *step) apply(h *header.Map, s *stream.Stream) {
	switch {
	case t.remove != "":
		h.Del(t.remove)
	case t.matches != nil:
		removeMatching(h, t.matches)
	default:
		c, ok := t.add.evaluate(h, s)
		switch {
		case !ok || setPseudo(h, s, c):
		case c.overwrite:
			h.Set(c.name, c.value)
		default:
			add(h, s, c.name, c.value)
		}
	}
}

func removeMatching(h *header.Map, m *match.String) {
	for i := 0; i < len(h.All()); {
		if name := h.All()[i].Name; m.Match(name) {
			h.Del(name) // removes at least the i-th
			continue
		}
		i++
	}
}

// pseudo returns where the value of a pseudo header of h stands; nil for others.
func pseudo(h *header.Map, s *stream.Stream, name string) *string {
	if h != &s.Request.Header {
		return nil
	}
	switch name {
	case ":path":
		return &s.Request.Path
	case ":method":
		return &s.Request.Method
	case ":authority", "host":
		return &s.Request.Authority
	case ":scheme":
		return &s.Request.Scheme
	}
	return nil
}

func get(h *header.Map, s *stream.Stream, name string) (string, bool) {
	if p := pseudo(h, s, name); p != nil {
		return *p, *p != ""
	}
	return h.Get(name)
}

func setPseudo(h *header.Map, s *stream.Stream, c change) bool {
	p := pseudo(h, s, c.name)
	switch {
	case p == nil:
		return false
	case c.overwrite || *p == "":
		*p = c.value
	default:
		*p = s.Text(*p, ",", c.value)
	}
	return true
}
