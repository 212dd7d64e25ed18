package listener

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"go.uber.org/zap"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/control"
	"github.com/outrigger-proxy/outrigger/internal/drain"
	"github.com/outrigger-proxy/outrigger/internal/snapshot"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Config is what a Manager is made of.
type Config struct {
	*filter.Process

	// Control is the loop that the manager's methods are called on once the process runs.
	Control *control.Loop
	// Drain is the drain of the process; that of each listener is made below it. It may be nil.
	Drain *drain.Drain
	// DrainTime is how long replaced listeners and filter chains may keep their connections (--drain-time-s).
	DrainTime time.Duration
	// DrainImmediate tells all connections of a draining listener to close at once (--drain-strategy immediate).
	DrainImmediate bool
	// MaxConnections bounds the connections of all listeners that do not ignore it (the overload manager's resource
	// global_downstream_max_connections); 0: the runtime key of the same meaning does.
	MaxConnections int64
	// Validate leaves out what a validation must not do: no socket is bound.
	Validate bool
}

// Manager owns the listeners of a process: those that are active, warming and draining. Its methods are called on the control
// loop, or before the workers run.
type Manager struct {
	// set at construction
	config Config
	log    *zap.Logger
	stats  *managerStats
	// owned by the control loop
	listeners []*Listener // all that are not draining, in the order in which they were added
	draining  []*Listener
	started   bool
	closed    bool
	unnamed   int
	calls     []func()      // wait until no listener warms for the first time
	timers    []*time.Timer // of drains under way
	// atomic
	byAddress snapshot.Value[map[netip.AddrPort]*Listener]
	open      atomic.Int64 // connections of all listeners
	departing atomic.Int64 // connections that Shutdown waits for
	ids       atomic.Uint64
}

type managerStats struct {
	Added          stats.Counter `stat:"listener_added"`
	Modified       stats.Counter `stat:"listener_modified"`
	Removed        stats.Counter `stat:"listener_removed"`
	Stopped        stats.Counter `stat:"listener_stopped"`
	CreateSuccess  stats.Counter `stat:"listener_create_success"`
	CreateFailure  stats.Counter `stat:"listener_create_failure"`
	InPlace        stats.Counter `stat:"listener_in_place_updated"`
	ChainsDraining stats.Gauge   `stat:"total_filter_chains_draining"`
	Active         stats.Gauge   `stat:"total_listeners_active"`
	Warming        stats.Gauge   `stat:"total_listeners_warming"`
	Draining       stats.Gauge   `stat:"total_listeners_draining"`
	WorkersStarted stats.Gauge   `stat:"workers_started"`
	WorkersPinned  stats.Gauge   `stat:"workers_pinned"`
}

// NewManager makes a manager without listeners.
func NewManager(c Config) *Manager {
	m := &Manager{config: c, log: c.Logs.Get("config"), stats: stats.New[managerStats](c.Stats.Root().Sub("listener_manager"))}
	m.byAddress.Store(&map[netip.AddrPort]*Listener{})
	return m
}

// State is where a listener is in its life.
type State uint8

// The states of a listener, as the configuration dump names them.
const (
	Warming State = iota
	Active
	Draining
)

// View is what the admin interface may know of one version of a listener.
type View struct {
	Name    string
	State   State
	Static  bool
	Version string // of the xDS response that brought it; empty for static ones
	Updated time.Time
	Proto   *listenerv3.Listener
	// Addresses are the local addresses, the ports being those that the kernel chose where 0 was asked for.
	Addresses []stream.Address
}

// Add makes a static listener: it can be neither updated nor removed. Its sockets are bound at once and accept after Start.
// A second static listener of the same name is passed over, as in Envoy.
func (m *Manager) Add(p *listenerv3.Listener) error {
	if p.GetName() != "" && m.find(p.GetName()) != nil {
		m.log.Warn(fmt.Sprintf("listener '%s' is there already: the second one is passed over", p.GetName()))
		return nil
	}
	_, err := m.add(p, "", true)
	return m.counted(p, err)
}

