package cluster

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"github.com/outrigger-proxy/outrigger/lb"
)

// hosts is a version of a cluster's hosts, with everything about it that does not change from one request to the next.
type hosts struct {
	// set at construction
	list       []*Host
	priorities []priority
	policy     lb.Policy // nil where tables are there, or the cluster provides
	tables     []table   // of a hashing policy, by priority
	load       loads
	zone       zoneRouting
	subsets    *subsets
	areas      []*hosts // of load_aware_locality: by locality of priority 0
	index      *index
	// of the assignment, and of runtime when it came
	overprovisioning uint32
	weighted         bool
	threshold        uint64 // healthy_panic_threshold in percent
}

// nothing is the version before the first.
func nothing() *hosts {
	return &hosts{priorities: make([]priority, 1), policy: lb.Random{}, index: &index{}, load: loads{[]uint32{100}, []uint32{0}, []bool{false}}}
}

// priority are the hosts of one priority.
type priority struct {
	sets       [3][]*Host // by fitness
	turns      [3]*lb.Turn
	localities []locality
	excluded   int
	// of the cluster where an aggregate has it from; overprovisioning is 0 elsewhere
	overprovisioning uint32
	weighted         bool
}

// fitness names a set of the hosts.
type fitness uint8

const (
	healthy fitness = iota
	degraded
	everybody
)

// locality are the hosts of a priority in one place.
type locality struct {
	name     Locality
	weight   uint32
	sets     [3][]*Host
	turns    [3]*lb.Turn
	excluded int
}

// arrange sorts hosts into priorities and localities: the proxy's own locality first, the others by name.
func arrange(list []*Host, weights map[place]uint32, own Locality) []priority {
	n := uint32(0)
	for _, h := range list {
		n = max(n, h.Priority)
	}
	all := make([]priority, n+1)
	for _, h := range list {
		p := &all[h.Priority]
		join(&p.sets, &p.excluded, h)
		i := slices.IndexFunc(p.localities, func(l locality) bool { return l.name == h.Locality })
		if i < 0 {
			i = len(p.localities)
			p.localities = append(p.localities, locality{name: h.Locality, weight: weights[place{h.Locality, h.Priority}]})
		}
		join(&p.localities[i].sets, &p.localities[i].excluded, h)
	}
	for i := range all {
		slices.SortStableFunc(all[i].localities, func(a, b locality) int { return compareLocality(a.name, b.name, own) })
		all[i].share()
	}
	return all
}

// share lets sets that are the same be one slice: most clusters have healthy hosts in one place alone.
func (p *priority) share() {
	if len(p.sets[healthy]) == len(p.sets[everybody]) {
		p.sets[everybody] = p.sets[healthy]
	}
	if len(p.localities) == 1 {
		p.localities[0].sets = p.sets
	}
}

func join(sets *[3][]*Host, excluded *int, h *Host) {
	sets[everybody] = append(sets[everybody], h)
	switch {
	case h.sound():
		sets[healthy] = append(sets[healthy], h)
	case h.degraded():
		sets[degraded] = append(sets[degraded], h)
	}
	*excluded += flag(h.excluded())
}

// take gives each set its turn: that of the same set of the version before, or a new one.
func take(all, before []priority) {
	for i := range all {
		p, old := &all[i], &priority{}
		if i < len(before) {
			old = &before[i]
		}
		renew(&p.turns, &p.sets, &old.turns)
		for l := range p.localities {
			at := slices.IndexFunc(old.localities, func(o locality) bool { return o.name == p.localities[l].name })
			switch {
			case len(p.localities) == 1:
				p.localities[0].turns = p.turns
			case at >= 0:
				renew(&p.localities[l].turns, &p.localities[l].sets, &old.localities[at].turns)
			default:
				renew(&p.localities[l].turns, &p.localities[l].sets, &[3]*lb.Turn{})
			}
		}
	}
}

func renew(turns *[3]*lb.Turn, sets *[3][]*Host, before *[3]*lb.Turn) {
	for f := range turns {
		switch {
		case fitness(f) == everybody && len(sets[everybody]) == len(sets[healthy]):
			turns[f] = turns[healthy]
		case before[f] != nil:
			turns[f] = before[f]
		case len(sets[f]) > 0:
			turns[f] = lb.NewTurn(rand.Uint64())
		}
	}
}

