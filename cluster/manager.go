package cluster

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	"github.com/outrigger-proxy/outrigger/cluster/discovery/dns"
	"github.com/outrigger-proxy/outrigger/cluster/outlier"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/control"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/internal/logfile"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/snapshot"
	"github.com/outrigger-proxy/outrigger/internal/sockopt"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
	"github.com/outrigger-proxy/outrigger/internal/transport"
)

// Env is what clusters need of their process.
type Env struct {
	Workers []*fiber.Worker
	Stats   *stats.Store
	Runtime *runtime.Loader
	Logs    *log.Set
	Files   *logfile.Set
	Control *control.Loop
	Secrets *transport.Secrets
	// Resources is where endpoints come from that a control plane assigns; nil: nowhere.
	Resources subscription.Source
	// Locality is the node's: zone-aware routing compares with it.
	Locality Locality
	// LocalCluster is cluster_manager.local_cluster_name: the cluster that this proxy is a part of.
	LocalCluster string
	// Bind is cluster_manager.upstream_bind_config: for clusters that have none of their own.
	Bind *corev3.BindConfig
	// OutlierLog is cluster_manager.outlier_detection.event_log_path; empty: none.
	OutlierLog string
	// DNS is the bootstrap's typed_dns_resolver_config: for clusters that have none of their own; nil: Envoy's default.
	DNS        *corev3.TypedExtensionConfig
	Extensions *Extensions // nil: Builtin
}

// managerStats are cluster_manager.*
type managerStats struct {
	Active         stats.Gauge   `stat:"active_clusters"`
	Warming        stats.Gauge   `stat:"warming_clusters"`
	Added          stats.Counter `stat:"cluster_added"`
	Modified       stats.Counter `stat:"cluster_modified"`
	Removed        stats.Counter `stat:"cluster_removed"`
	Updated        stats.Counter `stat:"cluster_updated"`
	Merged         stats.Counter `stat:"cluster_updated_via_merge"`
	MergeCancelled stats.Counter `stat:"update_merge_cancelled"`
	OutOfWindow    stats.Counter `stat:"update_out_of_merge_window"`
}

// Manager owns the clusters. All but Get belongs to the control loop.
type Manager struct {
	// set at construction
	env   Env
	epoch time.Time
	stats *managerStats
	ids   atomic.Uint64
	dns   dns.Resolver // of the bootstrap
	bind  bindOptions  // of the bootstrap
	// outliers is the event log of outlier detection, nil: there is none
	outliers *outlier.Log
	err      error // of the bootstrap's part
	// owned by the control loop
	gate     dns.Gate
	clusters map[string]*Cluster // the current ones
	warming  map[string]*Cluster // and those that will take their place
	// aggregates are those of clusters that have others for members
	aggregates []*Cluster
	caches     map[string]*cache   // by name
	awaited    map[string][]func() // by name of cluster
	started    bool
	batch      int
	calls      []func() // wait for all
	// atomic
	set snapshot.Value[map[string]*Cluster]
}

// NewManager makes a manager without clusters.
func NewManager(env Env) *Manager {
	if env.Extensions == nil {
		env.Extensions = Builtin()
	}
	m := &Manager{
		env: env, epoch: time.Now(), clusters: map[string]*Cluster{}, warming: map[string]*Cluster{},
		caches: map[string]*cache{}, awaited: map[string][]func(){},
		stats: stats.New[managerStats](env.Stats.Root().Sub("cluster_manager")), dns: &dns.Client{Timeout: 5 * time.Second, Tries: 4},
	}
	if m.bind, m.err = parseBind(env.Bind); m.err != nil {
		m.err = fmt.Errorf("cluster_manager.upstream_bind_config.%w", m.err)
	}
	if env.DNS != nil && m.err == nil {
		if m.dns, m.err = typedResolver(env.DNS); m.err != nil {
			m.err = fmt.Errorf("typed_dns_resolver_config: %w", m.err)
		}
	}
	if env.OutlierLog != "" && m.err == nil {
		f, err := env.Files.Open(env.OutlierLog)
		if m.err = err; err == nil {
			m.outliers = outlier.NewLog(f)
		}
	}
	m.set.Store(&m.clusters)
	return m
}

func (m *Manager) now() time.Duration { return time.Since(m.epoch) }

