package route

import (
	"slices"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/hashpolicy"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

// Action sends a request to a cluster (envoy.config.route.v3.RouteAction). Durations that the configuration leaves open are
// Unset; 0 says "no limit".
type Action struct {
	// Cluster is the name; if it is empty, the request header ClusterHeader holds it. ClusterName decides.
	Cluster, ClusterHeader string
	// ClusterNotFoundCode is the status when there is no such cluster: 503, 404 or 500.
	ClusterNotFoundCode int
	// MetadataMatch is the subset of hosts (filter_metadata "envoy.lb"), sorted by key. Fallbacks are what to try instead, one after
	// the other, in clusters with metadata_fallback_policy FALLBACK_LIST.
	MetadataMatch []Criterion
	Fallbacks     [][]Criterion

	Timeout     time.Duration // of the whole exchange; default 15 s
	IdleTimeout time.Duration // of the stream; Unset: that of the connection manager
	// FlushTimeout bounds sending the last bytes to the client; Unset: the connection manager's, else IdleTimeout.
	FlushTimeout time.Duration
	// MaxStreamDuration ends a stream; Unset: the connection manager's.
	MaxStreamDuration time.Duration
	// StreamDuration says that the route has a max_stream_duration, be it empty: gRPC requests then tell the host what is left.
	StreamDuration bool
	// GrpcTimeoutHeaderMax: the grpc-timeout header decides MaxStreamDuration, no longer than this (0: unbounded), less
	// GrpcTimeoutHeaderOffset. Unset: the header is ignored.
	GrpcTimeoutHeaderMax    time.Duration
	GrpcTimeoutHeaderOffset time.Duration // Unset: none
	// MaxGrpcTimeout and GrpcTimeoutOffset are the older pair: the header decides Timeout.
	MaxGrpcTimeout    time.Duration // Unset: the header is ignored; 0: unbounded
	GrpcTimeoutOffset time.Duration // Unset: none

	High bool // priority: HIGH

	Retry            *Retry            // nil: none
	Hedge            Hedge             // zero: none
	Mirrors          []Mirror          // the most specific list that is not empty
	Upgrades         []Upgrade         // what the route says of upgrades; others as the connection manager says
	InternalRedirect *InternalRedirect // nil: redirects of the upstream go to the client
	Cors             *Cors             // legacy field; nil: the virtual host's

	RateLimits           any // what Env.RateLimits built
	IncludeVhRateLimits  bool
	HashPolicy           hashpolicy.List // for clusters that balance by hash
	AutoHostRewrite      bool            // the router calls SetHost with the name of the chosen host
	AppendXForwardedHost bool
	// EarlyDataNever: no request may go in TLS early data; default: those with safe methods may.
	EarlyDataNever bool

	host hostRewrite
	path pathRewrite
}

// Criterion is one key of metadata_match.
type Criterion = lb.Criterion

// ClusterName returns the name of the cluster for this request; empty: the header is not there.
func (a *Action) ClusterName(s *stream.Stream) string {
	if a.Cluster != "" || a.ClusterHeader == "" {
		return a.Cluster
	}
	v, _ := match.HeaderValue(&s.Request, a.ClusterHeader)
	return v
}

// Upgrade says whether a route takes upgrades of a type (envoy.config.route.v3.RouteAction.UpgradeConfig).
type Upgrade struct {
	Type    string // in lower case, such as "websocket" or "connect"
	Enabled bool
	Connect *Connect // nil: a CONNECT is forwarded as it is
}

// Connect says that a CONNECT (or POST) is ended here: its payload goes to the upstream as a TCP stream.
type Connect struct {
	AllowPost     bool
	ProxyProtocol int // version of the PROXY header to write; 0: none
}

// Hedge is a hedge policy.
type Hedge struct {
	OnPerTryTimeout bool // a second attempt starts when the first exceeds its per-try timeout, and both go on
}

// Mirror sends a copy of a share of requests to another cluster.
type Mirror struct {
	Cluster, ClusterHeader string
	HostRewrite            string // host_rewrite_literal
	NoShadowSuffix         bool   // disable_shadow_host_suffix_append
	TraceSampled           bool   // whether its span is sampled, where TraceSampledSet
	TraceSampledSet        bool   // false: the parent's decision stands

	runtime  *runtime.Loader
	fraction runtime.Fraction
	edits    edits
}

// Hit says whether a request is mirrored; draw is any uniformly distributed number.
func (m *Mirror) Hit(draw uint64) bool { return m.fraction.Hit(m.runtime.Load(), draw) }

// ClusterName returns the name of the cluster for this request; empty: the header is not there.
func (m *Mirror) ClusterName(s *stream.Stream) string {
	if m.Cluster != "" || m.ClusterHeader == "" {
		return m.Cluster
	}
	v, _ := match.HeaderValue(&s.Request, m.ClusterHeader)
	return v
}

// Finalize applies request_headers_mutations to the copy, whose request stands in s.
func (m *Mirror) Finalize(s *stream.Stream) { m.edits.request(s) }

// InternalRedirect says which redirects of an upstream the router follows by itself.
type InternalRedirect struct {
	Max              int   // redirects per request; default 1
	Codes            []int // default 302
	AllowCrossScheme bool
	CopyHeaders      []string // response_headers_to_copy, in lower case

	// The predicates: each must hold.
	PreviousRoutes  bool       // not to a route that this request was redirected to before
	AllowedRoutes   [][]string // to one of these names, for each list
	SafeCrossScheme bool       // not from https to http
}

// Follows says whether a status is one that is followed.
func (r *InternalRedirect) Follows(status int) bool {
	return slices.Contains(r.Codes, status)
}

// Allows says whether the predicates let a redirect go to the route of this name.
func (r *InternalRedirect) Allows(name string) bool {
	for _, list := range r.AllowedRoutes {
		if !slices.Contains(list, name) {
			return false
		}
	}
	return true
}

// Cors is the legacy CorsPolicy of a route or a virtual host.
type Cors struct {
	AllowOrigin                                       []match.String
	AllowMethods, AllowHeaders, ExposeHeaders, MaxAge string
	AllowCredentials, AllowPrivateNetwork             bool
	ForwardNotMatchingPreflights                      bool
	Enabled, Shadow                                   runtime.Fraction
}
