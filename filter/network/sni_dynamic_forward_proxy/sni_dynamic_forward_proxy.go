// Package snidynamicforwardproxy is the network filter envoy.filters.network.sni_dynamic_forward_proxy
// (type.googleapis.com/envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig): it finds the address of the host that
// the client names in its TLS handshake, as tls_inspector found it, before tcp_proxy connects to a dynamic forward proxy.
//
// Differences to Envoy: key_value_config of the cache is refused.
package snidynamicforwardproxy

import (
	"cmp"
	"fmt"

	forwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/cluster/discovery/dns"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// portState is the key of the port in the filter state, and addressState that of the address, in Envoy's words.
const (
	portState    = "envoy.upstream.dynamic_port"
	addressState = "envoy.stream.upstream_address"
)

type sni struct {
	*config

	cache *dns.Cache
}

// New builds it.
func New(p *forwardv3.FilterConfig, env filter.Env) (any, error) {
	k, err := env.Clusters.DNSCache(p.GetDnsCacheConfig())
	if err != nil {
		return nil, fmt.Errorf("dns_cache_config: %w", err)
	}
	return &sni{parse(p), k}, nil
}

// OnConn finds the host; it waits for the DNS where it must. A name that is not to be found goes on: tcp_proxy will have no host.
func (f *sni) OnConn(c *filter.Conn) filter.Status {
	host, port := cluster.Dynamic(&stream.Info{Conn: c.Info})
	if host = cmp.Or(host, c.Info.ServerName); host == "" {
		return filter.Continue
	}
	if c.Info.State == nil {
		c.Info.State = stream.FilterState{}
	}
	if port == 0 {
		port = f.port
		c.Info.State[portState] = uint32(port)
	}
	r, err := f.cache.LoadAdmitted(c.Worker, dns.Key(host, port))
	switch {
	case err != nil: // overflow, or the client has gone
		return f.refuse(c)
	case f.saveAddress && len(r.Addresses) > 0:
		c.Info.State[addressState] = r.Addresses[0]
	}
	return filter.Continue
}

func (f *sni) refuse(c *filter.Conn) filter.Status {
	_ = c.Close()
	return filter.Stop
}