func (m *Manager) post(f func()) { m.env.Control.Post(f) }

// after calls f on the control loop after d.
func (m *Manager) after(d time.Duration, f func()) (stop func()) {
	t := time.AfterFunc(d, func() { m.env.Control.Post(f) })
	return func() { t.Stop() }
}

// Get returns the current version of a cluster, nil if there is none. Any goroutine may call it.
func (m *Manager) Get(name string) *Cluster { return (*m.set.Load())[name] }

// Count is how many clusters there are. Any goroutine may call it.
func (m *Manager) Count() int64 { return m.stats.Active.Value() }

// Each calls f for every cluster, sorted by name.
func (m *Manager) Each(f func(*Cluster)) {
	for _, n := range m.Names() {
		f(m.clusters[n])
	}
}

// Names returns the names of all clusters, sorted.
func (m *Manager) Names() []string { return slices.Sorted(maps.Keys(m.clusters)) }

// Start begins to find hosts, in two steps as in Envoy: first those of the clusters that need no control plane, since it may be one of
// them; then primary is called, and the others follow when it calls what it is given. Ready is called when every cluster is warm. All is on the control loop.
func (m *Manager) Start(primary func(then func()), ready func()) {
	m.started = true
	frozen := maps.Clone(m.clusters)
	m.set.Store(&frozen)
	m.begin((*Cluster).primary, func(c *Cluster, f func()) bool { c.onFound = f; return !c.found }, func() {
		primary(func() {
			m.begin(func(c *Cluster) bool { return !c.primary() }, nil, func() {})
			m.begin(nil, func(c *Cluster, f func()) bool { c.onWarm = f; return !c.warm }, ready)
		})
	})
}

// begin starts the clusters that are chosen, nil: none, and calls then when all that the process shall wait for have come so far as wait
// says, which is given what to call then.
func (m *Manager) begin(chosen func(*Cluster) bool, wait func(c *Cluster, f func()) bool, then func()) {
	waiting := 1
	one := func() {
		if waiting--; waiting == 0 {
			then()
		}
	}
	var list []*Cluster
	for _, name := range m.Names() {
		c := m.clusters[name]
		if chosen != nil && !chosen(c) {
			continue
		}
		list = append(list, c)
		if wait != nil && c.config.waitForWarm && wait(c, one) {
			waiting++
		}
	}
	for _, c := range list {
		if chosen != nil {
			c.start()
		}
	}
	one()
}

// Close ends everything that runs for clusters: look-ups, timers, connections without a stream.
func (m *Manager) Close() {
	for _, set := range []map[string]*Cluster{m.clusters, m.warming} {
		for _, c := range set {
			c.close()
		}
	}
	for _, c := range m.caches {
		c.Close()
	}
}

// Batch calls f and publishes what it adds and removes at once.
func (m *Manager) Batch(f func()) {
	m.batch++
	f()
	if m.batch--; m.batch == 0 {
		m.publish()
	}
}

func (m *Manager) publish() {
	m.stats.Active.Set(int64(len(m.clusters)))
	m.stats.Warming.Set(int64(len(m.warming)))
	if m.started && m.batch == 0 { // before Start the map itself is published
		frozen := maps.Clone(m.clusters)
		m.set.Store(&frozen)
	}
	m.calm()
}

// Add makes a cluster, or the next version of it; static says that it comes from the bootstrap. Before Start it is there at once,
// afterwards when it is warm. A configuration that means the same as the current one changes nothing, nor does an update of a
// static cluster from elsewhere.
func (m *Manager) Add(p *clusterv3.Cluster, static bool) error {
	_, err := m.Update(p, static, "")
	return err
}

// Update is Add for a version of a control plane's; changed is false if it means the same as before.
func (m *Manager) Update(p *clusterv3.Cluster, static bool, version string) (changed bool, err error) {
	if m.err != nil {
		return false, m.err
	}
	if old := m.latest(p.GetName()); old != nil && (old.Static && !static || proto.Equal(old.Proto, p)) {
		return false, nil
	}
	c, err := m.build(p, static)
	if err != nil {
		return false, fmt.Errorf("cluster %q: %w", p.GetName(), err)
	}
	c.Version = version
	if m.latest(c.Name) == nil {
		m.stats.Added.Inc()
	} else {
		m.stats.Modified.Inc()
	}
	if !m.started {
		m.install(c)
		return true, nil
	}
	if w := m.warming[c.Name]; w != nil {
		w.discard(m)
	}
	m.warming[c.Name] = c
	c.onWarm = func() { m.install(c) }
	c.start()
	if !c.config.waitForWarm && !c.warm {
		c.warm = true
		m.install(c)
	}
	m.publish()
	return true, nil
}