// Update adds a listener that discovery brought or replaces the one of its name; changed is false if it means the same as before.
// On error the version before, if there is one, stays in force.
func (m *Manager) Update(p *listenerv3.Listener, version string) (changed bool, err error) {
	old := m.find(p.GetName())
	switch {
	case old == nil:
		_, err = m.add(p, version, false)
	case old.static:
		return false, nil // Envoy: a static listener blocks its name
	case canonical(p) == canonical(old.latest()):
		return false, nil
	case sockets(p) == sockets(old.latest()):
		err = old.update(p, version)
	default:
		err = m.replace(old, p, version)
	}
	return err == nil, m.counted(p, err)
}

func (m *Manager) counted(p *listenerv3.Listener, err error) error {
	if err != nil {
		m.stats.CreateFailure.Inc()
		return fmt.Errorf("listener %q: %w", p.GetName(), err)
	}
	return nil
}

// Remove drains and closes a listener that discovery brought; false: there is none of that name.
func (m *Manager) Remove(name string) bool {
	l := m.find(name)
	if l == nil || l.static {
		return false
	}
	m.listeners = slices.DeleteFunc(m.listeners, func(o *Listener) bool { return o == l })
	m.stats.Removed.Inc()
	m.retire(l)
	m.publish()
	return true
}

func (m *Manager) find(name string) *Listener {
	for _, l := range m.listeners {
		if l.name == name {
			return l
		}
	}
	return nil
}

// add makes a listener of its own; its place in the list is the last.
func (m *Manager) add(p *listenerv3.Listener, xds string, static bool) (*Listener, error) {
	l, err := m.make(p, xds, static)
	if err != nil {
		return nil, err
	}
	m.stats.Added.Inc()
	m.listeners = append(m.listeners, l)
	l.begin(nil)
	return l, nil
}

func (m *Manager) make(p *listenerv3.Listener, xds string, static bool) (*Listener, error) {
	c, err := parse(p)
	if err != nil {
		return nil, err
	}
	if c.name == "" {
		m.unnamed++
		c.name = fmt.Sprintf("unnamed-%d", m.unnamed)
	}
	if err := m.taken(c); err != nil {
		return nil, err
	}
	l := newListener(m, c, static)
	v, err := l.build(p, c, nil)
	if err != nil {
		return nil, err
	}
	v.xds, l.warm, l.proto = xds, v, p
	return l, l.bind(c)
}

// taken refuses an address that another listener has.
func (m *Manager) taken(c *config) error {
	for _, l := range m.listeners {
		if l.name == c.name {
			continue
		}
		for _, mine := range c.endpoints {
			for _, other := range l.config().endpoints {
				if mine.Address == other.Address && mine.namespace == other.namespace && (mine.Path != "" || mine.Port() != 0) {
					return fmt.Errorf("has duplicate address '%s' as existing listener '%s'", mine, l.name)
				}
			}
		}
	}
	return nil
}

// replace puts a listener with sockets of its own in the place of old, which drains.
func (m *Manager) replace(old *Listener, p *listenerv3.Listener, xds string) error {
	l, err := m.make(p, xds, false)
	if err != nil {
		return err
	}
	m.stats.Modified.Inc()
	m.listeners[slices.Index(m.listeners, old)] = l
	l.begin(old)
	return nil
}

// begin makes the first version of l current once it is warm; replaced is the listener that l takes over from, or nil.
func (l *Listener) begin(replaced *Listener) {
	m := l.m
	m.stats.CreateSuccess.Inc()
	m.stats.Warming.Inc()
	l.replaces = replaced
	v := l.warm
	v.whenWarm(func() { l.activate(v) })
}

// activate makes v, which is warm, the version in force, unless a later one came or the listener went.
func (l *Listener) activate(v *version) {
	m := l.m
	if l.warm != v {
		return
	}
	first, old := l.state == Warming, l.current.Load()
	l.install(v)
	if old != nil {
		m.retireChains(l, old, v)
	}
	if first {
		m.stats.Warming.Dec()
		m.stats.Active.Inc()
		if m.started {
			l.accept()
		}
	}
	if o := l.replaces; o != nil {
		l.replaces = nil
		m.retire(o)
	}
	m.publish()
	m.calm()
}

func (v *version) whenWarm(f func()) {
	v.ready = f
	if v.pending == 0 {
		f()
	}
}

