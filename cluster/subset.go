package cluster

import (
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/outrigger-proxy/outrigger/lb"
)

// fallback is what happens to a request that no subset is for.
type fallback uint8

const (
	nobody fallback = iota
	anybody
	defaultSubset
	fewerKeys
)

// subsetOptions divide the hosts by their metadata under envoy.lb (envoy.config.cluster.v3.Cluster.LbSubsetConfig).
type subsetOptions struct {
	fallback      fallback
	standard      []lb.Criterion // default_subset
	selectors     []selector
	localityAware bool
	panicAny      bool
	listAsAny     bool
	seed          maphash.Seed
}

type selector struct {
	keys     []string // sorted
	single   bool
	fallback fallback
	fewer    []string // fallback_keys_subset
}

func (o *config) parseSubset(p *clusterv3.Cluster_LbSubsetConfig) error {
	s := &subsetOptions{
		fallback: fallback(p.GetFallbackPolicy()), standard: lb.Criteria(p.GetDefaultSubset().AsMap()), localityAware: p.GetLocalityWeightAware(),
		panicAny: p.GetPanicModeAny(), listAsAny: p.GetListAsAny(), seed: maphash.MakeSeed(),
	}
	switch {
	case p.GetScaleLocalityWeight():
		return refused("scale_locality_weight", "is not supported yet")
	case p.GetMetadataFallbackPolicy() != clusterv3.Cluster_LbSubsetConfig_METADATA_NO_FALLBACK:
		return refused("metadata_fallback_policy", "is not supported yet")
	case s.localityAware && !o.lb.localityWeighted:
		return refused("locality_weight_aware", "Locality weight aware subset LB requires that a locality_weighted_lb_config be set")
	}
	for i, l := range p.GetSubsetSelectors() {
		sel := selector{keys: slices.Sorted(slices.Values(l.GetKeys())), single: l.GetSingleHostPerSubset(), fewer: l.GetFallbackKeysSubset(), fallback: s.fallback}
		switch l.GetFallbackPolicy() {
		case clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_NO_FALLBACK:
			sel.fallback = nobody
		case clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_ANY_ENDPOINT:
			sel.fallback = anybody
		case clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_DEFAULT_SUBSET:
			sel.fallback = defaultSubset
		case clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_KEYS_SUBSET:
			sel.fallback = fewerKeys
			if err := sel.checkFewer(); err != nil {
				return fmt.Errorf("subset_selectors[%d].fallback_keys_subset: %w", i, err)
			}
		}
		if sel.single && len(sel.keys) != 1 {
			return refused(fmt.Sprintf("subset_selectors[%d].single_host_per_subset", i), "requires that there is only one key")
		}
		s.selectors = append(s.selectors, sel)
	}
	o.lb.subset = s
	return nil
}

func (s *selector) checkFewer() error {
	if len(s.fewer) == 0 {
		return errors.New("fallback_keys_subset cannot be empty")
	}
	for _, k := range s.fewer {
		if !slices.Contains(s.keys, k) {
			return errors.New("fallback_keys_subset must be a subset of selector keys")
		}
	}
	if len(s.fewer) >= len(s.keys) {
		return errors.New("fallback_keys_subset cannot be equal to keys")
	}
	return nil
}

// subsets are the subsets of a version of the hosts.
type subsets struct {
	o        *subsetOptions
	byHash   map[uint64]*group
	standard *hosts
}

// group is a subset; its hosts are a version like that of all of them.
type group struct {
	criteria []lb.Criterion
	hosts    *hosts
}