func (m *Manager) latest(name string) *Cluster {
	if c := m.warming[name]; c != nil {
		return c
	}
	return m.clusters[name]
}

// install makes c the current version.
func (m *Manager) install(c *Cluster) {
	if m.warming[c.Name] == c {
		delete(m.warming, c.Name)
	}
	old := m.clusters[c.Name]
	m.clusters[c.Name] = c
	m.aggregated(old, c)
	m.publish()
	m.hostsChanged(c)
	if old != nil {
		old.discard(m)
	}
	m.arrived(c.Name)
}

// Remove takes a cluster away; false if there is none, or if it is static.
func (m *Manager) Remove(name string) bool {
	if c := m.latest(name); c == nil || c.Static || c.derived {
		return false
	}
	m.drop(name)
	return true
}

// drop takes a cluster away, whoever has made it.
func (m *Manager) drop(name string) {
	if m.latest(name) == nil {
		return
	}
	for _, set := range []map[string]*Cluster{m.warming, m.clusters} {
		if c := set[name]; c != nil {
			delete(set, name)
			m.aggregated(c, nil)
			m.relink(name)
			c.discard(m)
		}
	}
	m.stats.Removed.Inc()
	m.publish()
}

// discard ends a version that is no longer current.
func (c *Cluster) discard(m *Manager) {
	c.close()
	stats.Drop[Stats](c.Codes)
	if c.routing.Load() != nil {
		stats.Drop[pool.Responses](c.Codes)
	}
	if c.pools.Sizes != nil {
		stats.Drop[pool.Sizes](c.Codes)
	}
	if c.Budgets != nil {
		stats.Drop[pool.Budgets](c.Codes)
	}
	c.dropHash()
	if c.reporter != nil {
		stats.Drop[reportStats](c.Codes.Sub("lb_orca_oob"))
	}
	for zone := range c.zones {
		stats.Drop[pool.ZoneResponses](c.zoneScope(zone))
	}
}

// local is the cluster that this proxy is a part of, nil if it does not say.
func (m *Manager) local() *Cluster {
	if m.env.LocalCluster == "" {
		return nil
	}
	return m.clusters[m.env.LocalCluster]
}

// hostsChanged lets zones be routed anew when the local cluster has changed.
func (m *Manager) hostsChanged(c *Cluster) {
	if len(m.aggregates) > 0 {
		m.relink(c.Name)
	}
	if m.env.LocalCluster != c.Name {
		return
	}
	for _, other := range m.clusters {
		if other != c {
			other.rezone()
		}
	}
}

