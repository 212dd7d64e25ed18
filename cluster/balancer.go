package cluster

import "github.com/outrigger-proxy/outrigger/lb"

// balancer is what one worker keeps to choose hosts of one version: schedules and turns.
type balancer struct {
	// owned by the worker
	hosts      *hosts
	seed       uint64
	priorities []picks
	tables     []lb.Picker // of a hashing policy, by priority
	subsets    map[*hosts]*balancer
}

// picks are the pickers of a priority; those that nobody has asked for are nil.
type picks struct {
	sets       [3]lb.Picker
	localities [3][]lb.Picker
	turns      [3]*lb.EDF // of weighted localities
}

func newBalancer(v *hosts, seed uint64) *balancer {
	b := &balancer{hosts: v, seed: seed, priorities: make([]picks, len(v.priorities))}
	if v.tables != nil {
		b.tables = make([]lb.Picker, len(v.tables))
	}
	return b
}

func known(l []*Host) []lb.Host {
	hosts := make([]lb.Host, len(l))
	for i, h := range l {
		hosts[i] = lb.Host{Weight: h.Weight, Active: &h.Stats.RqActive, Since: h.since, Load: h.member.load}
		if !h.sound() {
			hosts[i].Since = lb.Never
		}
	}
	return hosts
}

// pick chooses a host among those that are fit.
func (b *balancer) pick(c *Cluster, r *lb.Request) *Host {
	if b.tables != nil {
		return b.hashed(c, r)
	}
	v := b.hosts
	i, f := 0, healthy
	load := &v.load
	if r.Only {
		if i = int(r.Priority); i >= len(v.priorities) {
			return nil
		}
		f = fitness(flag(r.Degraded))
	} else if len(v.priorities) > 1 || load.healthy[0] != 100 {
		if r.Avoid != 0 {
			load = v.without(r.Avoid)
		}
		i, f = load.choose(r.Random)
		r.Random = lb.Next(r.Random)
	}
	if load.panic[i] {
		c.Stats.Panic.Inc()
		if c.config.lb.zone.failOnPanic {
			return nil
		}
		return b.from(i, everybody, r)
	}
	if c.config.lb.localityWeighted {
		if l := b.turn(i, f); l >= 0 {
			return b.at(i, l, f, r)
		}
	}
	if i == 0 && v.zone.on && lb.Next(r.Random)%100 < v.zone.enabled {
		return b.inZone(c, f, r)
	}
	return b.from(i, f, r)
}

// hashed asks the table of a priority, which the hash decides as well. A request without a hash goes anywhere.
func (b *balancer) hashed(c *Cluster, r *lb.Request) *Host {
	if !r.HasHash {
		r.Hash, r.HasHash = r.Random, true
	}
	i, _ := b.hosts.load.choose(r.Hash)
	if b.hosts.load.panic[i] {
		c.Stats.Panic.Inc()
	}
	t := &b.hosts.tables[i]
	if b.tables[i] == nil {
		b.tables[i] = t.Picker()
	}
	if n := b.tables[i].Pick(*r); n >= 0 {
		return t.hosts[n]
	}
	return nil
}

func (b *balancer) inZone(c *Cluster, f fitness, r *lb.Request) *Host {
	if b.hosts.zone.panic {
		c.Stats.LocalClusterNotOK.Inc()
		if c.config.lb.zone.failOnPanic {
			return nil
		}
		return b.from(0, f, r)
	}
	return b.at(0, b.hosts.zone.choose(r, c.Stats), f, r)
}

// without recomputes the loads as if some priorities were not there; with none left it is as if all were.
func (v *hosts) without(avoid uint32) *loads {
	left := false
	for i := range v.priorities {
		left = left || (i > 31 || avoid>>i&1 == 0) && len(v.priorities[i].sets[everybody]) > 0
	}
	if !left {
		return &v.load
	}
	l := distribute(v.priorities, v.overprovisioning, v.weighted, v.threshold, avoid)
	for i := range l.panic {
		if i < 32 && avoid>>i&1 != 0 {
			l.panic[i] = false
		}
	}
	return &l
}

func (b *balancer) from(i int, f fitness, r *lb.Request) *Host {
	p := &b.hosts.priorities[i]
	return b.ask(&b.priorities[i].sets[f], p.sets[f], p.turns[f], r)
}

// at picks in a locality.
func (b *balancer) at(i, l int, f fitness, r *lb.Request) *Host {
	all := b.hosts.priorities[i].localities
	pickers := &b.priorities[i].localities[f]
	if *pickers == nil {
		*pickers = make([]lb.Picker, len(all))
	}
	return b.ask(&(*pickers)[l], all[l].sets[f], all[l].turns[f], r)
}

func (b *balancer) ask(p *lb.Picker, set []*Host, turn *lb.Turn, r *lb.Request) *Host {
	if *p == nil {
		b.seed = lb.Next(b.seed)
		*p = b.hosts.policy.Build(known(set), lb.Start{Seed: b.seed, Turn: turn, Now: r.Now})
	}
	if n := (*p).Pick(*r); n >= 0 {
		return set[n]
	}
	return nil
}

// turn says which locality is next by its weight and health, -1 if none has any.
func (b *balancer) turn(i int, f fitness) int {
	p := &b.hosts.priorities[i]
	e := b.priorities[i].turns[f]
	if e == nil {
		e = &lb.EDF{}
		for l := range p.localities {
			if w := p.effective(l, f, b.hosts.overprovisioning); w > 0 {
				e.Add(l, w)
			}
		}
		b.priorities[i].turns[f] = e
		for range b.seed % uint64(max(e.Len(), 1)) { // workers shall not march in step
			e.Advance(p.effective(e.Peek(), f, b.hosts.overprovisioning))
		}
	}
	if e.Len() == 0 {
		return -1
	}
	l := e.Peek()
	e.Advance(p.effective(l, f, b.hosts.overprovisioning))
	return l
}

// effective is a locality's weight times how much of it is fit.
func (p *priority) effective(l int, f fitness, overprovisioning uint32) float64 {
	loc := &p.localities[l]
	n := len(loc.sets[everybody]) - loc.excluded
	if n == 0 {
		return 0
	}
	return float64(loc.weight) * min(1, float64(overprovisioning)/100*float64(len(loc.sets[f]))/float64(n))
}
