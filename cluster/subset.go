package cluster

import (
	"math"
	"slices"

	"github.com/outrigger-proxy/outrigger/lb"
)

// subsets are the subsets of a version of the hosts.
type subsets struct {
	o        *subsetOptions
	byHash   map[uint64]*group
	anybody  *hosts
	standard *hosts
}

// group is a subset; its hosts are a version like that of all of them.
type group struct {
	criteria []lb.Criterion
	members  []*Host
	hosts    *hosts
	single   *Host // single_host_per_subset: the only one, whatever its health
}

func (o *subsetOptions) build(c *Cluster, v, before *hosts, weights map[place]uint32) *subsets {
	s := &subsets{o: o, byHash: map[uint64]*group{}}
	duplicates := 0
	for i := range o.selectors {
		duplicates += s.divide(v.list, &o.selectors[i])
	}
	c.Stats.SubsetsDuplicate.Set(int64(duplicates))
	old := &subsets{byHash: map[uint64]*group{}}
	if before.subsets != nil {
		old = before.subsets
	}
	p := part{c, v, weights}
	for id, g := range s.byHash {
		if g.single == nil {
			g.hosts = p.build(g.members, old.at(id))
		}
	}
	s.anybody = p.build(v.list, old.anybody)
	s.standard = p.build(slices.DeleteFunc(slices.Clone(v.list), func(h *Host) bool { return !o.matches(h, o.standard) }), old.standard)
	s.count(c, old)
	return s
}

func (s *subsets) at(id uint64) *hosts {
	if g := s.byHash[id]; g != nil {
		return g.hosts
	}
	return nil
}

// divide makes the subsets of a selector. It says how many hosts were left out of subsets that have one already.
func (s *subsets) divide(list []*Host, sel *selector) (duplicates int) {
	for _, h := range list {
		for _, criteria := range s.o.combinations(h, sel.keys) {
			g := s.group(criteria)
			switch {
			case sel.single && g.single == nil && g.members == nil:
				g.single = h
			case g.single != nil:
				duplicates++
				if h.Priority < g.single.Priority {
					g.single = h
				}
			case !slices.Contains(g.members, h):
				g.members = append(g.members, h)
			}
		}
	}
	return duplicates
}

// group finds a subset, or makes it.
func (s *subsets) group(criteria []lb.Criterion) *group {
	id := sum(criteria)
	for ; s.byHash[id] != nil; id++ {
		if slices.Equal(s.byHash[id].criteria, criteria) {
			return s.byHash[id]
		}
	}
	g := &group{criteria: criteria}
	s.byHash[id] = g
	return g
}

func sum(criteria []lb.Criterion) (id uint64) {
	for i := range criteria {
		id += criteria[i].Hash()
	}
	return id
}

// count counts each subset once for each worker and once more, as Envoy does, where each of them and the main thread has its own.
func (s *subsets) count(c *Cluster, before *subsets) {
	own := c.balancerCount()
	for id := range s.byHash {
		if before.byHash[id] == nil {
			c.Stats.SubsetsCreated.Add(own)
		}
	}
	for id := range before.byHash {
		if s.byHash[id] == nil {
			c.Stats.SubsetsRemoved.Add(own)
		}
	}
	c.Stats.SubsetsActive.Set(int64(len(s.byHash)) * int64(own))
}

// part makes versions with some of the hosts of another; priorities keep their numbers.
type part struct {
	c       *Cluster
	whole   *hosts
	weights map[place]uint32
}

func (p part) build(l []*Host, before *hosts) *hosts {
	o, weights := p.c.config.lb.subset, p.weights
	aware := o != nil && o.localityAware
	if !aware {
		weights = nil
	}
	w := p.whole
	v := &hosts{
		list: l, policy: w.policy, overprovisioning: w.overprovisioning, weighted: w.weighted, threshold: w.threshold,
		priorities: arrange(l, weights, p.c.m.env.Locality),
	}
	if aware && o.scale {
		v.scale(w)
	}
	p.c.finish(v, before, weights == nil)
	return v
}

// scale gives localities a share of their weight: as much as they have of their hosts.
func (v *hosts) scale(whole *hosts) {
	for i := range v.priorities {
		for l := range v.priorities[i].localities {
			part := &v.priorities[i].localities[l]
			at := slices.IndexFunc(whole.priorities[i].localities, func(w locality) bool { return w.name == part.name })
			all := whole.priorities[i].localities[at].sets[everybody]
			part.weight = uint32(math.Round(float64(float32(uint64(part.weight)*uint64(len(part.sets[everybody])))) / float64(len(all))))
		}
	}
}

