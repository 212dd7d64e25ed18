package lb

import "time"

// RoundRobin takes hosts in turn, as often as their weights say (envoy.load_balancing_policies.round_robin).
type RoundRobin struct{ SlowStart SlowStart }

type roundRobin struct {
	n    uint64
	next uint64
}

// Build goes on where the previous picker was.
func (p RoundRobin) Build(hosts []Host, seed uint64, previous Picker) Picker {
	if len(hosts) == 0 {
		return none{}
	}
	if !equal(hosts) || p.SlowStart.Window > 0 {
		return newWeighted(hosts, seed, p.weight)
	}
	next := seed
	if old, ok := previous.(*roundRobin); ok {
		next = old.next
	}
	return &roundRobin{uint64(len(hosts)), next}
}

func (p RoundRobin) weight(h *Host, now time.Duration) float64 {
	return float64(h.Weight) * p.SlowStart.factor(h, now)
}

func (p *roundRobin) Pick(Request) int {
	i := p.next % p.n
	p.next++
	return int(i)
}

// weighted picks by a schedule in which each host has the weight of the moment when it was picked last.
type weighted struct {
	edf    EDF
	hosts  []Host
	weight func(h *Host, now time.Duration) float64
}

func newWeighted(hosts []Host, seed uint64, weight func(h *Host, now time.Duration) float64) *weighted {
	p := &weighted{hosts: hosts, weight: weight}
	r := Request{}
	for i := range hosts {
		r.Now = max(r.Now, hosts[i].Since)
	}
	for i := range hosts {
		p.edf.Add(i, weight(&hosts[i], r.Now))
	}
	for range seed % uint64(len(hosts)) {
		p.Pick(r)
	}
	return p
}

func (p *weighted) Pick(r Request) int {
	i := p.edf.Peek()
	p.edf.Advance(p.weight(&p.hosts[i], r.Now))
	return i
}
