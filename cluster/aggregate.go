package cluster

import (
	"slices"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/lb"
)

// row is what an aggregate cluster (envoy.clusters.aggregate) chooses from: the priorities of its members that have hosts, one
// after the other. The zero row has none.
type row struct {
	// set at construction
	hosts // only what the choice of a priority depends on

	ends    []end // by priority of hosts
	hashes  bool  // some member does
	divides bool  // some member has subsets
}

// end is where a priority of a row comes from.
type end struct {
	cluster  *Cluster
	priority uint32
}

// link makes the row of an aggregate anew, after one of its members has changed. Control loop only.
func (c *Cluster) link() {
	r := &row{hosts: hosts{
		overprovisioning: 140, threshold: c.m.env.Runtime.Load().Uint("upstream.healthy_panic_threshold", c.config.lb.panicThreshold),
	}}
	for _, name := range c.config.members {
		if m := c.m.clusters[name]; m != nil && !m.closed {
			r.append(m)
		}
	}
	if len(r.ends) > 0 {
		r.load = distribute(r.priorities, r.overprovisioning, false, r.threshold, 0)
	}
	c.row.Store(r)
}

func (r *row) append(m *Cluster) {
	r.hashes, r.divides = r.hashes || m.hashing != nil, r.divides || m.config.lb.subset != nil
	v := m.hosts.Load()
	for i := range v.priorities {
		p := v.priorities[i]
		if len(p.sets[everybody]) == 0 {
			continue
		}
		p.overprovisioning, p.weighted = v.overprovisioning, v.weighted
		r.priorities = append(r.priorities, p)
		r.ends = append(r.ends, end{m, uint32(i)})
	}
}

// pick chooses a priority, and lets its cluster choose one of its hosts.
func (r *row) pick(w *fiber.Worker, q lb.Request) *Host {
	if len(r.ends) == 0 {
		return nil
	}
	load := &r.load
	if q.Avoid != 0 {
		load = r.without(q.Avoid)
		q.Avoid = 0
	}
	i, f := load.choose(q.Random)
	e := &r.ends[i]
	if e.cluster.config.kind == aggregate { // an aggregate has no hosts of its own
		return nil
	}
	q.Random = lb.Next(q.Random)
	q.Only, q.Priority, q.Degraded = true, e.priority, f == degraded
	return e.cluster.Pick(w, q)
}

// PriorityOf says which priority of c a host that it has chosen has: that of the host, but for aggregates.
func (c *Cluster) PriorityOf(h *Host) uint32 {
	if c.config.kind != aggregate {
		return h.Priority
	}
	i := slices.Index(c.row.Load().ends, end{h.Cluster(), h.Priority})
	return uint32(max(i, 0))
}

// relink lets aggregates know that one of their members, or they themselves, have changed. Control loop only.
func (m *Manager) relink(name string) {
	for _, c := range m.aggregates {
		if c.Name == name || slices.Contains(c.config.members, name) {
			c.link()
		}
	}
}

// aggregated keeps the list of aggregates in force. Control loop only.
func (m *Manager) aggregated(old, next *Cluster) {
	m.aggregates = slices.DeleteFunc(m.aggregates, func(c *Cluster) bool { return c == old })
	if next != nil && next.config.kind == aggregate {
		m.aggregates = append(m.aggregates, next)
	}
}
