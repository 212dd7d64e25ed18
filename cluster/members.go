package cluster

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	"github.com/outrigger-proxy/outrigger/cluster/health"
	"github.com/outrigger-proxy/outrigger/cluster/outlier"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/lb"
)

// member is a host as the control loop knows it: what outlives the versions of the host list.
type member struct {
	// set at construction
	*pool.Peer

	cluster *Cluster
	monitor *outlier.Monitor // nil: no outlier detection
	load    *lb.Load         // what the policy has learned; nil: it does not learn
	// atomic: the flags, for whoever looks
	shown atomic.Uint32
	// owned by the control loop
	host   *Host           // its current version, nil: it is new
	checks []check         // by checker; none: it is not checked
	wish   discovery.Check // of its endpoint
	flags  health.Flags
	// stopReports ends the stream of its load reports; nil: there is none.
	stopReports func()
}

// show lets everybody see the flags as they are now: not each change makes another version of the hosts.
func (m *member) show() { m.shown.Store(uint32(m.flags)) }

// Standing is what is known against the host at this moment; Flags are what its version was made with. Any goroutine may call it.
func (h *Host) Standing() health.Flags { return health.Flags(h.member.shown.Load()) }

// check is what one checker knows of a host.
type check struct {
	session *health.Session
	checked func() // lets a cluster go on that waits for the first result
	flags   health.Flags
}

// byChecks are the flags that checks set: one checker is enough to do so.
const byChecks = health.FailedActive | health.DegradedActive | health.PendingActive | health.ExcludedAtOnce | health.ActiveTimeout

// fit says whether a host is in service, or only ejected: its return from there is no new start.
func (h *Host) fit() bool {
	f := h.Flags &^ health.FailedOutlier
	return !f.Unhealthy() && !f.Degraded()
}

// member finds the host of an endpoint among those that there are, or makes it, and takes in what the control plane says of it.
func (c *Cluster) member(e *discovery.Endpoint, g *discovery.Group, members map[string]*member) *member {
	key := e.Key
	if key == "" {
		key = e.Address.String()
	}
	to := pool.Target{Address: e.Address, Additional: e.Additional, Hostname: e.Hostname, Socket: c.sockets.forHost(e, g)}
	m := members[key]
	if m == nil {
		m = c.members[key]
	}
	if m == nil {
		m = &member{cluster: c, Peer: pool.NewPeer(to, &c.pools, len(c.m.env.Workers)), wish: e.Check}
		if c.config.lb.learning.on() {
			m.load = &lb.Load{}
		}
		if c.config.kind == forward {
			c.Stats.TransportSocketDefaultMatch.Inc()
		}
		c.watch(m, e.Address.String())
		c.examine(m, e, g)
		if c.reporter != nil {
			c.reporter.add(m)
		}
	} else {
		m.Move(to)
		if m.wish != e.Check {
			m.wish = e.Check
			c.release(m)
			c.examine(m, e, g)
		}
	}
	members[key] = m
	m.flags.Set(health.FailedEDS, e.Health == discovery.Unhealthy || e.Health == discovery.Timeout)
	m.flags.Set(health.DegradedEDS, e.Health == discovery.Degraded)
	m.flags.Set(health.DrainingEDS, e.Health == discovery.Draining)
	m.flags.Set(health.PendingRemoval, false)
	m.show()
	return m
}

// watch lets the outlier detector judge a host.
func (c *Cluster) watch(m *member, address string) {
	if c.detector == nil {
		return
	}
	m.monitor = c.detector.NewMonitor(address, func() {
		m.flags.Set(health.FailedOutlier, m.monitor.Ejected())
		m.flags.Set(health.DegradedOutlier, m.monitor.Degraded())
		m.show()
		c.touch()
		if m.monitor.Ejected() {
			m.Fail(c.m.env.Workers)
		}
	})
	c.detector.Add(m.monitor)
}

// examine begins to check a host, which is unhealthy until it has passed.
func (c *Cluster) examine(m *member, e *discovery.Endpoint, g *discovery.Group) {
	if len(c.checkers) == 0 || e.Check.Disabled {
		return
	}
	m.flags.Set(health.FailedActive, true)
	m.flags.Set(health.PendingActive, c.config.warmHosts)
	m.checks = make([]check, len(c.checkers))
	for i, k := range c.checkers {
		checked := func() {}
		if !c.warm {
			checked = c.wait()
		}
		own := &m.checks[i]
		own.checked = checked
		own.flags = m.flags & byChecks
		own.session = k.Add(&health.Host{
			Flags: &own.flags, Target: func() pool.Target { return c.checkTarget(m, c.config.checks[i]) }, Checked: func(r health.Result) {
				c.checked(m, r)
				checked()
			},
			Address: e.Address, Hostname: e.Check.Hostname, Metadata: e.Metadata,
			Region: g.Locality.Region, Zone: g.Locality.Zone, Subzone: g.Locality.Subzone,
		})
	}
}