func (l *Listener) install(v *version) {
	l.warm, l.state, l.proto, l.xds, l.updated = nil, Active, v.proto, v.xds, time.Now()
	l.current.Store(v)
}

// update makes p the configuration of l, whose sockets stay. Chains that are not in it any more drain.
func (l *Listener) update(p *listenerv3.Listener, xds string) error {
	c, err := parse(p)
	if err != nil {
		return err
	}
	v, err := l.build(p, c, l.current.Load())
	if err != nil {
		return err
	}
	if l.warm != nil {
		l.warm.close(l.current.Load())
		l.warm.end(l.current.Load())
	}
	v.xds, l.warm = xds, v
	m := l.m
	m.stats.Modified.Inc()
	m.stats.InPlace.Inc()
	m.stats.CreateSuccess.Inc()
	v.whenWarm(func() { l.activate(v) })
	return nil
}

// WhenWarm calls f, on the control loop, once: when no listener is warming for the first time, which may be now.
func (m *Manager) WhenWarm(f func()) {
	m.calls = append(m.calls, f)
	m.calm()
}

// calm tells those who wait for it that every listener has a version in force.
func (m *Manager) calm() {
	if len(m.calls) == 0 || slices.ContainsFunc(m.listeners, func(l *Listener) bool { return l.state == Warming }) {
		return
	}
	calls := m.calls
	m.calls = nil
	for _, f := range calls {
		f()
	}
}

// latest is the configuration that the next one is compared with.
func (l *Listener) latest() *listenerv3.Listener {
	if l.warm != nil {
		return l.warm.proto
	}
	return l.proto
}

func (l *Listener) config() *config {
	if v := l.current.Load(); v != nil {
		return v.config
	}
	return l.warm.config
}

// retire stops l at once and closes its connections when the drain time has passed.
func (m *Manager) retire(l *Listener) {
	l.stop()
	v := l.current.Load()
	if l.warm != nil {
		l.warm.close(v)
		l.warm.end(v)
	}
	if v != nil {
		v.close(nil)
	}
	l.warm = nil
	if o := l.replaces; o != nil {
		l.replaces = nil
		m.retire(o)
	}
	if l.state == Warming {
		m.stats.Warming.Dec()
		m.calm()
		return
	}
	l.state = Draining
	m.draining = append(m.draining, l)
	m.stats.Active.Dec()
	m.stats.Draining.Inc()
	l.drain.Start(m.config.DrainTime, m.config.DrainImmediate)
	m.after(func() {
		l.end(nil)
		v.end(nil)
		m.stats.Draining.Dec()
		m.draining = slices.DeleteFunc(m.draining, func(o *Listener) bool { return o == l })
	})
}

// retireChains drains the chains of old that now has no more.
func (m *Manager) retireChains(l *Listener, old, now *version) {
	gone := map[*chain]bool{}
	for _, c := range old.list {
		if !slices.Contains(now.list, c) {
			gone[c] = true
			c.close()
			c.drain.Start(m.config.DrainTime, m.config.DrainImmediate)
		}
	}
	if len(gone) == 0 {
		return
	}
	m.stats.ChainsDraining.Add(int64(len(gone)))
	m.after(func() {
		m.stats.ChainsDraining.Add(-int64(len(gone)))
		l.end(func(c *chain) bool { return gone[c] })
		for c := range gone {
			c.end()
		}
	})
}

// after runs f on the control loop when the drain time has passed, unless the manager is closed first.
func (m *Manager) after(f func()) {
	t := time.AfterFunc(m.config.DrainTime, func() {
		m.config.Control.Post(func() {
			if !m.closed {
				f()
			}
		})
	})
	m.timers = append(m.timers, t)
}

// Start begins to accept on all listeners, now and to come. The workers may be about to run or running. A second Start does nothing.
func (m *Manager) Start() error {
	if m.started {
		return nil
	}
	m.started = true
	for _, l := range m.listeners {
		if l.state == Active {
			l.accept()
		}
	}
	m.stats.WorkersStarted.Set(1)
	return nil
}