// place is a locality of a priority.
type place struct {
	Locality

	priority uint32
}

func compareLocality(a, b, own Locality) int {
	if a == own || b == own {
		return cmp.Compare(flag(b == own), flag(a == own))
	}
	return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.Subzone, b.Subzone))
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// loads say how many percent of the requests go to which priority, and to which of its hosts (Envoy: LoadBalancerBase).
type loads struct {
	healthy, degraded []uint32
	panic             []bool
}

// distribute computes the loads of priorities; panic is the healthy_panic_threshold in percent. Priorities with their bit set in avoid
// are left out.
func distribute(all []priority, overprovisioning uint32, weighted bool, threshold uint64, avoid uint32) loads {
	n := len(all)
	l := loads{make([]uint32, n), make([]uint32, n), make([]bool, n)}
	sound, weak := make([]uint32, n), make([]uint32, n)
	total := uint32(0)
	for i := range all {
		if i < 32 && avoid>>i&1 != 0 {
			continue
		}
		sound[i], weak[i] = all[i].health(overprovisioning, weighted)
		total = min(100, total+sound[i]+weak[i])
	}
	if total > 0 {
		l.spread(sound, weak, total)
	}
	if threshold == 0 && total == 0 {
		l.healthy[0] = 100 // nobody is there, and whoever looks finds nobody
		return l
	}
	everywhere := true
	for i := range all {
		l.panic[i] = total < 100 && all[i].inPanic(threshold)
		everywhere = everywhere && l.panic[i]
	}
	if everywhere {
		l.byNumber(all)
	}
	return l
}

// health returns how healthy and how degraded a priority is: 0 to 100.
func (p *priority) health(overprovisioning uint32, weighted bool) (sound, weak uint32) {
	if p.overprovisioning > 0 {
		overprovisioning, weighted = p.overprovisioning, p.weighted
	}
	count := func(l []*Host) uint64 { return uint64(len(l)) }
	total := uint64(len(p.sets[everybody]) - p.excluded)
	if total == 0 {
		return 0, 0
	}
	if weighted {
		count = func(l []*Host) (sum uint64) {
			for _, h := range l {
				if !h.excluded() {
					sum += uint64(h.Weight)
				}
			}
			return sum
		}
		total = count(p.sets[everybody])
	}
	share := func(l []*Host) uint32 { return uint32(min(100, uint64(overprovisioning)*count(l)/total)) }
	return share(p.sets[healthy]), share(p.sets[degraded])
}

func (p *priority) inPanic(threshold uint64) bool {
	n := len(p.sets[everybody]) - p.excluded
	if n == 0 {
		return threshold > 0
	}
	fit := len(p.sets[healthy]) + len(p.sets[degraded])
	return 100*float64(fit)/float64(n) < float64(min(threshold, 100))
}

// spread gives each priority what it can take, the first ones first; the rest of the rounding goes to the first that can take any.
func (l *loads) spread(sound, weak []uint32, total uint32) {
	left, first := uint32(100), (*uint32)(nil)
	for _, s := range []struct{ to, from []uint32 }{{l.healthy, sound}, {l.degraded, weak}} {
		for i, v := range s.from {
			if v > 0 && first == nil {
				first = &s.to[i]
			}
			s.to[i] = min(left, 100*v/total)
			left -= s.to[i]
		}
	}
	*first += left
}

// byNumber is for when all priorities panic: each gets its share of the hosts.
func (l *loads) byNumber(all []priority) {
	hosts := 0
	for i := range all {
		hosts += len(all[i].sets[everybody])
	}
	if hosts == 0 {
		l.healthy[0] = 100
		return
	}
	left, first := uint32(100), -1
	for i := range all {
		n := len(all[i].sets[everybody])
		if n > 0 && first < 0 {
			first = i
		}
		l.healthy[i], l.degraded[i] = uint32(100*n/hosts), 0
		left -= l.healthy[i]
	}
	l.healthy[first] += left
}

// choose draws a priority, and which of its hosts.
func (l *loads) choose(draw uint64) (int, fitness) {
	at, sum := uint32(draw%100)+1, uint32(0)
	for i, v := range l.healthy {
		if sum += v; at <= sum {
			return i, healthy
		}
	}
	for i, v := range l.degraded {
		if sum += v; at <= sum {
			return i, degraded
		}
	}
	return 0, healthy
}
