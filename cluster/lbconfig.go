package cluster

import (
	"fmt"
	"math"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/internal/hashpolicy"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/lb"
)

// lbOptions say how hosts are chosen.
type lbOptions struct {
	// policy makes the policy of a version of the hosts: runtime values hold from one version to the next, as in Envoy.
	policy           func(s *runtime.Snapshot) lb.Policy
	hashing          lb.Hashing // instead of policy
	hashPolicy       hashpolicy.List
	balance          uint32 // hash_balance_factor; 0: loads are not bounded
	byHostname       bool   // use_hostname_for_hashing
	provided         bool   // by the cluster: original destination
	timed            bool   // the policy wants to know the time
	panicThreshold   uint64
	localityWeighted bool
	zone             zoneOptions
	subset           *subsetOptions
	override         *overrideOptions
	learning         learning
	statuses         [1 << 8]bool // override_host_status, by Health
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
	if common.GetConsistentHashingLbConfig().GetUseHostnameForHashing() && o.kind != strictDNS && o.kind != logicalDNS {
		return refused("common_lb_config.consistent_hashing_lb_config.use_hostname_for_hashing", "is for clusters whose hosts are found by DNS")
	}
	o.lb.panicThreshold = percent(common.GetHealthyPanicThreshold(), 50)
	o.lb.zone = zoneOptions{routing: 100, minSize: 6}
	o.closeOnHostSet = common.GetCloseConnectionsOnHostSetChange()
	o.parseStatuses(common)
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
		o.lb.zone = zoneOptions{routing: percent(z.GetRoutingEnabled(), 100), minSize: orElse64(z.GetMinClusterSize(), 6), failOnPanic: z.GetFailTrafficOnPanic()}
	}
	if err := o.namedLB(c); err != nil {
		return err
	}
	s := c.GetLbSubsetConfig()
	if s.GetLocalityWeightAware() && !o.lb.localityWeighted {
		return refused("lb_subset_config.locality_weight_aware", "Locality weight aware subset LB requires that a locality_weighted_lb_config be set")
	}
	if len(s.GetSubsetSelectors()) > 0 {
		if err := o.parseSubset(s, false); err != nil {
			return fmt.Errorf("lb_subset_config.%w", err)
		}
	}
	return o.checkLB(c)
}

// namedLB reads lb_policy and what belongs to it.
func (o *config) namedLB(c *clusterv3.Cluster) error {
	switch c.GetLbPolicy() {
	case clusterv3.Cluster_ROUND_ROBIN:
		o.roundRobin(c.GetRoundRobinLbConfig().GetSlowStartConfig())
	case clusterv3.Cluster_LEAST_REQUEST:
		l := c.GetLeastRequestLbConfig()
		o.leastRequest(lb.LeastRequest{Choices: orElse(l.GetChoiceCount(), 2)}, l.GetActiveRequestBias(), l.GetSlowStartConfig())
	case clusterv3.Cluster_RANDOM:
		o.lb.policy = func(*runtime.Snapshot) lb.Policy { return lb.Random{} }
	case clusterv3.Cluster_RING_HASH:
		l := c.GetRingHashLbConfig()
		o.consistent(c.GetCommonLbConfig().GetConsistentHashingLbConfig())
		murmur := l.GetHashFunction() == clusterv3.Cluster_RingHashLbConfig_MURMUR_HASH_2
		if err := o.ring(l.GetMinimumRingSize(), l.GetMaximumRingSize(), murmur); err != nil {
			return fmt.Errorf("ring_hash_lb_config.%w", err)
		}
	case clusterv3.Cluster_MAGLEV:
		o.consistent(c.GetCommonLbConfig().GetConsistentHashingLbConfig())
		if err := o.maglev(c.GetMaglevLbConfig().GetTableSize()); err != nil {
			return fmt.Errorf("maglev_lb_config.%w", err)
		}
	case clusterv3.Cluster_CLUSTER_PROVIDED:
		o.lb.provided = true
	case clusterv3.Cluster_LOAD_BALANCING_POLICY_CONFIG:
		return refused("lb_policy", "cluster: LB policy LOAD_BALANCING_POLICY_CONFIG needs load_balancing_policy")
	default:
		return refused("lb_policy", c.GetLbPolicy().String()+" is not known")
	}
	return nil
}

// provides says that the type of the cluster is an extension that chooses hosts itself.
func (o *config) provides() bool { return o.kind == aggregate || o.kind == forward }

// checkLB holds policy and type together.
func (o *config) checkLB(c *clusterv3.Cluster) error {
	switch {
	case o.kind == originalDst && !o.lb.provided:
		return refused("lb_policy", fmt.Sprintf("LB policy %v is not valid for Cluster type ORIGINAL_DST. Only 'CLUSTER_PROVIDED' is allowed with cluster type 'ORIGINAL_DST'", c.GetLbPolicy()))
	case o.kind == originalDst && o.lb.subset != nil:
		return refused("lb_subset_config", "cluster: LB subset_config cannot be used with cluster type ORIGINAL_DST")
	case o.provides() && !o.lb.provided:
		return refused("lb_policy", "the cluster type chooses hosts itself: only CLUSTER_PROVIDED is allowed")
	case o.provides() && o.lb.subset != nil:
		return refused("lb_subset_config", "the cluster type chooses hosts itself")
	case o.kind != originalDst && !o.provides() && o.lb.provided:
		return refused("lb_policy", "cluster: LB policy CLUSTER_PROVIDED is not valid: the cluster type provides no load balancer")
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
	if window <= 0 {
		return func(*runtime.Snapshot) lb.SlowStart { return lb.SlowStart{} }
	}
	o.lb.timed = true
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

const maxRing = 8 << 20

func (o *config) ring(least, most *wrapperspb.UInt64Value, murmur bool) error {
	r := lb.Ring{Least: orElse64(least, 1024), Most: orElse64(most, maxRing), Murmur: murmur}
	if r.Least > r.Most {
		return refused("minimum_ring_size", fmt.Sprintf("ring hash: minimum_ring_size (%d) > maximum_ring_size (%d)", r.Least, r.Most))
	}
	o.lb.hashing = r
	return nil
}

func (o *config) maglev(size *wrapperspb.UInt64Value) error {
	m := lb.Maglev{Size: orElse64(size, 65537)}
	if !prime(m.Size) {
		return refused("table_size", "The table size of maglev must be prime number")
	}
	o.lb.hashing = m
	return nil
}

func prime(n uint64) bool {
	if n < 2 || n > 2 && n%2 == 0 {
		return false
	}
	for d := uint64(3); d*d <= n; d += 2 {
		if n%d == 0 {
			return false
		}
	}
	return true
}

// consistent reads a ConsistentHashingLbConfig of either package.
func (o *config) consistent(p interface {
	GetUseHostnameForHashing() bool
	GetHashBalanceFactor() *wrapperspb.UInt32Value
},
) {
	o.lb.byHostname, o.lb.balance = p.GetUseHostnameForHashing(), p.GetHashBalanceFactor().GetValue()
}

func percent(p *typev3.Percent, absent uint64) uint64 {
	if p == nil {
		return absent
	}
	return uint64(math.Round(p.GetValue()))
}

func orElse(v *wrapperspb.UInt32Value, absent uint32) uint32 {
	if v == nil {
		return absent
	}
	return v.GetValue()
}

func orElse64(v *wrapperspb.UInt64Value, absent uint64) uint64 {
	if v == nil {
		return absent
	}
	return v.GetValue()
}
