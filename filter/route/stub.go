package route

import (
	"github.com/outrigger-proxy/outrigger/internal/mutation"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

type (
	finder      struct{}
	matcher     struct{}
	weighted    struct{}
	hashPolicy  struct{}
	hostRewrite struct{}
	pathRewrite struct{}
	edits       struct{ requests, responses []*mutation.List }
)

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
// original set, x-envoy-original-path (and -host) say what was there before (unless suppress_envoy_headers).
func (r *Route) FinalizeRequest(s *stream.Stream, original bool) {
	r.edits.request(s)
}

// FinalizeResponse applies the header edits of all levels to the response of s.
func (r *Route) FinalizeResponse(s *stream.Stream) { r.edits.response(s) }

// RewritePath applies the path rewrite of a redirect to the request of s, before Location is asked.
func (r *Route) RewritePath(s *stream.Stream, original bool) {}

// Location returns the value of the location header of a redirect, or of a direct response whose status has one; else it is empty.
func (r *Route) Location(s *stream.Stream) string { return "" }

// SetHost changes the authority of the request of s: for auto_host_rewrite, to the name of the chosen host.
func (a *Action) SetHost(s *stream.Stream, host string, original bool) { s.Request.Authority = host }

// Hash returns the hash of a request by hash_policy; ok is false if no policy has anything to say. A cookie that is to be set on the
// client is appended to cookies as the value of set-cookie.
func (a *Action) Hash(s *stream.Stream, cookies []string) (hash uint64, ok bool, set []string) {
	return 0, false, cookies
}

// VirtualCluster returns the first virtual cluster that matches the request, OtherCluster if none does, nil if there are none.
func (v *VirtualHost) VirtualCluster(s *stream.Stream) *VirtualCluster { return v.OtherCluster }

var (
	retryOn     = map[string]Condition{"5xx": On5xx, "gateway-error": OnGatewayError, "reset": OnReset, "connect-failure": OnConnectFailure, "retriable-4xx": OnRetriable4xx, "refused-stream": OnRefusedStream}
	retryGrpcOn = map[string]Condition{}
)
