package lb

import "math"

// Bounded keeps the load of each host below a multiple of the average (hash_balance_factor; arXiv 1608.01350): a hash whose host is
// full goes to another one, always the same ones in the same order (arXiv 1908.08762).
type Bounded struct {
	Hashing

	Factor uint32 // in percent of the average load, at least 100
	// Total is how many requests the cluster has in flight.
	Total interface{ Value() int64 }
}

type boundedTable struct {
	Table

	policy *Bounded
	hosts  []Share
}

type bounded struct {
	// set at construction
	inner  Picker
	policy *Bounded
	hosts  []Share
	// owned by the worker
	order []uint32
	rand  twister
}

// Table wraps that of the policy below.
func (p Bounded) Table(hosts []Share) Table {
	return &boundedTable{p.Hashing.Table(hosts), &p, hosts}
}

func (t *boundedTable) Picker() Picker {
	return &bounded{inner: t.Table.Picker(), policy: t.policy, hosts: t.hosts, order: make([]uint32, len(t.hosts))}
}

// Pick takes the host of the hash, or the first that has room, or else the one that is least beyond its bound.
func (p *bounded) Pick(r Request) int {
	host := p.inner.Pick(r)
	if host < 0 {
		return host
	}
	total := uint32(p.policy.Total.Value())
	slots := ((total+1)*p.policy.Factor + 99) / 100
	least := p.load(host, slots)
	if least <= 1 {
		return host
	}
	for i := range p.order {
		p.order[i] = uint32(i)
	}
	p.rand.seed(uint32(r.Hash))
	best := host
	for i := range p.order {
		j := i + int(p.rand.below(uint32(len(p.order)-i)))
		p.order[i], p.order[j] = p.order[j], p.order[i]
		k := int(p.order[i])
		if k == host {
			continue
		}
		switch load := p.load(k, slots); {
		case load <= 1:
			return k
		case load < least:
			best, least = k, load
		}
	}
	return best
}

// load is how full a host is, of its part of the slots; 1: just full.
func (p *bounded) load(host int, slots uint32) float64 {
	h := &p.hosts[host]
	own := max(uint32(math.Ceil(float64(slots)*h.Part)), 1)
	return float64(uint32(h.Active.Load())) / float64(own)
}

// twister is the Mersenne Twister MT19937: the hosts that a hash goes to shall be those of Envoy, which uses it.
type twister struct {
	state [624]uint32
	at    int
}

func (t *twister) seed(s uint32) {
	t.state[0] = s
	for i := uint32(1); i < 624; i++ {
		s = 1812433253*(s^s>>30) + i
		t.state[i] = s
	}
	t.at = 624
}

func (t *twister) next() uint32 {
	if t.at == 624 {
		t.turn()
	}
	y := t.state[t.at]
	t.at++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

func (t *twister) turn() {
	for i := range t.state {
		y := t.state[i]&(1<<31) | t.state[(i+1)%624]&(1<<31-1)
		t.state[i] = t.state[(i+397)%624] ^ y>>1 ^ y&1*0x9908b0df
	}
	t.at = 0
}

// below draws a number less than n, without bias.
func (t *twister) below(n uint32) uint32 {
	for width := 1 << 32 / uint64(n); ; {
		if x := uint64(t.next()) / width; x < uint64(n) {
			return uint32(x)
		}
	}
}
