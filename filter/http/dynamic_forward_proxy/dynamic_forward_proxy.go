// Package dynamicforwardproxy is the HTTP filter envoy.filters.http.dynamic_forward_proxy
// (type.googleapis.com/envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig): where the route leads to a dynamic forward
// proxy it finds the address of the host that the client asks for, before the request goes on.
//
// Differences to Envoy: key_value_config of the cache is refused.
package dynamicforwardproxy

import (
	"cmp"
	"errors"
	"fmt"

	forwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/cluster/discovery/dns"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// addressState is the key of the address of the host in the filter state, in Envoy's words.
const addressState = "envoy.stream.upstream_address"

// Filter finds hosts.
type Filter struct {
	// set at construction
	*config

	name  string
	cache *dns.Cache
}

// New builds the filter.
func New(p *forwardv3.FilterConfig, env filter.Env) (any, error) {
	f := &Filter{config: parse(p), name: env.Name}
	var err error
	if f.cache, err = env.Clusters.DNSCache(p.GetDnsCacheConfig()); err != nil {
		return nil, fmt.Errorf("dns_cache_config: %w", err)
	}
	return f, nil
}

// NewPerRoute builds what a route says of the host.
func NewPerRoute(p *forwardv3.PerRouteConfig, _ filter.Env) (any, error) {
	return &rewrite{host: p.GetHostRewriteLiteral(), header: p.GetHostRewriteHeader()}, nil
}

// OnRequest finds the host of a request; it waits for the DNS where it must.
func (f *Filter) OnRequest(s *filter.Stream) filter.Status {
	if s.Route == nil || s.Route.Action == nil || s.Cluster == nil {
		return filter.Continue
	}
	to := s.Cluster.Forwarding()
	if to == nil {
		return filter.Continue
	}
	if r, ok := s.Route.FilterConfig(f.name).(*rewrite); ok {
		r.apply(s)
	}
	if to.Divided() {
		return f.divide(s, to)
	}
	return f.find(s, to)
}

// apply gives the request another host.
func (r *rewrite) apply(s *filter.Stream) {
	if r.host != "" {
		s.Request.Authority = r.host
	}
	if r.header == "" {
		return
	}
	if v, ok := s.Request.Header.Get(r.header); ok {
		s.Request.Authority = v
	}
}

// divide sees to it that the host has its cluster.
func (f *Filter) divide(s *filter.Stream, to *cluster.Forwarding) filter.Status {
	err := to.Sub(s.Worker, to.Key(s.Request.Authority), f.patience)
	switch {
	case errors.Is(err, cluster.ErrSubOverflow):
		return s.LocalReply(503, err.Error(), "Sub cluster overflow")
	case errors.Is(err, cluster.ErrSubTimeout):
		return s.LocalReply(503, err.Error(), "Sub cluster warming timeout")
	case err != nil && s.Worker.Current().Err() == nil:
		return s.LocalReply(503, "dynamic_forward_proxy_cluster_is_gone", "Dynamic forward proxy cluster is gone")
	}
	return filter.Continue // who has been cancelled comes no further
}

// find sees to it that the cache knows the host.
func (f *Filter) find(s *filter.Stream, to *cluster.Forwarding) filter.Status {
	host, port := s.Request.Authority, to.Port()
	if f.fromState {
		if h, p := cluster.Dynamic(&s.Info); h != "" || p != 0 {
			host, port = cmp.Or(h, host), cmp.Or(p, port)
		}
	}
	if host == "" {
		return s.LocalReply(400, "empty_host_header", "Empty host header")
	}
	r, err := f.cache.LoadAdmitted(s.Worker, dns.Key(host, port))
	switch {
	case errors.Is(err, dns.ErrPendingOverflow):
		return s.LocalReply(503, err.Error(), "Dynamic forward proxy pending request overflow")
	case errors.Is(err, dns.ErrCacheOverflow):
		return s.LocalReply(503, err.Error(), "DNS cache overflow")
	case err != nil:
		return filter.Continue // cancelled
	case len(r.Addresses) == 0:
		s.Info.Flags |= stream.DNSResolutionFailed
		return s.LocalReply(503, "dns_resolution_failure{"+r.Details+"}", "DNS resolution failure")
	}
	if f.saveAddress {
		if s.Info.State == nil {
			s.Info.State = stream.FilterState{}
		}
		s.Info.State[addressState] = r.Addresses[0]
	}
	return filter.Continue
}
