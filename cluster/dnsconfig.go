package cluster

import (
	"errors"
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	forwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	getaddrinfov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/getaddrinfo/v3"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	"github.com/outrigger-proxy/outrigger/cluster/discovery/dns"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
)

// dnsOptions say whom to ask for names, and how often.
type dnsOptions struct {
	family                  dns.Family
	refresh, jitter, least  time.Duration
	failureBase, failureMax time.Duration
	respectTTL              bool
	resolver                dns.Resolver
}

// dnsFields are what the fields of Cluster and of DnsCluster have in common.
type dnsFields struct {
	refresh, failureBase, failureMax time.Duration
	jitter, least                    time.Duration
	hasFailure                       bool
	respectTTL                       bool
	family                           dns.Family
}

func (o *config) parseDNS(c *clusterv3.Cluster) error {
	f := dnsFields{
		refresh: duration(c.GetDnsRefreshRate(), 5*time.Second), jitter: c.GetDnsJitter().AsDuration(), respectTTL: c.GetRespectDnsTtl(),
		family: families[c.GetDnsLookupFamily().String()],
	}
	if r := c.GetDnsFailureRefreshRate(); r != nil {
		f.hasFailure, f.failureBase, f.failureMax = true, r.GetBaseInterval().AsDuration(), r.GetMaxInterval().AsDuration()
	}
	if err := o.setDNS(f); err != nil {
		return err
	}
	var err error
	switch {
	case c.GetTypedDnsResolverConfig() != nil:
		if o.dns.resolver, err = typedResolver(c.GetTypedDnsResolverConfig()); err != nil {
			return fmt.Errorf("typed_dns_resolver_config: %w", err)
		}
	case c.GetDnsResolutionConfig() != nil:
		r := c.GetDnsResolutionConfig()
		if o.dns.resolver, err = client(r.GetResolvers(), r.GetDnsResolverOptions()); err != nil {
			return fmt.Errorf("dns_resolution_config.%w", err)
		}
	case len(c.GetDnsResolvers()) > 0 || c.GetUseTcpForDnsLookups():
		if o.dns.resolver, err = client(c.GetDnsResolvers(), &corev3.DnsResolverOptions{UseTcpForDnsLookups: c.GetUseTcpForDnsLookups()}); err != nil {
			return fmt.Errorf("dns_%w", err)
		}
	}
	return nil
}

var families = map[string]dns.Family{
	"AUTO": dns.Auto, "V4_ONLY": dns.V4Only, "V6_ONLY": dns.V6Only, "V4_PREFERRED": dns.V4Preferred, "ALL": dns.All,
	"UNSPECIFIED": dns.Auto,
}

func (o *config) setDNS(f dnsFields) error {
	switch {
	case f.refresh < time.Millisecond:
		return refused("dns_refresh_rate", "must be at least 1ms")
	case f.hasFailure && f.failureBase < time.Millisecond:
		return refused("dns_failure_refresh_rate.base_interval", "must be at least 1ms")
	case f.hasFailure && f.failureMax == 0:
		f.failureMax = 10 * f.failureBase
	case f.hasFailure && f.failureMax < f.failureBase:
		return refused("dns_failure_refresh_rate", "dns_failure_refresh_rate must have max_interval greater than or equal to the base_interval")
	}
	o.dns = dnsOptions{family: f.family, refresh: f.refresh, jitter: f.jitter, least: f.least, failureBase: f.failureBase, failureMax: f.failureMax, respectTTL: f.respectTTL}
	return nil
}

// parseClusterType reads the extension form of a type.
func (o *config) parseClusterType(t *clusterv3.Cluster_CustomClusterType) error {
	m, _, err := protofile.Unpack(t.GetTypedConfig())
	if err != nil {
		return err
	}
	switch d := m.(type) {
	case *dnsv3.DnsCluster:
		return o.parseDNSCluster(d)
	case *aggregatev3.ClusterConfig:
		o.kind, o.members = aggregate, d.GetClusters()
		return nil
	case *forwardv3.ClusterConfig:
		return o.parseForward(d)
	}
	return fmt.Errorf("Didn't find a registered cluster factory implementation for name: '%s'", t.GetName())
}

func (o *config) parseDNSCluster(d *dnsv3.DnsCluster) (err error) {
	o.kind = strictDNS
	if d.GetAllAddressesInSingleEndpoint() {
		o.kind = logicalDNS
	}
	f := dnsFields{
		refresh: duration(d.GetDnsRefreshRate(), 5*time.Second), jitter: d.GetDnsJitter().AsDuration(), respectTTL: d.GetRespectDnsTtl(),
		family: families[d.GetDnsLookupFamily().String()], least: d.GetDnsMinRefreshRate().AsDuration(),
	}
	if r := d.GetDnsFailureRefreshRate(); r != nil {
		f.hasFailure, f.failureBase, f.failureMax = true, r.GetBaseInterval().AsDuration(), r.GetMaxInterval().AsDuration()
	}
	if err := o.setDNS(f); err != nil {
		return fmt.Errorf("typed_config.%w", err)
	}
	if r := d.GetTypedDnsResolverConfig(); r != nil {
		if o.dns.resolver, err = typedResolver(r); err != nil {
			return fmt.Errorf("typed_config.typed_dns_resolver_config: %w", err)
		}
	}
	return nil
}

// typedResolver makes the resolver that an extension's configuration describes.
func typedResolver(t *corev3.TypedExtensionConfig) (dns.Resolver, error) {
	m, _, err := protofile.Unpack(t.GetTypedConfig())
	if err != nil {
		return nil, err
	}
	switch r := m.(type) {
	case *caresv3.CaresDnsResolverConfig:
		return cares(r)
	case *getaddrinfov3.GetAddrInfoDnsResolverConfig:
		return dns.System{Retries: int(r.GetNumRetries().GetValue())}, nil
	}
	return nil, fmt.Errorf("didn't find a registered implementation for '%s' with type URL: '%s'", t.GetName(), t.GetTypedConfig().GetTypeUrl())
}

func cares(r *caresv3.CaresDnsResolverConfig) (dns.Resolver, error) {
	if r.GetFilterUnroutableFamilies() {
		return nil, refused("filter_unroutable_families", "is not supported yet")
	}
	c, err := client(r.GetResolvers(), r.GetDnsResolverOptions())
	if err != nil {
		return nil, err
	}
	c.Fallback, c.Rotate = r.GetUseResolversAsFallback(), r.GetRotateNameservers()
	if t := r.GetQueryTimeoutSeconds(); t != nil {
		c.Timeout = time.Duration(t.GetValue()) * time.Second
	}
	if t := r.GetQueryTries(); t != nil {
		c.Tries = int(t.GetValue())
	}
	c.UDPSize = uint16(min(r.GetEdns0MaxPayloadSize().GetValue(), 65535))
	return c, nil
}

// client makes a resolver that asks servers; without any it asks those of resolv.conf.
func client(servers []*corev3.Address, o *corev3.DnsResolverOptions) (*dns.Client, error) {
	c := &dns.Client{Timeout: 5 * time.Second, Tries: 4, TCP: o.GetUseTcpForDnsLookups(), NoSearch: o.GetNoDefaultSearchDomain()}
	for i, s := range servers {
		a, _, _, err := discovery.Address(s, false)
		if err == nil && a.Path != "" {
			err = errors.New("must be an IP address")
		}
		if err != nil {
			return nil, fmt.Errorf("resolvers[%d].%w", i, err)
		}
		c.Servers = append(c.Servers, a.AddrPort.String())
	}
	return c, nil
}
