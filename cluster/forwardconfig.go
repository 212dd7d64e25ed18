package cluster

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	forwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/cluster/discovery/dns"
	"github.com/outrigger-proxy/outrigger/internal/match"
)

// forwardOptions are those of a dynamic forward proxy.
type forwardOptions struct {
	cache    *cachev3.DnsCacheConfig
	subs     *subOptions // nil: the hosts are those of the cache
	insecure bool        // allow_insecure_cluster_options
}

// subOptions are those of SubClustersConfig.
type subOptions struct {
	most   int
	ttl    time.Duration
	config *forwardv3.SubClustersConfig
}

func (o *config) parseForward(p *forwardv3.ClusterConfig) error {
	o.kind = forward
	o.forward = forwardOptions{cache: p.GetDnsCacheConfig(), insecure: p.GetAllowInsecureClusterOptions()}
	o.http.sni = AutoSNI{Name: true, SAN: true} // unless the cluster says otherwise
	if _, err := parseCache(o.forward.cache); err != nil {
		return fmt.Errorf("typed_config.dns_cache_config.%w", err)
	}
	s := p.GetSubClustersConfig()
	if s == nil {
		return nil
	}
	if s.GetLbPolicy() == clusterv3.Cluster_CLUSTER_PROVIDED {
		return refused("typed_config.sub_clusters_config.lb_policy", "unsupported lb_policy 'CLUSTER_PROVIDED' in sub_cluster_config")
	}
	o.forward.subs = &subOptions{
		most: int(orElse(s.GetMaxSubClusters(), 1024)), ttl: duration(s.GetSubClusterTtl(), 5*time.Minute), config: s,
	}
	return nil
}

// checkForward refuses a dynamic forward proxy that would not look at whom it speaks to.
func (o *config) checkForward() error {
	if o.kind == forward && !o.forward.insecure && (!o.http.sni.Name || !o.http.sni.SAN) {
		return errors.New("dynamic_forward_proxy cluster must have auto_sni and auto_san_validation true unless allow_insecure_cluster_options is set")
	}
	return nil
}

func keys(l []*corev3.SocketAddress) (keys []string) {
	for _, a := range l {
		keys = append(keys, net.JoinHostPort(a.GetAddress(), strconv.Itoa(int(a.GetPortValue()))))
	}
	return keys
}

// parseCache reads a DnsCacheConfig; nil has all defaults.
func parseCache(p *cachev3.DnsCacheConfig) (c dns.CacheConfig, err error) {
	c = dns.CacheConfig{
		Family: families[p.GetDnsLookupFamily().String()], Refresh: duration(p.GetDnsRefreshRate(), time.Minute),
		Least: duration(p.GetDnsMinRefreshRate(), 5*time.Second), HostTTL: duration(p.GetHostTtl(), 5*time.Minute),
		QueryTimeout: duration(p.GetDnsQueryTimeout(), 5*time.Second), OnDemand: p.GetDisableDnsRefreshOnFailure(),
		MaxHosts: int(orElse(p.GetMaxHosts(), 1024)), Preresolve: keys(p.GetPreresolveHostnames()),
		MaxPending:  int64(orElse(p.GetDnsCacheCircuitBreaker().GetMaxPendingRequests(), 1024)),
		FailureBase: p.GetDnsFailureRefreshRate().GetBaseInterval().AsDuration(),
		FailureMax:  p.GetDnsFailureRefreshRate().GetMaxInterval().AsDuration(),
	}
	if c.FailureMax == 0 {
		c.FailureMax = 10 * c.FailureBase
	}
	if p.GetKeyValueConfig() != nil {
		return c, refused("key_value_config", "keeping the cache beyond the process is not supported")
	}
	if n := len(c.Preresolve); n > c.MaxHosts {
		return c, refused("preresolve_hostnames", fmt.Sprintf("DNS Cache [%s] configured with preresolve_hostnames=%d larger than max_hosts=%d", p.GetName(), n, c.MaxHosts))
	}
	if f := p.GetResolvedAddressFilter(); f != nil {
		denied, err := match.CompileCIDRs(f.GetRanges())
		if err != nil {
			return c, fmt.Errorf("resolved_address_filter.ranges%w", err)
		}
		c.Denied = denied.Contains
		if f.GetInvertMatch() {
			c.Denied = denied.Misses
		}
	}
	c.Resolver, err = cacheResolver(p)
	return c, err
}

func cacheResolver(p *cachev3.DnsCacheConfig) (dns.Resolver, error) {
	if t := p.GetTypedDnsResolverConfig(); t != nil {
		r, err := typedResolver(t)
		if err != nil {
			err = fmt.Errorf("typed_dns_resolver_config: %w", err)
		}
		return r, err
	}
	r := p.GetDnsResolutionConfig()
	o := &corev3.DnsResolverOptions{}
	if r != nil {
		o = proto.Clone(r).(*corev3.DnsResolutionConfig).GetDnsResolverOptions()
	}
	if p.GetUseTcpForDnsLookups() {
		o.UseTcpForDnsLookups = true
	}
	c, err := client(r.GetResolvers(), o)
	if err != nil {
		err = fmt.Errorf("dns_resolution_config.%w", err)
	}
	return c, err
}

// cache is a DNS cache that clusters and filters share.
type cache struct {
	*dns.Cache

	config *cachev3.DnsCacheConfig
}

// DNSCache returns the cache of a configuration, which everybody who names it must have the same of; nil has all defaults. It is there
// until the process ends. Control loop only.
func (m *Manager) DNSCache(p *cachev3.DnsCacheConfig) (*dns.Cache, error) {
	if p == nil {
		p = &cachev3.DnsCacheConfig{}
	}
	if old := m.caches[p.GetName()]; old != nil {
		if !proto.Equal(old.config, p) {
			return nil, fmt.Errorf("config specified DNS cache '%s' with different settings", p.GetName())
		}
		return old.Cache, nil
	}
	c, err := parseCache(p)
	if err != nil {
		return nil, err
	}
	m.count(c.Resolver)
	c.Scope, c.After, c.Post, c.Gate = m.env.Stats.Root().Sub("dns_cache"), m.after, m.post, &m.gate
	if n := p.GetName(); n != "" {
		c.Scope = c.Scope.Sub(strings.Trim(n, "."))
	}
	k := &cache{dns.NewCache(c), p}
	m.caches[p.GetName()] = k
	return k.Cache, nil
}
