// Package health checks hosts by asking them (envoy.config.core.v3.HealthCheck), as Envoy's health checkers do.
//
// A Checker belongs to a version of a cluster, a Session to one of its hosts. Both belong to the control loop, which keeps the times and
// decides what an answer means. What goes over the wire runs on a fiber of a worker, so that TLS and codecs are those of the request
// path: hosts are dealt to the workers in turn, and a host's checks, and the connection that it keeps for them, stay with its worker.
package health

import (
	"time"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/logfile"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Env is what a checker needs of its cluster.
type Env struct {
	Cluster string
	Stats   stats.Scope // cluster.<name>.
	Runtime *runtime.Loader
	Workers []*fiber.Worker
	HTTP1   *http1.Options
	HTTP2   *http2.Options
	// Draw is a random number.
	Draw func() uint64
	// Post runs f on the control loop; any goroutine may call it.
	Post func(f func())
	// After calls f on the control loop after d; stop ends it.
	After func(d time.Duration, f func()) (stop func())
	// Dial connects to a host and shakes hands; it runs on a fiber.
	Dial func(w *fiber.Worker, to pool.Target, i *pool.Info) (fiber.Conn, error)
	// Traffic says whether the cluster has had any since it is there.
	Traffic func() bool
	// Logs take the events.
	Logs []*logfile.Events // of envoy.data.core.v3.HealthCheckEvent
}

// Result is what a check has come to.
type Result struct {
	// Changed says that the host's flags are others now.
	Changed bool
	// Passed says that the check was passed.
	Passed bool
	// First says that it was the host's first.
	First bool
}

// Host is what is checked. All but what is set at construction belongs to the control loop.
type Host struct {
	// Flags are those of the host; checks set and clear theirs.
	Flags *Flags
	// Target says where checks go to.
	Target func() pool.Target
	// Checked is called after each check, and once for a host that goes before its first one has ended.
	Checked func(r Result)
	// Address is the host's own, Hostname its name for checks (health_check_config.hostname), and Metadata and Locality what the control
	// plane says of it: for events and headers.
	Address               stream.Address
	Hostname              string
	Metadata              stream.Metadata
	Region, Zone, Subzone string
}

// checkStats are cluster.<name>.health_check.*
type checkStats struct {
	Attempt        stats.Counter `stat:"attempt"`
	Success        stats.Counter `stat:"success"`
	Failure        stats.Counter `stat:"failure"`
	PassiveFailure stats.Counter `stat:"passive_failure"`
	NetworkFailure stats.Counter `stat:"network_failure"`
	VerifyCluster  stats.Counter `stat:"verify_cluster"`
	Healthy        stats.Gauge   `stat:"healthy"`
	Degraded       stats.Gauge   `stat:"degraded"`
}

// Checker checks the hosts of a cluster in one way.
type Checker struct {
	// set at construction
	env    Env
	config *Config
	scope  stats.Scope
	stats  *checkStats
	// owned by the control loop
	started bool
	dealt   int // hosts that were given to a worker
}

// New makes a checker without hosts. Nothing is asked before Start.
func New(c *Config, env Env) *Checker {
	scope := env.Stats.Sub("health_check")
	if c.name != "" {
		scope = scope.Sub("name").Sub(c.name)
	}
	return &Checker{env: env, config: c, scope: scope, stats: stats.New[checkStats](scope)}
}

// Start begins to check hosts that are added from now on as soon as they are; those that are there must be started by themselves.
func (c *Checker) Start() { c.started = true }

// Close drops the statistics; the sessions end by themselves.
func (c *Checker) Close() { stats.Drop[checkStats](c.scope) }

// Add makes a session for a host. It starts at once if the checker has started, else with Session.Start.
func (c *Checker) Add(h *Host) *Session {
	s := &Session{c: c, host: h, worker: c.env.Workers[c.dealt%len(c.env.Workers)], first: true}
	s.probe = c.config.probe()
	c.dealt++
	if !h.Flags.Has(FailedActive) {
		c.stats.Healthy.Inc()
	}
	if h.Flags.Has(DegradedActive) {
		c.stats.Degraded.Inc()
	}
	if c.started {
		s.Start()
	}
	return s
}
