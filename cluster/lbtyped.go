package cluster

import (
	"fmt"
	"math"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
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
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/internal/hashpolicy"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/lb"
)

// typedLB takes the first policy of the list that we know.
func (o *config) typedLB(p *clusterv3.LoadBalancingPolicy) error {
	var names []string
	for i, t := range p.GetPolicies() {
		e := t.GetTypedExtensionConfig()
		names = append(names, e.GetName())
		known, err := o.own(e.GetTypedConfig())
		if !known {
			m, _, unknown := protofile.Unpack(e.GetTypedConfig())
			if unknown != nil {
				continue // a message that we have never heard of is a policy that we do not know
			}
			known, err = o.typed(m)
		}
		if err != nil {
			return fmt.Errorf("policies[%d].typed_extension_config.typed_config.%w", i, err)
		}
		if known {
			return nil
		}
	}
	return refused("policies", fmt.Sprintf("didn't find a registered load balancer factory implementation for cluster: '%s' with names from %q", o.name, names))
}

func (o *config) typed(m proto.Message) (known bool, err error) {
	switch p := m.(type) {
	case *roundv3.RoundRobin:
		o.roundRobin(p.GetSlowStartConfig())
		o.locality(p.GetLocalityLbConfig())
	case *leastv3.LeastRequest:
		policy := lb.LeastRequest{Choices: orElse(p.GetChoiceCount(), 2), FullScan: p.GetSelectionMethod() == leastv3.LeastRequest_FULL_SCAN || p.GetEnableFullScan().GetValue()}
		o.leastRequest(policy, p.GetActiveRequestBias(), p.GetSlowStartConfig())
		o.locality(p.GetLocalityLbConfig())
	case *randomv3.Random:
		o.lb.policy = func(*runtime.Snapshot) lb.Policy { return lb.Random{} }
		o.locality(p.GetLocalityLbConfig())
	case *pickv3.PickFirst:
		policy := lb.PickFirst{Shuffle: p.GetShuffleAddressList()}
		o.lb.policy = func(*runtime.Snapshot) lb.Policy { return policy }
	case *ringv3.RingHash:
		return true, o.typedRing(p)
	case *maglevv3.Maglev:
		o.lb.localityWeighted = p.GetLocalityWeightedLbConfig() != nil
		if err := o.typedConsistent(p.GetConsistentHashingLbConfig()); err != nil {
			return true, err
		}
		return true, o.maglev(p.GetTableSize())
	case *providedv3.ClusterProvided:
		o.lb.provided = true
	case *clientv3.ClientSideWeightedRoundRobin:
		return true, o.clientWeighted(p)
	case *wrrv3.WrrLocality:
		if err := o.typedLB(p.GetEndpointPickingPolicy()); err != nil {
			return true, fmt.Errorf("endpoint_picking_policy.%w", err)
		}
		if o.lb.learning.orca == nil {
			return true, refused("endpoint_picking_policy", "WrrLocality takes no policy but ClientSideWeightedRoundRobin, as in Envoy")
		}
		o.lb.localityWeighted = true
	case *awarev3.LoadAwareLocality:
		return true, o.loadAware(p)
	case *subsetv3.Subset:
		return true, o.typedSubset(p)
	case *overridev3.OverrideHost:
		return true, o.overrideHost(p)
	default:
		return false, nil
	}
	return true, nil
}

func (o *config) typedRing(p *ringv3.RingHash) error {
	o.lb.localityWeighted = p.GetLocalityWeightedLbConfig() != nil
	if c := p.GetConsistentHashingLbConfig(); c == nil {
		o.consistent(p) // the deprecated fields
	} else if err := o.typedConsistent(c); err != nil {
		return err
	}
	return o.ring(p.GetMinimumRingSize(), p.GetMaximumRingSize(), p.GetHashFunction() == ringv3.RingHash_MURMUR_HASH_2)
}

func (o *config) typedConsistent(p *commonv3.ConsistentHashingLbConfig) error {
	o.consistent(p)
	l, err := hashpolicy.Compile(p.GetHashPolicy())
	if err != nil {
		return fmt.Errorf("consistent_hashing_lb_config.hash_policy%w", err)
	}
	if len(l) > 0 {
		o.lb.hashPolicy = l
	}
	return nil
}

