package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/outrigger-proxy/outrigger/lb"
)

// fallback is what happens to a request that no subset is for.
type fallback uint8

const (
	nobody fallback = iota
	anybody
	defaultSubset
	fewerKeys // of a selector only
	undecided // of a selector only: the policy of all of them counts
)

// subsetOptions divide the hosts by their metadata under envoy.lb (envoy.config.cluster.v3.Cluster.LbSubsetConfig).
type subsetOptions struct {
	fallback      fallback
	standard      []lb.Criterion // default_subset
	selectors     []selector
	localityAware bool
	scale         bool // scale_locality_weight
	panicAny      bool
	listAsAny     bool
	fallbackList  bool // metadata_fallback_policy
	redundant     bool // allow_redundant_keys
}

type selector struct {
	keys     []string // sorted
	single   bool
	fallback fallback
	fewer    []string // fallback_keys_subset
}

var selectorFallback = map[clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_LbSubsetSelectorFallbackPolicy]fallback{
	clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_NOT_DEFINED:    undecided,
	clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_NO_FALLBACK:    nobody,
	clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_ANY_ENDPOINT:   anybody,
	clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_DEFAULT_SUBSET: defaultSubset,
	clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_KEYS_SUBSET:    fewerKeys,
}

func (o *config) parseSubset(p *clusterv3.Cluster_LbSubsetConfig, redundant bool) error {
	s := &subsetOptions{
		fallback: fallback(p.GetFallbackPolicy()), standard: lb.Criteria(p.GetDefaultSubset().AsMap()), localityAware: p.GetLocalityWeightAware(),
		scale: p.GetScaleLocalityWeight(), panicAny: p.GetPanicModeAny(), listAsAny: p.GetListAsAny(), redundant: redundant,
		fallbackList: p.GetMetadataFallbackPolicy() == clusterv3.Cluster_LbSubsetConfig_FALLBACK_LIST,
	}
	for i, l := range p.GetSubsetSelectors() {
		sel := selector{
			keys: slices.Compact(slices.Sorted(slices.Values(l.GetKeys()))), single: l.GetSingleHostPerSubset(),
			fewer: l.GetFallbackKeysSubset(), fallback: selectorFallback[l.GetFallbackPolicy()],
		}
		if err := sel.check(); err != nil {
			return fmt.Errorf("subset_selectors[%d].%w", i, err)
		}
		s.selectors = append(s.selectors, sel)
	}
	if redundant { // the one with the most keys counts
		slices.SortStableFunc(s.selectors, func(a, b selector) int { return len(b.keys) - len(a.keys) })
	}
	seen := map[string]bool{}
	for i := range s.selectors {
		s.selectors[i].settle(seen)
	}
	o.lb.subset = s
	return nil
}

// settle leaves a selector without a policy of its own if one before it begins with the same keys, as in Envoy.
func (s *selector) settle(seen map[string]bool) {
	if seen[strings.Join(s.keys, "\x00")] {
		s.fallback = undecided
	}
	for n := range s.keys {
		seen[strings.Join(s.keys[:n+1], "\x00")] = true
	}
}

func (s *selector) check() error {
	switch {
	case s.single && len(s.keys) != 1:
		return refused("single_host_per_subset", "requires that there is only one key")
	case s.fallback == fewerKeys:
		if err := s.checkFewer(); err != nil {
			return fmt.Errorf("fallback_keys_subset: %w", err)
		}
	case len(s.fewer) > 0:
		return refused("fallback_keys_subset", "can be set only for KEYS_SUBSET fallback_policy")
	}
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
