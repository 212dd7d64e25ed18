package route

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/outrigger-proxy/outrigger/internal/mutation"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// edits are the header edits of all levels, in the order in which they are applied: the later wins.
type edits struct{ requests, responses []*mutation.List }

func (e *edits) request(s *stream.Stream) {
	for _, l := range e.requests {
		l.Apply(&s.Request.Header, s)
	}
}

func (e *edits) response(s *stream.Stream) {
	for _, l := range e.responses {
		l.Apply(&s.Response.Header, s)
	}
}

// FinalizeRequest changes the request of s as it goes to the upstream: header edits of all levels, then the host, then the path. With
// original set, x-envoy-original-path and x-envoy-original-host say what was there before (unless suppress_envoy_headers).
func (r *Route) FinalizeRequest(s *stream.Stream, original bool) {
	if e := r.entry; e != nil {
		e.request.Apply(&s.Request.Header, s)
		if e.host != "" {
			s.Request.Authority = e.host
		}
	}
	r.edits.request(s)
	if r.Action != nil {
		r.Action.rewriteHost(s, original)
		r.Action.path.apply(s, original)
	}
}

// FinalizeResponse applies the header edits of all levels to the response of s.
func (r *Route) FinalizeResponse(s *stream.Stream) {
	if r.entry != nil {
		r.entry.response.Apply(&s.Response.Header, s)
	}
	r.edits.response(s)
}

// entryEdits are what an entry of a weighted cluster says. They come before all others, even where the most specific wins, and
// its host leaves no trace in other headers; both as in Envoy.
type entryEdits struct {
	level

	host string
}

// level is what one level of the configuration says of headers.
type level struct{ request, response *mutation.List }

type headerEdits interface {
	GetRequestHeadersToAdd() []*corev3.HeaderValueOption
	GetRequestHeadersToRemove() []string
	GetResponseHeadersToAdd() []*corev3.HeaderValueOption
	GetResponseHeadersToRemove() []string
}

func compileLevel(p headerEdits) (l level, err error) {
	if len(p.GetRequestHeadersToAdd())+len(p.GetRequestHeadersToRemove()) > 0 {
		if l.request, err = mutation.Compile(p.GetRequestHeadersToAdd(), p.GetRequestHeadersToRemove()); err != nil {
			return l, fmt.Errorf("request_headers_to_add: %w", err)
		}
	}
	if len(p.GetResponseHeadersToAdd())+len(p.GetResponseHeadersToRemove()) > 0 {
		if l.response, err = mutation.Compile(p.GetResponseHeadersToAdd(), p.GetResponseHeadersToRemove()); err != nil {
			return l, fmt.Errorf("response_headers_to_add: %w", err)
		}
	}
	return l, nil
}

// joinLevels makes the edits of a route from those of its levels, which come from the most specific to the least specific. Unless the most
// specific wins, the least specific is applied last.
func joinLevels(levels []level, mostSpecificWins bool) (e edits) {
	for i := range levels {
		l := levels[i]
		if mostSpecificWins {
			l = levels[len(levels)-1-i]
		}
		if l.request != nil {
			e.requests = append(e.requests, l.request)
		}
		if l.response != nil {
			e.responses = append(e.responses, l.response)
		}
	}
	return e
}
