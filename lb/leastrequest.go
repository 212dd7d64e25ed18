package lb

import (
	"math"
	"time"
)

// LeastRequest prefers hosts with fewer requests in flight (envoy.load_balancing_policies.least_request): of hosts with the same
// weight it draws some and takes the one with the fewest; of others it makes a schedule with weights divided by the requests in flight.
type LeastRequest struct {
	Choices   uint32  // choice_count, at least 2
	FullScan  bool    // look at all hosts
	Bias      float64 // active_request_bias; as configured, before runtime
	SlowStart SlowStart
}

type leastRequest struct {
	hosts   []Host
	n       divisor
	choices uint32
}

type fullScan struct{ hosts []Host }

// Build keeps the list.
func (p LeastRequest) Build(hosts []Host, s Start) Picker {
	switch {
	case len(hosts) == 0:
		return none{}
	case p.SlowStart.ramping(hosts, s.Now) || !equal(hosts):
		return newWeighted(hosts, s, &p)
	case p.FullScan:
		return &fullScan{hosts}
	}
	return &leastRequest{hosts, newDivisor(uint64(len(hosts))), max(p.Choices, 2)}
}

// equal says whether all weights are the same.
func equal(hosts []Host) bool {
	for i := range hosts {
		if hosts[i].Weight != hosts[0].Weight {
			return false
		}
	}
	return true
}

func (p *LeastRequest) weight(h *Host, now time.Duration) float64 {
	w := float64(h.Weight)
	switch active := float64(max(h.Active.Load(), 0) + 1); p.Bias {
	case 0:
	case 1:
		w /= active
	default:
		w /= math.Pow(active, p.Bias)
	}
	if p.SlowStart.Window > 0 {
		w *= p.SlowStart.factor(h, now)
	}
	return w
}

func (p *leastRequest) Pick(r Request) int {
	draw := r.Random
	best := int(p.n.mod(draw))
	least := p.hosts[best].Active.Load()
	for range p.choices - 1 {
		draw = Next(draw)
		i := int(p.n.mod(draw))
		if active := p.hosts[i].Active.Load(); active < least {
			best, least = i, active
		}
	}
	return best
}

func (p *fullScan) Pick(r Request) int {
	best, tied, draw := 0, uint64(1), r.Random
	least := p.hosts[0].Active.Load()
	for i := 1; i < len(p.hosts); i++ {
		switch active := p.hosts[i].Active.Load(); {
		case active < least:
			best, tied, least = i, 1, active
		case active == least:
			tied++
			draw = Next(draw)
			if draw%tied == 0 {
				best = i
			}
		}
	}
	return best
}