// build makes a cluster that has not started.
func (m *Manager) build(p *clusterv3.Cluster, static bool) (*Cluster, error) {
	o, err := parse(p)
	if err != nil {
		return nil, err
	}
	scope := m.env.Stats.Root().Sub("cluster").Sub(o.altName)
	c := &Cluster{
		Name: o.name, AltName: o.altName, Metadata: o.metadata, Static: static, Proto: p, Updated: time.Now(),
		TCPIdle: o.tcpIdle, MaxStreamDuration: o.http.maxStream, m: m, config: o, balancers: make([]*balancer, len(m.env.Workers)),
		Codes: scope,
	}
	sockets, err := m.sockets(c)
	if err != nil {
		return nil, err
	}
	if o.http.protocol == pool.Auto && !sockets.negotiates() {
		sockets.close()
		return nil, fmt.Errorf("ALPN configured for cluster %s which has a non-ALPN transport socket", o.name)
	}
	c.sockets = sockets
	c.Stats = stats.New[Stats](c.Codes)
	if !o.provides() {
		c.Stats.TransportSocketDefaultMatch.Inc()
	}
	if p.GetUpstreamBindConfig() == nil {
		o.bind = m.bind
	}
	d := &dialer{bind: o.bind, keepalive: sockopt.Keepalive(o.keepalive), stats: c.Stats, ids: &m.ids, first: o.first}
	c.pools = pool.Config{
		ConnectTimeout: o.connectTimeout, IdleTimeout: o.http.idle, TCPIdle: o.tcpIdle, Duration: o.http.connectionDuration,
		MaxRequests: o.http.maxRequests, PerDownstream: o.perDownstream, Preconnect: o.preconnect, HostConnections: o.hostConnections,
		HTTP1: &o.http.http1, HTTP2: &o.http.http2, Protocol: o.http.protocol, Stats: c.Stats, Dial: d.dial, Header: sockets.header(),
		Opened: sync.OnceFunc(func() { stats.New[pool.CodecStats](c.Codes.Sub("http1")) }),
	}
	if o.http.protocol != pool.HTTP1 {
		o.http.http2.Stats = stats.New[http2.Stats](c.Codes.Sub("http2"))
	}
	if o.sizes {
		c.pools.Sizes = stats.New[pool.Sizes](c.Codes)
	}
	if o.budgets {
		c.Budgets = stats.New[pool.Budgets](c.Codes)
	}
	for i, b := range []*pool.BreakerStats{&c.Stats.Default, &c.Stats.High} {
		o.limits[i].Runtime, o.limits[i].Prefix = m.env.Runtime, fmt.Sprintf("circuit_breakers.%s.%v.", o.name, pool.Priority(i))
		c.pools.Limits[i] = pool.NewLimits(o.limits[i], b)
	}
	c.dial, c.pools.CloseOnFailure, c.pools.Workers = d.dial, o.closeOnFailure, m.env.Workers
	c.hash()
	c.hosts.Store(nothing())
	c.originals.set.Store(&map[netip.AddrPort]*original{})
	if err := c.buildHealth(); err != nil {
		c.discard(m)
		return nil, err
	}
	if err := c.report(); err != nil {
		c.discard(m)
		return nil, err
	}
	if err := c.begin(); err != nil {
		c.discard(m)
		return nil, err
	}
	return c, nil
}

// begin gives a cluster its source. What needs no question is there at once.
func (c *Cluster) begin() (err error) {
	o := c.config
	switch o.kind {
	case static:
		c.update(o.assignment)
	case originalDst, aggregate:
		c.row.Store(&row{})
		c.update(&discovery.Assignment{})
	case forward:
		return c.forwardTo()
	case eds:
		c.source, err = c.discover()
		return err
	default:
		resolver := o.dns.resolver
		if resolver == nil {
			resolver = c.m.dns
		}
		c.m.count(resolver)
		c.source = dns.New(dns.Config{
			Assignment: o.assignment, Logical: o.kind == logicalDNS, Family: o.dns.family, Refresh: o.dns.refresh, Least: o.dns.least,
			RespectTTL: o.dns.respectTTL, Jitter: o.dns.jitter, FailureBase: o.dns.failureBase, FailureMax: o.dns.failureMax, Resolver: resolver,
			Counts: counts{c.Stats}, After: c.m.after, Post: c.m.post, Gate: &c.m.gate,
		})
	}
	return nil
}

// count lets a resolver count its questions.
func (m *Manager) count(r dns.Resolver) {
	if r, ok := r.(*dns.Client); ok && r.Stats == nil {
		r.Stats = stats.New[dns.Stats](m.env.Stats.Root().Sub("dns").Sub("cares"))
	}
}

// start asks the questions.
func (c *Cluster) start() {
	c.startHealth()
	if c.reporter != nil {
		c.reporter.start()
	}
	c.weigh()
	switch {
	case c.source != nil:
		c.source.Start(c.update)
	case c.config.kind == originalDst:
		c.startOriginals()
	}
	if c.warm && c.onWarm != nil && c.source == nil {
		c.onWarm()
	}
}

// counts are the update_* statistics, as discovery counts them.
type counts struct{ s *Stats }

func (c counts) Attempt()   { c.s.UpdateAttempt.Inc() }
func (c counts) Success()   { c.s.UpdateSuccess.Inc() }
func (c counts) Failure()   { c.s.UpdateFailure.Inc() }
func (c counts) Empty()     { c.s.UpdateEmpty.Inc() }
func (c counts) Unchanged() { c.s.UpdateNoRebuild.Inc() }
