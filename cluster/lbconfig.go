package cluster

import (
	"fmt"
	"math"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	csv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3"
	providedv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/cluster_provided/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	maglevv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/maglev/v3"
	overridev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/override_host/v3"
	pickv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/pick_first/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	ringv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/ring_hash/v3"
	roundv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	subsetv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/subset/v3"
	wrrv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/lb"
)

// lbOptions say how hosts are chosen.
type lbOptions struct {
	// policy makes the policy of a version of the hosts: runtime values hold from one version to the next, as in Envoy.
	policy           func(s *runtime.Snapshot) lb.Policy
	provided         bool // by the cluster: original destination
	slowStart        bool
	panicThreshold   uint64
	localityWeighted bool
	zone             zoneOptions
	subset           *subsetOptions
}

// zoneOptions are those of zone-aware routing, which only happens where local_cluster_name is set.
type zoneOptions struct {
	routing     uint64 // percent
	minSize     uint64
	failOnPanic bool
	forceLocal  bool
	forceMin    uint32
	byWeight    bool
}

func (o *config) parseLB(c *clusterv3.Cluster) error {
	common := c.GetCommonLbConfig()
	o.lb.panicThreshold = percent(common.GetHealthyPanicThreshold(), 50)
	o.lb.zone = zoneOptions{routing: 100, minSize: 6}
	o.closeOnHostSet = common.GetCloseConnectionsOnHostSetChange()
	if p := c.GetLoadBalancingPolicy(); p != nil {
		if common.GetZoneAwareLbConfig() != nil || common.GetLocalityWeightedLbConfig() != nil || common.GetConsistentHashingLbConfig() != nil || c.GetLbSubsetConfig() != nil {
			return refused("load_balancing_policy", "cannot be combined with partial fields (zone_aware_lb_config, locality_weighted_lb_config, consistent_hashing_lb_config) of common_lb_config or lb_subset_config")
		}
		if err := o.typedLB(p); err != nil {
			return fmt.Errorf("load_balancing_policy.%w", err)
		}
		return o.checkLB(c)
	}
	o.lb.localityWeighted = common.GetLocalityWeightedLbConfig() != nil
	if z := common.GetZoneAwareLbConfig(); z != nil {
		o.lb.zone = zoneOptions{routing: percent(z.GetRoutingEnabled(), 100), minSize: 6, failOnPanic: z.GetFailTrafficOnPanic()}
		if m := z.GetMinClusterSize(); m != nil {
			o.lb.zone.minSize = m.GetValue()
		}
	}
	switch c.GetLbPolicy() {
	case clusterv3.Cluster_ROUND_ROBIN:
		o.roundRobin(c.GetRoundRobinLbConfig().GetSlowStartConfig())
	case clusterv3.Cluster_LEAST_REQUEST:
		l := c.GetLeastRequestLbConfig()
		choices := uint32(2)
		if n := l.GetChoiceCount(); n != nil {
			choices = n.GetValue()
		}
		o.leastRequest(lb.LeastRequest{Choices: choices}, l.GetActiveRequestBias(), l.GetSlowStartConfig())
	case clusterv3.Cluster_RANDOM:
		o.lb.policy = func(*runtime.Snapshot) lb.Policy { return lb.Random{} }
	case clusterv3.Cluster_CLUSTER_PROVIDED:
		o.lb.provided = true
	case clusterv3.Cluster_LOAD_BALANCING_POLICY_CONFIG:
		return refused("lb_policy", "cluster: LB policy LOAD_BALANCING_POLICY_CONFIG needs load_balancing_policy")
	default:
		return refused("lb_policy", c.GetLbPolicy().String()+" is not supported yet")
	}
	if s := c.GetLbSubsetConfig(); s != nil && len(s.GetSubsetSelectors()) > 0 {
		if err := o.parseSubset(s); err != nil {
			return fmt.Errorf("lb_subset_config.%w", err)
		}
	}
	return o.checkLB(c)
}

// checkLB holds policy and type together.
func (o *config) checkLB(c *clusterv3.Cluster) error {
	switch {
	case o.kind == originalDst && !o.lb.provided:
		return refused("lb_policy", fmt.Sprintf("LB policy %v is not valid for Cluster type ORIGINAL_DST. Only 'CLUSTER_PROVIDED' is allowed with cluster type 'ORIGINAL_DST'", c.GetLbPolicy()))
	case o.kind == originalDst && o.lb.subset != nil:
		return refused("lb_subset_config", "cluster: LB subset_config cannot be used with cluster type ORIGINAL_DST")
	case o.kind != originalDst && o.lb.provided:
		return refused("lb_policy", "cluster: LB policy CLUSTER_PROVIDED is not valid: the cluster type provides no load balancer")
	}
	return nil
}