func (o *subsetOptions) hash(criteria []lb.Criterion) uint64 {
	var h maphash.Hash
	h.SetSeed(o.seed)
	for _, c := range criteria {
		_, _ = h.WriteString(c.Key)
		_ = h.WriteByte(0)
		_, _ = h.WriteString(c.Value)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

func (o *subsetOptions) build(c *Cluster, v *hosts, weights map[place]uint32) *subsets {
	s := &subsets{o: o, byHash: map[uint64]*group{}}
	members := map[uint64][]*Host{}
	for _, sel := range o.selectors {
		for _, h := range v.list {
			for _, criteria := range o.combinations(h, sel.keys) {
				id := o.hash(criteria)
				if s.byHash[id] == nil {
					s.byHash[id] = &group{criteria: criteria}
				}
				if !slices.Contains(members[id], h) && (!sel.single || len(members[id]) == 0) {
					members[id] = append(members[id], h)
				}
			}
		}
	}
	if !o.localityAware {
		weights = nil
	}
	for id, l := range members {
		s.byHash[id].hosts = v.part(l, weights, c)
	}
	s.standard = v.part(slices.DeleteFunc(slices.Clone(v.list), func(h *Host) bool { return !o.matches(h, o.standard) }), weights, c)
	s.count(c)
	return s
}

func (s *subsets) count(c *Cluster) {
	before := map[uint64]*group{}
	if old := c.hosts.Load().subsets; old != nil {
		before = old.byHash
	}
	for id := range s.byHash {
		if before[id] == nil {
			c.Stats.SubsetsCreated.Inc()
		}
	}
	for id := range before {
		if s.byHash[id] == nil {
			c.Stats.SubsetsRemoved.Inc()
		}
	}
	c.Stats.SubsetsActive.Set(int64(len(s.byHash)))
}

// part is a version with some of the hosts; priorities keep their numbers.
func (v *hosts) part(l []*Host, weights map[place]uint32, c *Cluster) *hosts {
	p := &hosts{
		list: l, policy: v.policy, overprovisioning: v.overprovisioning, weighted: v.weighted, threshold: v.threshold,
		priorities: arrange(l, weights, c.m.env.Locality),
	}
	p.load = distribute(p.priorities, p.overprovisioning, p.weighted, p.threshold, 0)
	return p
}

// combinations are the subsets by keys that h is in: one, or with list_as_any one for each element of a list.
func (o *subsetOptions) combinations(h *Host, keys []string) [][]lb.Criterion {
	all := [][]lb.Criterion{nil}
	for _, k := range keys {
		v, ok := h.Metadata["envoy.lb"][k]
		if !ok {
			return nil
		}
		var next [][]lb.Criterion
		for _, one := range o.values(v) {
			for _, c := range all {
				next = append(next, append(slices.Clip(c), lb.Criterion{Key: k, Value: one}))
			}
		}
		all = next
	}
	return all
}

func (o *subsetOptions) values(v any) (l []string) {
	if list, ok := v.([]any); ok && o.listAsAny {
		for _, e := range list {
			l = append(l, lb.Canonical(e))
		}
		return l
	}
	return []string{lb.Canonical(v)}
}

func (o *subsetOptions) matches(h *Host, criteria []lb.Criterion) bool {
	for _, c := range criteria {
		v, ok := h.Metadata["envoy.lb"][c.Key]
		if !ok || !slices.Contains(o.values(v), c.Value) {
			return false
		}
	}
	return true
}

// subset picks from the subset that the criteria name.
func (b *balancer) subset(c *Cluster, r lb.Request) *Host {
	s := b.hosts.subsets
	policy := s.o.fallback
	if len(r.Match) > 0 {
		if g := s.byHash[s.o.hash(r.Match)]; g != nil && slices.Equal(g.criteria, r.Match) {
			if h := b.of(g.hosts).pick(c, r); h != nil {
				c.Stats.SubsetsSelected.Inc()
				return h
			}
		}
		if sel := s.selector(r.Match); sel != nil {
			if policy = sel.fallback; policy == fewerKeys {
				r.Match = slices.DeleteFunc(slices.Clone(r.Match), func(m lb.Criterion) bool { return !slices.Contains(sel.fewer, m.Key) })
				return b.subset(c, r)
			}
		}
	}
	var h *Host
	switch policy {
	case anybody:
		h = b.pick(c, r)
	case defaultSubset:
		h = b.of(s.standard).pick(c, r)
	}
	if h != nil {
		c.Stats.SubsetsFallback.Inc()
	} else if s.o.panicAny {
		if h = b.pick(c, r); h != nil {
			c.Stats.SubsetsFallbackPanic.Inc()
		}
	}
	return h
}

func (s *subsets) selector(criteria []lb.Criterion) *selector {
	for i := range s.o.selectors {
		if slices.EqualFunc(s.o.selectors[i].keys, criteria, func(k string, c lb.Criterion) bool { return k == c.Key }) {
			return &s.o.selectors[i]
		}
	}
	return nil
}

// of returns the worker's balancer of a subset.
func (b *balancer) of(v *hosts) *balancer {
	sub := b.subsets[v]
	if sub == nil {
		if b.subsets == nil {
			b.subsets = map[*hosts]*balancer{}
		}
		sub = newBalancer(v, b.seed, nil)
		b.subsets[v] = sub
	}
	return sub
}
