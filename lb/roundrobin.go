package lb

import "time"

// RoundRobin takes hosts in turn, as often as their weights say (envoy.load_balancing_policies.round_robin).
type RoundRobin struct {
	SlowStart SlowStart
	// Reported: the weights are those of the hosts' own reports (client_side_weighted_round_robin).
	Reported bool
}

type roundRobin struct {
	turn *Turn
	n    divisor
}

// Build takes turns with the other workers, or makes a schedule of this worker's own where hosts have different weights.
func (p RoundRobin) Build(hosts []Host, s Start) Picker {
	if len(hosts) == 0 {
		return none{}
	}
	if p.SlowStart.ramping(hosts, s.Now) || !p.even(hosts) {
		return newWeighted(hosts, s, &p)
	}
	return roundRobin{s.turn(), newDivisor(uint64(len(hosts)))}
}

func (p *RoundRobin) even(hosts []Host) bool {
	for i := range hosts {
		if p.own(&hosts[i]) != p.own(&hosts[0]) {
			return false
		}
	}
	return true
}

func (p *RoundRobin) own(h *Host) uint32 {
	if p.Reported {
		if w := h.Load.Weight(); w != 0 {
			return w
		}
	}
	return h.Weight
}

func (p *RoundRobin) weight(h *Host, now time.Duration) float64 {
	w := float64(p.own(h))
	if p.SlowStart.Window > 0 {
		w *= p.SlowStart.factor(h, now)
	}
	return w
}

func (p roundRobin) Pick(Request) int { return int(p.n.mod(p.turn.n.Add(1) - 1)) }

// weighted picks by a schedule in which each host has the weight of the moment when it was picked last.
type weighted struct {
	edf    EDF
	hosts  []Host
	policy weigher
}

// weigher says what a host weighs at the moment.
type weigher interface {
	weight(h *Host, now time.Duration) float64
}

func newWeighted(hosts []Host, s Start, policy weigher) *weighted {
	p := &weighted{hosts: hosts, policy: policy}
	r := Request{Now: s.Now}
	for i := range hosts {
		p.edf.Add(i, policy.weight(&hosts[i], r.Now))
	}
	for range s.Seed % uint64(len(hosts)) {
		p.Pick(r)
	}
	return p
}

func (p *weighted) Pick(r Request) int {
	i := p.edf.Peek()
	p.edf.Advance(p.policy.weight(&p.hosts[i], r.Now))
	return i
}
