package route

import (
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Table is an immutable route configuration.
type Table struct {
	Name string
	// InternalOnlyHeaders are removed from requests from outside; in lower case.
	InternalOnlyHeaders []string
	Metadata            stream.Metadata

	hosts            *hosts
	vhostHeader      string // empty: the authority
	ignorePort       bool
	ignoreParameters bool
}

// Match finds the route of the request of s. Path and Authority are taken as they stand in s.Request, after normalisation; draw is any
// uniformly distributed number and decides runtime fractions and weights. Without a virtual host both are nil, without a
// route the route is.
func (t *Table) Match(s *stream.Stream, draw uint64) (*VirtualHost, *Route) {
	vh := t.virtualHost(s)
	if vh == nil {
		return nil, nil
	}
	if vh.requireTLS != routev3.VirtualHost_NONE && vh.refusesPlain(s) {
		return vh, vh.toTLS
	}
	q := request{s: s, path: s.Request.Path[:pathEnd(s.Request.Path)], draw: draw}
	if t.ignoreParameters {
		q.path, _, _ = strings.Cut(q.path, ";")
	}
	r := vh.find(&q)
	if r != nil && r.weighted != nil {
		r = r.weighted.pick(s, draw)
	}
	return vh, r
}

func (v *VirtualHost) find(q *request) *Route {
	if v.tree != nil {
		return v.findTree(q)
	}
	return v.finder.find(q)
}

func (t *Table) virtualHost(s *stream.Stream) *VirtualHost {
	h := t.hosts
	if h.onlyFallback {
		return h.fallback
	}
	name := s.Request.Authority
	if t.vhostHeader != "" {
		var ok bool
		if name, ok = match.HeaderValue(&s.Request, t.vhostHeader); !ok {
			return nil
		}
	}
	if t.ignorePort {
		name = withoutAnyPort(name)
	}
	return h.find(lowerHost(s, name))
}

// withoutAnyPort removes what follows the last colon, unless that is inside of an IPv6 address.
func withoutAnyPort(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && i > strings.LastIndexByte(host, ']') {
		return host[:i]
	}
	return host
}

// lowerHost returns the name in lower case; it is so already, nearly always.
func lowerHost(s *stream.Stream, name string) string {
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			return s.Append(func(b []byte, _ *stream.Stream) []byte {
				for j := range len(name) {
					b = append(b, lowerByte(name[j]))
				}
				return b
			})
		}
	}
	return name
}

// refusesPlain says whether require_tls turns the request away.
func (v *VirtualHost) refusesPlain(s *stream.Stream) bool {
	if s.Request.Scheme == "https" || s.Request.Scheme == "" {
		return false
	}
	return v.requireTLS == routev3.VirtualHost_ALL || !s.Info.Internal
}

// VirtualCluster returns the first virtual cluster that matches the request, OtherCluster if none does, nil if there are none.
func (v *VirtualHost) VirtualCluster(s *stream.Stream) *VirtualCluster {
	for i := range v.VirtualClusters {
		if v.VirtualClusters[i].headers.Match(&s.Request) {
			return &v.VirtualClusters[i]
		}
	}
	return v.OtherCluster
}