// release ends the checks of a host that is no longer checked, or otherwise.
func (c *Cluster) release(m *member) {
	if m.checks == nil {
		return
	}
	for i := range m.checks {
		m.checks[i].session.Close()
		m.checks[i].checked() // nobody waits for a host that is gone
	}
	m.checks = nil
	c.combine(m, 0)
}

// combine gives a host the flags that its checks have found, and counts hosts where there are several checkers.
func (c *Cluster) combine(m *member, f health.Flags) {
	before := m.flags
	m.flags = m.flags&^byChecks | f
	m.show()
	if s := c.checkStats; s != nil {
		gone := m.checks == nil
		for _, g := range []struct {
			gauge   *stats.Gauge
			was, is bool
		}{
			{&s.Healthy, !before.Has(health.FailedActive), !gone && !m.flags.Has(health.FailedActive)},
			{&s.Degraded, before.Has(health.DegradedActive), !gone && m.flags.Has(health.DegradedActive)},
		} {
			g.gauge.Add(int64(flag(g.is) - flag(g.was)))
		}
	}
}

// checkTarget is where the checks of a host go.
func (c *Cluster) checkTarget(m *member, by *health.Config) pool.Target {
	to := m.Target()
	to.Additional = nil
	switch {
	case !m.wish.Address.IsZero():
		to.Address = m.wish.Address
	case m.wish.Port != 0 && to.Address.Path == "":
		to.Address = fiber.Address{AddrPort: netip.AddrPortFrom(to.Address.Addr(), m.wish.Port)}
	}
	if s := by.Sockets; s != nil {
		to.Socket = c.sockets.choose(map[string]map[string]any{matchNamespace: s}, nil)
	}
	return to
}

// checked takes in the end of a check.
func (c *Cluster) checked(m *member, r health.Result) {
	before := m.flags
	var f health.Flags
	for i := range m.checks {
		f |= m.checks[i].flags
	}
	c.combine(m, f)
	if r.Changed {
		c.touch()
		if m.flags.Unhealthy() && !before.Unhealthy() {
			m.Fail(c.m.env.Workers)
		}
		if m.flags.Has(health.FailedActive) && m.flags.Has(health.PendingRemoval) {
			c.forget(m)
		}
	}
	if r.Passed && m.monitor != nil && !m.flags.Has(health.FailedActive) {
		c.detector.Passed(m.monitor)
	}
}

// linger keeps hosts that discovery no longer knows, but that pass their checks: discovery may be the one that is wrong.
func (c *Cluster) linger(members map[string]*member) (list []*Host) {
	if len(c.checkers) == 0 || c.config.ignoreHealthOnRemoval {
		return nil
	}
	for key, m := range c.members {
		if members[key] != nil || m.checks == nil || m.flags.Has(health.FailedActive|health.FailedEDS) {
			continue
		}
		m.flags.Set(health.PendingRemoval, true)
		m.show()
		members[key] = m
		m.host = m.host.reflag()
		list = append(list, m.host)
	}
	return list
}

// forget removes a host that discovery no longer knows.
func (c *Cluster) forget(m *member) {
	for key, other := range c.members {
		if other == m {
			delete(c.members, key)
		}
	}
	list := slices.DeleteFunc(slices.Clone(c.hosts.Load().list), func(h *Host) bool { return h.member == m })
	c.publish(list, c.weights, c.assignment)
	c.Stats.MembershipChange.Inc()
	c.dismiss(m)
}

// dismiss lets go of a host.
func (c *Cluster) dismiss(m *member) {
	m.Drain(c.m.env.Workers)
	c.release(m)
	if m.stopReports != nil {
		m.stopReports()
		m.stopReports = nil
	}
	if m.monitor != nil && !c.closed {
		c.detector.Remove(m.monitor)
	}
}

// touch notes that flags of a host have changed; many such changes make one version.
func (c *Cluster) touch() {
	if !c.warm || c.dirty || c.closed {
		return
	}
	c.dirty = true
	c.m.post(c.refresh)
}

// refresh publishes a version with the flags as they are now.
func (c *Cluster) refresh() {
	c.dirty = false
	if c.closed {
		return
	}
	if c.config.kind == originalDst {
		c.countOriginals()
		return
	}
	list := slices.Clone(c.hosts.Load().list)
	for i, h := range list {
		if h.Flags != h.member.flags {
			n := h.reflag()
			if n.fit() && !h.fit() {
				n.since = c.m.now()
			}
			h.member.host, list[i] = n, n
		}
	}
	c.publish(list, c.weights, c.assignment)
}

// session is where a host's responses tell that it wants no more; nil: nobody wants to know.
func (m *member) session() *health.Session {
	if len(m.checks) == 0 {
		return nil
	}
	return m.checks[0].session
}

// reflag makes the next version of a host, with its flags as they are now.
func (h *Host) reflag() *Host {
	n := *h
	n.Flags, n.Check = h.member.flags, h.member.session()
	return &n
}