func (o *config) clientWeighted(p *clientv3.ClientSideWeightedRoundRobin) (err error) {
	if p.GetEnableOobLoadReport().GetValue() {
		if o.lb.learning.stream, err = parseOutOfBand(p); err != nil {
			return err
		}
	}
	o.lb.learning.orca = &lb.Orca{
		Blackout:   duration(p.GetBlackoutPeriod(), 10*time.Second),
		Expiration: duration(p.GetWeightExpirationPeriod(), 3*time.Minute),
		Penalty:    float64(p.GetErrorUtilizationPenalty().GetValue()), // 0 where it is not set, whatever its comment says
		Metrics:    p.GetMetricNamesForComputingUtilization(),
	}
	o.lb.learning.period = max(duration(p.GetWeightUpdatePeriod(), time.Second), 100*time.Millisecond)
	slow := o.slowStart(p.GetSlowStartConfig())
	o.lb.policy = func(s *runtime.Snapshot) lb.Policy { return lb.RoundRobin{SlowStart: slow(s), Reported: true} }
	return nil
}

func (o *config) loadAware(p *awarev3.LoadAwareLocality) error {
	switch {
	case o.lb.subset != nil || o.lb.learning.areas != nil:
		return refused("endpoint_picking_policy", "a load_aware_locality policy within another or within subset is not supported")
	}
	l := &o.lb.learning
	if p.GetEnableOobLoadReport().GetValue() {
		stream, err := parseOutOfBand(p)
		if err != nil {
			return err
		}
		l.stream = stream
	}
	l.period = duration(p.GetWeightUpdatePeriod(), time.Second)
	smoothing := duration(p.GetSmoothingTimeConstant(), 5*time.Second)
	l.areas = &lb.LoadAware{
		Metrics: p.GetMetricNamesForComputingUtilization(), Expiration: duration(p.GetWeightExpirationPeriod(), 3*time.Minute),
		Threshold: double(p.GetUtilizationVarianceThreshold(), .1), Probe: double(p.GetRemoteProbeFraction(), .03),
		Alpha: 1 - math.Exp(-float64(l.period)/float64(smoothing)),
	}
	if err := o.typedLB(p.GetEndpointPickingPolicy()); err != nil {
		return fmt.Errorf("endpoint_picking_policy.%w", err)
	}
	if l.orca != nil || o.lb.subset != nil {
		return refused("endpoint_picking_policy", "client_side_weighted_round_robin and subset are not supported within load_aware_locality")
	}
	return nil
}

func double(v *wrapperspb.DoubleValue, absent float64) float64 {
	if v == nil {
		return absent
	}
	return v.GetValue()
}

func (o *config) typedSubset(p *subsetv3.Subset) error {
	if o.lb.subset != nil {
		return refused("subset_lb_policy", "a subset policy within another is not supported")
	}
	s := &clusterv3.Cluster_LbSubsetConfig{
		FallbackPolicy: clusterv3.Cluster_LbSubsetConfig_LbSubsetFallbackPolicy(p.GetFallbackPolicy()), DefaultSubset: p.GetDefaultSubset(),
		LocalityWeightAware: p.GetLocalityWeightAware(), ScaleLocalityWeight: p.GetScaleLocalityWeight(), PanicModeAny: p.GetPanicModeAny(), ListAsAny: p.GetListAsAny(),
		MetadataFallbackPolicy: clusterv3.Cluster_LbSubsetConfig_LbSubsetMetadataFallbackPolicy(p.GetMetadataFallbackPolicy()),
	}
	for _, l := range p.GetSubsetSelectors() {
		s.SubsetSelectors = append(s.SubsetSelectors, &clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector{
			Keys: l.GetKeys(), SingleHostPerSubset: l.GetSingleHostPerSubset(), FallbackKeysSubset: l.GetFallbackKeysSubset(),
			FallbackPolicy: clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_LbSubsetSelectorFallbackPolicy(l.GetFallbackPolicy()),
		})
	}
	if err := o.parseSubset(s, p.GetAllowRedundantKeys()); err != nil {
		return err
	}
	if err := o.typedLB(p.GetSubsetLbPolicy()); err != nil {
		return fmt.Errorf("subset_lb_policy.%w", err)
	}
	return nil
}

func (o *config) locality(p *commonv3.LocalityLbConfig) {
	o.lb.localityWeighted = p.GetLocalityWeightedLbConfig() != nil
	z := p.GetZoneAwareLbConfig()
	if z == nil {
		return
	}
	o.lb.zone = zoneOptions{
		routing: percent(z.GetRoutingEnabled(), 100), minSize: orElse64(z.GetMinClusterSize(), 6), failOnPanic: z.GetFailTrafficOnPanic(),
		forceLocal: z.GetForceLocalZone() != nil || z.GetForceLocalityDirectRouting(), forceMin: orElse(z.GetForceLocalZone().GetMinSize(), 1),
		byWeight: z.GetLocalityBasis() == commonv3.LocalityLbConfig_ZoneAwareLbConfig_HEALTHY_HOSTS_WEIGHT,
	}
}