// StopAccepting closes the listening sockets, of inbound listeners only if inbound is set (POST /drain_listeners). Connections go on.
func (m *Manager) StopAccepting(inbound bool) {
	for _, l := range m.chosen(inbound) {
		if l.sockets != nil {
			l.stop()
			m.stats.Stopped.Inc()
		}
	}
}

// DrainStart begins to drain all listeners, or the inbound ones: connections are told to close at their next chance.
func (m *Manager) DrainStart(inbound bool) {
	for _, l := range m.chosen(inbound) {
		if !l.config().modifyOnly {
			l.drain.Start(m.config.DrainTime, m.config.DrainImmediate)
		}
	}
}

func (m *Manager) chosen(inbound bool) []*Listener {
	var list []*Listener
	for _, l := range m.listeners {
		if !inbound || l.proto.GetTrafficDirection().String() == "INBOUND" {
			list = append(list, l)
		}
	}
	return list
}

// Shutdown stops accepting for good and tells every connection to end at its next chance, whatever the drain type. Connections
// that can be told (filter.Conn.Drain) are waited for while something is in flight; a TCP session has no such end, and ends with the
// process.
func (m *Manager) Shutdown() {
	m.StopAccepting(false)
	for _, l := range append(slices.Clone(m.listeners), m.draining...) {
		l.drain.Start(0, true)
		for _, p := range l.places {
			m.departing.Add(1) // until the worker has counted its own
			p.w.Post(p.depart)
		}
	}
}

// Departing returns how many connections Shutdown still waits for. Any goroutine may call it.
func (m *Manager) Departing() int64 { return m.departing.Load() }

// Connections returns how many connections are open, of all listeners, those under inspection too. Any goroutine may call it.
func (m *Manager) Connections() int64 { return m.open.Load() }

// Close stops accepting and closes all connections.
func (m *Manager) Close() {
	m.closed = true
	for _, t := range m.timers {
		t.Stop()
	}
	for _, l := range append(slices.Clone(m.listeners), m.draining...) {
		l.stop()
		l.end(nil)
	}
}

// Each calls f for each version of each listener: those in force or warming in the order in which they were added, a next version
// that is warming after the one in force, and those that drain last.
func (m *Manager) Each(f func(View)) {
	for _, l := range m.listeners {
		f(l.view(l.state, l.proto, l.xds))
		if l.state == Active && l.warm != nil {
			f(l.view(Warming, l.warm.proto, l.warm.xds))
		}
	}
	for _, l := range m.draining {
		f(l.view(Draining, l.proto, l.xds))
	}
}

func (l *Listener) view(s State, p *listenerv3.Listener, xds string) View {
	v := View{Name: l.name, State: s, Static: l.static, Version: xds, Updated: l.updated, Proto: p}
	for _, e := range l.config().endpoints {
		v.Addresses = append(v.Addresses, e.Address)
	}
	copy(v.Addresses, l.stopped)
	for i, b := range l.sockets {
		v.Addresses[i] = b.local()
	}
	return v
}

// publish makes the table that hands connections over to the listener of their original destination.
func (m *Manager) publish() {
	t := map[netip.AddrPort]*Listener{}
	for _, l := range m.listeners {
		if l.state != Active {
			continue
		}
		for _, e := range l.config().endpoints {
			if !e.IsValid() {
				continue
			}
			t[e.AddrPort] = l
			if v4 := netip.AddrPortFrom(netip.IPv4Unspecified(), e.Port()); e.v4Too && e.Addr().IsUnspecified() && t[v4] == nil {
				t[v4] = l
			}
		}
	}
	m.byAddress.Store(&t)
}

// lookup finds the listener of an original destination: that of the address, else that of all addresses of its family, else nil.
func (m *Manager) lookup(to stream.Address) *Listener {
	t := *m.byAddress.Load()
	if l := t[to.AddrPort]; l != nil {
		return l
	}
	all := netip.IPv6Unspecified()
	if to.Addr().Is4() {
		all = netip.IPv4Unspecified()
	}
	return t[netip.AddrPortFrom(all, to.Port())]
}

// nextID numbers connections, from 0 as Envoy does.
func (m *Manager) nextID() uint64 { return m.ids.Add(1) - 1 }