// combinations are the subsets by keys that h is in: one, or with list_as_any one for each element of a list.
func (o *subsetOptions) combinations(h *Host, keys []string) [][]lb.Criterion {
	var all [][]lb.Criterion
	for _, k := range keys {
		v, ok := h.Metadata["envoy.lb"][k]
		if !ok {
			return nil
		}
		if len(all) == 0 { // also behind an empty list, as in Envoy
			all = [][]lb.Criterion{nil}
		}
		var next [][]lb.Criterion
		for _, one := range o.values(v) {
			for _, c := range all {
				next = append(next, append(slices.Clip(c), lb.NewCriterion(k, one)))
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

// subset picks from the subset that the criteria name, or those of the fallback list, one after the other.
func (b *balancer) subset(c *Cluster, r *lb.Request) *Host {
	if !b.hosts.subsets.o.fallbackList || r.Fallbacks == nil {
		return b.choose(c, r, every(r.Match))
	}
	for _, m := range r.Fallbacks {
		r.Match = m
		if h := b.choose(c, r, every(m)); h != nil {
			return h
		}
	}
	return nil
}

// some says which of the criteria of a request count: bit i is for the i-th.
type some uint64

func every(criteria []lb.Criterion) some { return 1<<min(len(criteria), 64) - 1 }

// choose asks the subset that the criteria name. If there is none it is up to the fallback policies.
func (b *balancer) choose(c *Cluster, r *lb.Request, use some) *Host {
	s := b.hosts.subsets
	if s.o.redundant {
		use = s.o.reduce(r.Match, use)
	}
	if use != 0 {
		if g := s.find(r.Match, use); g != nil {
			c.Stats.SubsetsSelected.Inc()
			if g.single != nil {
				return g.single
			}
			return b.of(g.hosts).pick(c, r)
		}
		if sel := s.o.selector(r.Match, use); sel != nil && sel.fallback != undecided {
			return b.selected(c, r, sel, use)
		}
	}
	h := b.fallBack(c, r, s.o.fallback)
	switch {
	case h != nil:
		c.Stats.SubsetsFallback.Inc()
	case s.o.panicAny && s.o.fallback != nobody:
		if h = b.of(s.anybody).pick(c, r); h != nil {
			c.Stats.SubsetsFallbackPanic.Inc()
		}
	}
	return h
}

// selected does what the policy of a selector says.
func (b *balancer) selected(c *Cluster, r *lb.Request, sel *selector, use some) *Host {
	if sel.fallback != fewerKeys {
		return b.fallBack(c, r, sel.fallback)
	}
	fewer := some(0)
	for i := range min(len(r.Match), 64) {
		if use>>i&1 != 0 && slices.Contains(sel.fewer, r.Match[i].Key) {
			fewer |= 1 << i
		}
	}
	return b.choose(c, r, fewer)
}

func (b *balancer) fallBack(c *Cluster, r *lb.Request, f fallback) *Host {
	switch f {
	case anybody:
		return b.of(b.hosts.subsets.anybody).pick(c, r)
	case defaultSubset:
		return b.of(b.hosts.subsets.standard).pick(c, r)
	}
	return nil
}

// find looks a subset up.
func (s *subsets) find(match []lb.Criterion, use some) *group {
	id := uint64(0)
	for i := range min(len(match), 64) {
		if use>>i&1 != 0 {
			id += match[i].Hash()
		}
	}
	for g := s.byHash[id]; g != nil; g = s.byHash[id] {
		if equal(g.criteria, match, use) {
			return g
		}
		id++
	}
	return nil
}

// equal says whether criteria are those of match that count; both are sorted.
func equal(criteria, match []lb.Criterion, use some) bool {
	n := 0
	for i := range min(len(match), 64) {
		if use>>i&1 == 0 {
			continue
		}
		if n == len(criteria) || criteria[n] != match[i] {
			return false
		}
		n++
	}
	return n == len(criteria)
}

// selector finds the one for exactly these keys.
func (o *subsetOptions) selector(match []lb.Criterion, use some) *selector {
	for i := range o.selectors {
		if have, n := o.selectors[i].among(match, use); n == len(o.selectors[i].keys) && have == use {
			return &o.selectors[i]
		}
	}
	return nil
}

// reduce leaves the keys of the first selector whose keys are all there; all if there is none.
func (o *subsetOptions) reduce(match []lb.Criterion, use some) some {
	for i := range o.selectors {
		if have, n := o.selectors[i].among(match, use); n == len(o.selectors[i].keys) {
			return have
		}
	}
	return use
}

// among says which criteria have keys of the selector, and how many.
func (s *selector) among(match []lb.Criterion, use some) (have some, n int) {
	for i := range min(len(match), 64) {
		if use>>i&1 != 0 && slices.Contains(s.keys, match[i].Key) {
			have |= 1 << i
			n++
		}
	}
	return have, n
}

// of returns the worker's balancer of a subset.
func (b *balancer) of(v *hosts) *balancer {
	sub := b.subsets[v]
	if sub == nil {
		if b.subsets == nil {
			b.subsets = map[*hosts]*balancer{}
		}
		b.seed = lb.Next(b.seed)
		sub = newBalancer(v, b.seed)
		b.subsets[v] = sub
	}
	return sub
}
