package cluster

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	forwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	casev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/header_formatters/preserve_case/v3"
	clientv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3"
	providedv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/cluster_provided/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	awarev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/load_aware_locality/v3"
	maglevv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/maglev/v3"
	overridev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/override_host/v3"
	pickv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/pick_first/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	ringv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/ring_hash/v3"
	roundv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	subsetv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/subset/v3"
	wrrv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	getaddrinfov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/getaddrinfo/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/tcp/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden",
		&clusterv3.Cluster{}, &clusterv3.LoadBalancingPolicy{}, &clusterv3.UpstreamConnectionOptions{}, &clusterv3.TrackClusterStats{}, &clusterv3.CircuitBreakers{},
		&endpointv3.ClusterLoadAssignment{}, &endpointv3.LocalityLbEndpoints{}, &endpointv3.LbEndpoint{}, &endpointv3.Endpoint{},
		&corev3.HttpProtocolOptions{}, &corev3.Http1ProtocolOptions{}, &corev3.UpstreamHttpProtocolOptions{}, &corev3.BindConfig{}, &corev3.ExtraSourceAddress{},
		&corev3.SocketOptionsOverride{}, &corev3.TcpKeepalive{}, &corev3.SocketAddress{}, &corev3.Pipe{}, &corev3.DnsResolverOptions{}, &corev3.DnsResolutionConfig{},
		&casev3.PreserveCaseFormatterConfig{}, &httpv3.HttpProtocolOptions{}, &tcpv3.TcpProtocolOptions{}, &dnsv3.DnsCluster{}, &aggregatev3.ClusterConfig{}, &forwardv3.ClusterConfig{}, &forwardv3.SubClustersConfig{},
		&cachev3.DnsCacheConfig{}, &cachev3.DnsCacheCircuitBreakers{}, &matcherv3.AddressMatcher{},
		&roundv3.RoundRobin{}, &leastv3.LeastRequest{}, &randomv3.Random{}, &wrrv3.WrrLocality{}, &ringv3.RingHash{}, &maglevv3.Maglev{}, &pickv3.PickFirst{},
		&subsetv3.Subset{}, &overridev3.OverrideHost{}, &awarev3.LoadAwareLocality{}, &clientv3.ClientSideWeightedRoundRobin{}, &providedv3.ClusterProvided{}, &commonv3.ConsistentHashingLbConfig{}, &commonv3.LocalityLbConfig{}, &commonv3.SlowStartConfig{}, &commonv3.OrcaOobReportingConfig{},
		&caresv3.CaresDnsResolverConfig{}, &getaddrinfov3.GetAddrInfoDnsResolverConfig{},
	)
}
