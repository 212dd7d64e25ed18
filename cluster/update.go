package cluster

import (
	"maps"
	"reflect"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// update takes in what discovery has found; nil: nothing was found, and nobody shall wait for it. Control loop only.
func (c *Cluster) update(a *discovery.Assignment) {
	if c.closed {
		return
	}
	if a != nil {
		c.apply(a)
	}
	if !c.found {
		c.found = true
		if c.onFound != nil {
			c.onFound()
		}
	}
	c.settle()
}

func (c *Cluster) apply(a *discovery.Assignment) {
	members := make(map[string]*member, len(c.members))
	weights := map[place]uint32{}
	var list []*Host
	changed := false
	for i := range a.Groups {
		g := &a.Groups[i]
		weights[place{g.Locality, g.Priority}] = g.Weight
		for j := range g.Endpoints {
			m := c.member(&g.Endpoints[j], g, members)
			changed = changed || m.host == nil || c.config.kind == logicalDNS && m.host.Address != g.Endpoints[j].Address
			m.host = c.host(&g.Endpoints[j], g, m)
			list = append(list, m.host)
		}
	}
	list = append(list, c.linger(members)...)
	changed = changed || len(members) != len(c.members)
	gone := c.members
	c.members, c.weights, c.assignment = members, weights, a
	c.drop.Store(min(a.Drop, discovery.Million/100*c.m.env.Runtime.Load().Uint("load_balancing_policy.drop_overload_limit", 100)))
	c.publish(list, weights, a)
	if changed {
		c.Stats.MembershipChange.Inc()
	}
	for key, m := range gone {
		if members[key] != m {
			c.dismiss(m)
		}
	}
	if changed && c.config.closeOnHostSet {
		for _, m := range members {
			m.Empty(c.m.env.Workers)
		}
	}
}

// host makes the next version of a host.
func (c *Cluster) host(e *discovery.Endpoint, g *discovery.Group, m *member) *Host {
	h := newHost(e, g, m)
	h.Zone = c.zone(g.Locality.Zone)
	last := m.host
	if last != nil && last.fit() {
		h.since = last.since
	} else {
		h.since = c.m.now()
	}
	if last != nil && same(last, h) {
		return last
	}
	return h
}

func same(a, b *Host) bool {
	return a.Address == b.Address && a.Hostname == b.Hostname && a.Locality == b.Locality && a.Priority == b.Priority &&
		a.Weight == b.Weight && a.Flags == b.Flags && a.Check == b.Check && a.since == b.since && reflect.DeepEqual(a.Metadata, b.Metadata)
}

// publish makes list the current hosts.
func (c *Cluster) publish(list []*Host, weights map[place]uint32, a *discovery.Assignment) {
	v := c.version(list, weights, a)
	s := c.Stats
	var sound, weak, excluded, heaviest int64
	for _, h := range list {
		sound += int64(flag(h.sound()))
		weak += int64(flag(h.degraded()))
		excluded += int64(flag(h.excluded()))
		heaviest = max(heaviest, int64(h.Weight))
	}
	s.MembershipTotal.Set(int64(len(list)))
	s.MembershipHealthy.Set(sound)
	s.MembershipDegraded.Set(weak)
	s.MembershipExcluded.Set(excluded)
	if c.config.kind != static && c.config.kind != forward {
		s.MaxHostWeight.Set(heaviest)
	}
	c.hosts.Store(v)
	if c.forward != nil {
		c.forward.index(list)
	}
	c.m.hostsChanged(c)
}

func (c *Cluster) version(list []*Host, weights map[place]uint32, a *discovery.Assignment) *hosts {
	rt := c.m.env.Runtime.Load()
	before := c.hosts.Load()
	v := &hosts{
		list: list, priorities: arrange(list, weights, c.m.env.Locality), overprovisioning: a.Overprovisioning, weighted: a.WeightedHealth,
		threshold: rt.Uint("upstream.healthy_panic_threshold", c.config.lb.panicThreshold), index: &index{},
	}
	if c.config.lb.policy != nil {
		v.policy = c.config.lb.policy(rt)
	}
	switch {
	case c.config.lb.subset != nil:
		v.subsets = c.config.lb.subset.build(c, v, before, weights)
	case c.config.lb.learning.areas != nil:
		c.buildAreas(v, before)
	default:
		c.finish(v, before, false)
	}
	return v
}

// balancerCount is how many balancers Envoy has for a cluster: one for each worker, and one on the main thread. They count what happens once here.
func (c *Cluster) balancerCount() uint64 { return uint64(len(c.m.env.Workers)) + 1 }

// finish computes what follows from the priorities of a version; before may be nil.
func (c *Cluster) finish(v, before *hosts, unweighted bool) {
	v.load = distribute(v.priorities, v.overprovisioning, v.weighted, v.threshold, 0)
	if c.hashing != nil {
		c.buildTables(v, before, unweighted)
		return
	}
	var old []priority
	if before != nil {
		old = before.priorities
	}
	take(v.priorities, old)
	c.routeZones(v)
}

// routeZones computes zone-aware routing where the proxy knows the cluster that it is a part of.
func (c *Cluster) routeZones(v *hosts) {
	local := c.m.local()
	if local == nil || local == c || c.hashing != nil {
		return
	}
	l := local.hosts.Load()
	z := zones{&c.config.lb.zone, c.m.env.Locality, l.threshold, c.m.env.Runtime.Load(), c.Stats, c.balancerCount()}
	v.zone = z.route(&v.priorities[0], &l.priorities[0])
}

// rezone recomputes the routing of zones after the local cluster has changed.
func (c *Cluster) rezone() {
	next := *c.hosts.Load()
	next.rezone(c)
	c.hosts.Store(&next)
}

func (v *hosts) rezone(c *Cluster) {
	if v.areas != nil {
		return // each is but one zone
	}
	if v.subsets == nil {
		v.zone = zoneRouting{}
		c.routeZones(v)
		return
	}
	s := *v.subsets
	s.byHash = maps.Clone(s.byHash)
	for id, g := range s.byHash {
		if g.hosts != nil {
			g = &group{g.criteria, g.members, g.hosts.rezoned(c), nil}
			s.byHash[id] = g
		}
	}
	s.anybody, s.standard = s.anybody.rezoned(c), s.standard.rezoned(c)
	v.subsets = &s
}

func (v *hosts) rezoned(c *Cluster) *hosts {
	next := *v
	next.rezone(c)
	return &next
}

// close ends a version of a cluster: connections without a stream close now, the others with their stream.
func (c *Cluster) close() {
	c.closed = true
	if c.stopWeighing != nil {
		c.stopWeighing()
	}
	c.sockets.close()
	if c.source != nil {
		c.source.Close()
	}
	for _, m := range c.members {
		c.dismiss(m)
	}
	c.closeOriginals()
	c.closeHealth()
}

// zone returns the statistics of the hosts in zone, nil where there are none.
func (c *Cluster) zone(zone string) *pool.ZoneResponses {
	if zone == "" || c.m.env.Locality.Zone == "" {
		return nil
	}
	z := c.zones[zone]
	if z == nil {
		z = stats.New[pool.ZoneResponses](c.zoneScope(zone))
		if c.zones == nil {
			c.zones = map[string]*pool.ZoneResponses{}
		}
		c.zones[zone] = z
	}
	return z
}

func (c *Cluster) zoneScope(zone string) stats.Scope {
	return c.Codes.Sub("zone").Sub(c.m.env.Locality.Zone).Sub(zone)
}
