package cluster

import (
	"slices"

	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/lb"
)

// table is what a hashing policy has built for the hosts of a priority, for all workers.
type table struct {
	lb.Table

	hosts  []*Host
	shares []lb.Share
}

// buildTables builds the table of each priority, unless the version before has one for the same shares. unweighted says that localities
// have no weights.
func (c *Cluster) buildTables(v, before *hosts, unweighted bool) {
	v.tables = make([]table, len(v.priorities))
	for i := range v.priorities {
		t := &v.tables[i]
		t.hosts, t.shares = c.shares(&v.priorities[i], v.load.panic[i], unweighted || !c.config.lb.localityWeighted)
		if before != nil && i < len(before.tables) && slices.Equal(before.tables[i].shares, t.shares) {
			t.Table = before.tables[i].Table
		} else {
			t.Table = c.hashing.Table(t.shares)
		}
		c.places.set(t.Places())
	}
}

// shares are the hosts of a priority that get traffic, with their parts of it. Weights of localities count as they are, however many of
// their hosts are fit.
func (c *Cluster) shares(p *priority, panicking, flat bool) ([]*Host, []lb.Share) {
	f := healthy
	if panicking {
		f = everybody
	}
	if flat {
		return p.sets[f], c.split(nil, p.sets[f], 1)
	}
	sum := uint64(0)
	for i := range p.localities {
		sum += uint64(p.localities[i].weight)
	}
	var hosts []*Host
	var shares []lb.Share
	for i := range p.localities {
		l := &p.localities[i]
		if l.weight > 0 {
			hosts = append(hosts, l.sets[f]...)
			shares = c.split(shares, l.sets[f], float64(l.weight)/float64(sum))
		}
	}
	return hosts, shares
}

// split appends the shares of hosts in a part of the whole.
func (c *Cluster) split(shares []lb.Share, hosts []*Host, part float64) []lb.Share {
	sum := uint64(0)
	for _, h := range hosts {
		sum += uint64(h.Weight)
	}
	for _, h := range hosts {
		shares = append(shares, lb.Share{Key: c.hashKey(h), Part: float64(h.Weight) * part / float64(sum), Active: &h.Stats.RqActive})
	}
	return shares
}

// hashKey is what places of a host depend on.
func (c *Cluster) hashKey(h *Host) string {
	if k, ok := h.Metadata["envoy.lb"]["hash_key"].(string); ok && k != "" {
		return k
	}
	if c.config.lb.byHostname {
		return h.Hostname
	}
	return h.Address.String()
}

// ringStats are ring_hash_lb.*
type ringStats struct {
	Size  stats.Gauge `stat:"size"`
	Least stats.Gauge `stat:"min_hashes_per_host"`
	Most  stats.Gauge `stat:"max_hashes_per_host"`
}

// maglevStats are maglev_lb.*
type maglevStats struct {
	Least stats.Gauge `stat:"min_entries_per_host"`
	Most  stats.Gauge `stat:"max_entries_per_host"`
}

// places show how evenly the places of a table are divided.
type places struct{ size, least, most *stats.Gauge }

func (p *places) set(size, least, most uint64) {
	if size == 0 {
		return // no hosts: what was there stays, as in Envoy
	}
	if p.size != nil {
		p.size.Set(int64(size))
	}
	p.least.Set(int64(least))
	p.most.Set(int64(most))
}

// hash makes the hashing policy of a cluster that has one.
func (c *Cluster) hash() {
	o := &c.config.lb
	if o.hashing == nil {
		return
	}
	if _, ring := o.hashing.(lb.Ring); ring {
		s := stats.New[ringStats](c.Codes.Sub("ring_hash_lb"))
		c.places = places{&s.Size, &s.Least, &s.Most}
	} else {
		s := stats.New[maglevStats](c.Codes.Sub("maglev_lb"))
		c.places = places{nil, &s.Least, &s.Most}
	}
	if c.hashing = o.hashing; o.balance > 0 {
		c.hashing = lb.Bounded{Hashing: o.hashing, Factor: o.balance, Total: &c.Stats.RqActive}
	}
}

// dropHash takes the statistics away.
func (c *Cluster) dropHash() {
	switch c.config.lb.hashing.(type) {
	case lb.Ring:
		stats.Drop[ringStats](c.Codes.Sub("ring_hash_lb"))
	case lb.Maglev:
		stats.Drop[maglevStats](c.Codes.Sub("maglev_lb"))
	}
}