// typedLB takes the first policy of the list that we know.
func (o *config) typedLB(p *clusterv3.LoadBalancingPolicy) error {
	var names []string
	for i, t := range p.GetPolicies() {
		names = append(names, t.GetTypedExtensionConfig().GetName())
		m, _, err := protofile.Unpack(t.GetTypedExtensionConfig().GetTypedConfig())
		if err != nil {
			continue // a message that we have never heard of is a policy that we do not know
		}
		known, err := o.typed(m)
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
		return true, o.locality(p.GetLocalityLbConfig())
	case *leastv3.LeastRequest:
		policy := lb.LeastRequest{Choices: 2, FullScan: p.GetSelectionMethod() == leastv3.LeastRequest_FULL_SCAN || p.GetEnableFullScan().GetValue()}
		if n := p.GetChoiceCount(); n != nil {
			policy.Choices = n.GetValue()
		}
		o.leastRequest(policy, p.GetActiveRequestBias(), p.GetSlowStartConfig())
		return true, o.locality(p.GetLocalityLbConfig())
	case *randomv3.Random:
		o.lb.policy = func(*runtime.Snapshot) lb.Policy { return lb.Random{} }
		return true, o.locality(p.GetLocalityLbConfig())
	case *providedv3.ClusterProvided:
		o.lb.provided = true
		return true, nil
	case *wrrv3.WrrLocality:
		if err := o.typedLB(p.GetEndpointPickingPolicy()); err != nil {
			return true, fmt.Errorf("endpoint_picking_policy.%w", err)
		}
		o.lb.localityWeighted = true
		return true, nil
	case *ringv3.RingHash, *maglevv3.Maglev, *csv3.ClientSideWeightedRoundRobin, *overridev3.OverrideHost, *subsetv3.Subset, *pickv3.PickFirst:
		return false, nil // Envoy knows them, we do not yet: the next of the list has its turn
	}
	return false, nil
}

func (o *config) locality(p *commonv3.LocalityLbConfig) error {
	o.lb.localityWeighted = p.GetLocalityWeightedLbConfig() != nil
	z := p.GetZoneAwareLbConfig()
	if z == nil {
		if p == nil { // a typed policy without a locality configuration does not look at zones
			o.lb.zone.routing = 0
		}
		return nil
	}
	o.lb.zone = zoneOptions{
		routing: percent(z.GetRoutingEnabled(), 100), minSize: 6, failOnPanic: z.GetFailTrafficOnPanic(),
		forceLocal: z.GetForceLocalZone() != nil || z.GetForceLocalityDirectRouting(), forceMin: 1,
		byWeight: z.GetLocalityBasis() == commonv3.LocalityLbConfig_ZoneAwareLbConfig_HEALTHY_HOSTS_WEIGHT,
	}
	if m := z.GetMinClusterSize(); m != nil {
		o.lb.zone.minSize = m.GetValue()
	}
	if m := z.GetForceLocalZone().GetMinSize(); m != nil {
		o.lb.zone.forceMin = m.GetValue()
	}
	return nil
}

// slowStarts is a SlowStartConfig of either package.
type slowStarts interface {
	GetSlowStartWindow() *durationpb.Duration
	GetAggression() *corev3.RuntimeDouble
	GetMinWeightPercent() *typev3.Percent
}

func (o *config) slowStart(p slowStarts) func(s *runtime.Snapshot) lb.SlowStart {
	window := p.GetSlowStartWindow().AsDuration()
	if o.lb.slowStart = window > 0; !o.lb.slowStart {
		return func(*runtime.Snapshot) lb.SlowStart { return lb.SlowStart{} }
	}
	least := .1
	if m := p.GetMinWeightPercent(); m != nil {
		least = m.GetValue() / 100
	}
	aggression := runtime.CompileDouble(p.GetAggression(), 1)
	return func(s *runtime.Snapshot) lb.SlowStart {
		return lb.SlowStart{Window: window.Truncate(time.Millisecond), Aggression: aggression.Value(s), Least: least}
	}
}

func (o *config) roundRobin(p slowStarts) {
	slow := o.slowStart(p)
	o.lb.policy = func(s *runtime.Snapshot) lb.Policy { return lb.RoundRobin{SlowStart: slow(s)} }
}

func (o *config) leastRequest(l lb.LeastRequest, bias *corev3.RuntimeDouble, p slowStarts) {
	slow, b := o.slowStart(p), runtime.CompileDouble(bias, 1)
	o.lb.policy = func(s *runtime.Snapshot) lb.Policy {
		if l.Bias = b.Value(s); l.Bias < 0 || math.IsNaN(l.Bias) { // as Envoy: an invalid bias is 1
			l.Bias = 1
		}
		l.SlowStart = slow(s)
		return l
	}
}

func percent(p *typev3.Percent, absent uint64) uint64 {
	if p == nil {
		return absent
	}
	return uint64(math.Round(p.GetValue()))
}
