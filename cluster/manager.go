package cluster

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/control"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/internal/logfile"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/snapshot"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

// Env is what clusters need of their process.
type Env struct {
	Workers []*fiber.Worker
	Stats   *stats.Store
	Runtime *runtime.Loader
	Logs    *log.Set
	Files   *logfile.Set
	Control *control.Loop
	// Locality is the node's: zone-aware routing compares with it.
	Locality Locality
	// LocalCluster is cluster_manager.local_cluster_name: the cluster that this proxy is a part of.
	LocalCluster string
	Extensions   *Extensions
}

// Extensions are the tables of what a cluster's configuration may name.
type Extensions struct{}

// Manager owns the clusters. All but Get belongs to the control loop.
type Manager struct {
	// set at construction
	env Env
	// owned by the control loop
	started bool
	// atomic
	set snapshot.Value[map[string]*Cluster]
}

// NewManager makes a manager without clusters.
func NewManager(env Env) *Manager {
	m := &Manager{env: env}
	m.set.Store(&map[string]*Cluster{})
	return m
}

// Get returns the current version of a cluster, nil if there is none. Any goroutine may call it.
func (m *Manager) Get(name string) *Cluster { return (*m.set.Load())[name] }

// Each calls f for every cluster, sorted by name.
func (m *Manager) Each(f func(*Cluster)) {
	for _, n := range m.Names() {
		f(m.Get(n))
	}
}

// Names returns the names of all clusters, sorted.
func (m *Manager) Names() []string {
	var names []string
	for n := range *m.set.Load() {
		names = append(names, n)
	}
	return names
}

// Start resolves what must be resolved and calls ready, on the control loop, when every cluster has come so far.
func (m *Manager) Start(ready func()) {
	m.started = true
	ready()
}

// Close ends everything that runs for clusters: look-ups, timers, idle connections.
func (m *Manager) Close() {}

// Add makes a cluster, or the next version of it; static says that it comes from the bootstrap. Before Start it is there at once,
// afterwards when it is warm.
func (m *Manager) Add(c *clusterv3.Cluster, static bool) error {
	cl, err := m.build(c, static)
	if err != nil {
		return fmt.Errorf("cluster %q: %w", c.GetName(), err)
	}
	(*m.set.Load())[cl.Name] = cl
	return nil
}

// Remove takes a cluster away; false if there is none.
func (m *Manager) Remove(name string) bool { return false }

func (m *Manager) build(c *clusterv3.Cluster, static bool) (*Cluster, error) {
	cl := &Cluster{Name: c.GetName(), AltName: c.GetName(), Static: static, BufferLimit: 1 << 20, policy: lb.RoundRobin{}}
	if n := c.GetAltStatName(); n != "" {
		cl.AltName = n
	}
	cl.Codes = m.env.Stats.Root().Sub("cluster").Sub(cl.AltName)
	cl.Stats = stats.New[Stats](cl.Codes)
	connect := 5 * time.Second
	if c.GetConnectTimeout() != nil {
		connect = c.GetConnectTimeout().AsDuration()
	}
	cl.config = pool.Config{ConnectTimeout: connect, IdleTimeout: time.Hour, Stats: cl.Stats, Dial: dial}
	for p := range cl.config.Limits {
		cl.config.Limits[p] = pool.NewLimits(pool.Maxima{Connections: 1024, Pending: 1024, Requests: 1024, Retries: 3, Pools: math.MaxInt64})
	}
	v := &hosts{}
	var balanced []lb.Host
	for i, l := range c.GetLoadAssignment().GetEndpoints() {
		for j, e := range l.GetLbEndpoints() {
			sa := e.GetEndpoint().GetAddress().GetSocketAddress()
			ip, err := netip.ParseAddr(sa.GetAddress())
			if err != nil {
				return nil, fmt.Errorf("load_assignment.endpoints[%d].lb_endpoints[%d]: %w", i, j, err)
			}
			h := &Host{Peer: pool.NewPeer(stream.Address{AddrPort: netip.AddrPortFrom(ip, uint16(sa.GetPortValue()))}, &cl.config, len(m.env.Workers)), Weight: 1}
			v.list = append(v.list, h)
			balanced = append(balanced, lb.Host{Weight: 1, Active: &h.Stats.RqActive})
		}
	}
	v.picker = cl.policy.Build(balanced, nil)
	cl.hosts.Store(v)
	return cl, nil
}

func dial(w *fiber.Worker, to stream.Address, i *pool.Info) (fiber.Conn, error) {
	c, err := w.Dial(to, nil)
	if err == nil {
		i.Local = c.Local()
	}
	return c, err
}
