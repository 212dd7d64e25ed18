// Package proxy is a running process: it makes clusters, listeners and the admin interface of a bootstrap, starts them in order,
// and ends them without losing a request.
package proxy

import (
	"fmt"
	"os"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"go.uber.org/zap"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/control"
	"github.com/outrigger-proxy/outrigger/internal/drain"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/internal/logfile"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/transport"
	"github.com/outrigger-proxy/outrigger/listener"
	"github.com/outrigger-proxy/outrigger/proxy/admin"
)

// Engine makes a worker: fiber.New or fiber.NewGoroutines.
type Engine func(id int) (*fiber.Worker, error)

// Options are what a process is made of beside its bootstrap.
type Options struct {
	// Flags are the values of the command line's flags; /server_info shows them.
	Flags      *adminv3.CommandLineOptions
	Extensions *filter.Extensions
	Logs       *log.Set
	Engine     Engine
	// Started is when the process began, for server.initialization_time_ms. Zero: now.
	Started time.Time
	// LastGoodDir is where accepted resources of control planes are kept, for a start while they are away. Empty: nowhere.
	LastGoodDir string
}

// Proxy is one process. Its methods may be called from any goroutine.
type Proxy struct {
	// set at construction
	Stats     *stats.Store
	Clusters  *cluster.Manager
	Listeners *listener.Manager
	Workers   []*fiber.Worker
	Control   *control.Loop
	Runtime   *runtime.Loader
	Files     *logfile.Set
	Secrets   *transport.Secrets
	bootstrap *bootstrapv3.Bootstrap
	options   Options
	config    *config
	dynamic   dynamic
	drain     *drain.Drain
	process   *filter.Process
	admin     *admin.Server
	server    *server
	log       *zap.Logger
	live      chan struct{} // closed by start
	ended     chan struct{} // closed by quit

	// atomic
	state atomic.Int32 // adminv3.ServerInfo_State

	quit sync.Once
	// owned by the control loop
	draining bool
	relaxing *time.Timer // until memory is given back
}

// New builds everything that b asks for and binds the sockets; nothing is accepted before Run. In validate mode no socket is
// bound. The error names the place in the bootstrap; whatever was made is given back.
func New(b *bootstrapv3.Bootstrap, o Options) (*Proxy, error) {
	if o.Started.IsZero() {
		o.Started = time.Now()
	}
	c, err := parse(b, o.Flags, o.Extensions)
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		bootstrap: b, options: o, config: c, Stats: &stats.Store{}, Control: control.New(), drain: drain.New(nil),
		log: o.Logs.Get("main"), live: make(chan struct{}), ended: make(chan struct{}),
	}
	p.state.Store(int32(adminv3.ServerInfo_PRE_INITIALIZING))
	if err := p.build(); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Proxy) validating() bool {
	return p.options.Flags.GetMode() == adminv3.CommandLineOptions_Validate
}

func (p *Proxy) build() (err error) {
	p.server = newServer(p)
	if err := p.makeClient(); err != nil {
		return err
	}
	if p.Runtime, err = runtime.New(runtime.Config{
		Layered: p.bootstrap.GetLayeredRuntime(), ServiceCluster: p.config.node.GetCluster(), Stats: p.Stats.Root(),
		Resources: p.dynamic.client, Log: p.options.Logs.Get("runtime"),
	}); err != nil {
		return fmt.Errorf("layered_runtime: %w", err)
	}
	p.dynamic.runtime = p.Runtime
	if err := p.makeWorkers(); err != nil {
		return err
	}
	p.Files = logfile.New(p.logOptions(), p.Stats.Root())
	p.Secrets = transport.NewSecrets(p.Control.Post, p.options.Logs.Get("secret"), p.Stats.Root())
	p.Secrets.Resources = p.dynamic.client
	p.makeManagers()
	// The admin interface is there from the start, but what it asks of the control loop waits for Run.
	if err := p.openAdmin(); err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	return p.addResources()
}

func (p *Proxy) makeWorkers() error {
	panics := p.Stats.Root().Counter("server.envoy_bug_failures")
	for id := range max(1, int(p.options.Flags.GetConcurrency())) {
		w, err := p.options.Engine(id)
		if err != nil {
			return fmt.Errorf("worker %d: %w", id, err)
		}
		w.Panicked = func(v any) {
			panics.Inc()
			p.log.Error("panic in a fiber", zap.Int("worker", id), zap.Any("panic", v), zap.Stack("stack"))
		}
		p.Workers = append(p.Workers, w)
	}
	return nil
}

func (p *Proxy) logOptions() logfile.Options {
	return logfile.Options{
		FlushInterval: p.options.Flags.GetFileFlushInterval().AsDuration(),
		MinFlush:      int(p.options.Flags.GetFileFlushMinSize()) << 10,
		Workers:       len(p.Workers),
	}
}

func (p *Proxy) makeManagers() {
	p.Clusters = cluster.NewManager(cluster.Env{
		Workers: p.Workers, Stats: p.Stats, Runtime: p.Runtime, Logs: p.options.Logs, Files: p.Files, Control: p.Control, Secrets: p.Secrets,
		Resources: p.dynamic.client, Extensions: &cluster.Extensions{TransportSockets: p.options.Extensions.Upstream},
		Locality: p.config.locality, LocalCluster: p.bootstrap.GetClusterManager().GetLocalClusterName(),
		Bind: p.bootstrap.GetClusterManager().GetUpstreamBindConfig(), DNS: p.config.dns,
		OutlierLog: p.outlierLog(),
	})
	p.process = &filter.Process{
		Workers: p.Workers, Clusters: p.Clusters, Stats: p.Stats, Runtime: p.Runtime, Logs: p.options.Logs,
		Files: p.Files, Secrets: p.Secrets, Extensions: p.options.Extensions, Node: p.config.filterNode(),
		Resources: p.dynamic.client, Routes: filter.NewRoutes(p.dynamic.client),
	}
	p.Listeners = listener.NewManager(listener.Config{
		Process: p.process, Control: p.Control, Drain: p.drain, DrainTime: p.drainTime(),
		Validate: p.validating(), DrainImmediate: p.options.Flags.GetDrainStrategy() == adminv3.CommandLineOptions_Immediate, MaxConnections: p.config.maxConnections,
	})
}

// outlierLog is the path of the event log of outlier detection; a process that only validates opens no files.
func (p *Proxy) outlierLog() string {
	if p.validating() {
		return ""
	}
	return p.bootstrap.GetClusterManager().GetOutlierDetection().GetEventLogPath()
}

// addResources makes the static clusters and then the listeners, which may name them.
func (p *Proxy) addResources() error {
	if err := p.Secrets.Add(p.bootstrap.GetStaticResources().GetSecrets()); err != nil {
		return fmt.Errorf("static_resources.secrets%w", err)
	}
	seen := map[string]bool{}
	for i, c := range p.bootstrap.GetStaticResources().GetClusters() {
		if seen[c.GetName()] {
			return fmt.Errorf("static_resources.clusters[%d]: cluster manager: duplicate cluster '%s'", i, c.GetName())
		}
		seen[c.GetName()] = true
		if err := p.Clusters.Add(c, true); err != nil {
			return err
		}
	}
	if n := p.bootstrap.GetClusterManager().GetLocalClusterName(); n != "" && p.Clusters.Get(n) == nil {
		return fmt.Errorf("cluster_manager: local_cluster_name: local cluster '%s' must be defined", n)
	}
	for _, l := range p.bootstrap.GetStaticResources().GetListeners() {
		if err := p.Listeners.Add(l); err != nil {
			return err
		}
	}
	return p.subscribe()
}

func (p *Proxy) drainTime() time.Duration { return p.options.Flags.GetDrainTime().AsDuration() }

func (p *Proxy) openAdmin() (err error) {
	p.admin, err = admin.New(p.bootstrap.GetAdmin(), admin.Process{
		Process: p.process, Listeners: p.Listeners, Bootstrap: p.bootstrap, Flags: p.options.Flags, Node: p.config.node, Control: p.Control,
		Tags: p.config.tags, Buckets: p.config.buckets, Keep: p.config.keep, FlushOnAdmin: p.bootstrap.GetStatsFlushOnAdmin(),
		Started: p.options.Started, Lifecycle: (*lifecycle)(p), Dynamic: &p.dynamic,
	})
	if err != nil || p.admin == nil || p.validating() {
		return err
	}
	return p.admin.Listen()
}

// Run serves until Quit, or until a drain that Shutdown began has ended.
func (p *Proxy) Run() {
	// A waiting worker keeps its P; one more is for the control loop, the admin interface and everything else.
	goruntime.GOMAXPROCS(len(p.Workers) + 1)
	var running sync.WaitGroup
	p.watchWorkers()
	if p.bootstrap.GetEnableWorkerCpuAffinity() {
		p.pinWorkers()
	}
	running.Go(p.Control.Run)  // ends with p.Control.Stop
	running.Go(p.watchControl) // ends with p.ended
	for _, w := range p.Workers {
		running.Go(w.Run) // ends with w.Stop
	}
	p.state.Store(int32(adminv3.ServerInfo_INITIALIZING))
	p.Control.Post(p.start)
	<-p.ended
	p.stop()
	running.Wait()
	p.dynamic.client.Wait()
	p.Files.Close()
}

// Live is closed once every listener accepts connections.
func (p *Proxy) Live() <-chan struct{} { return p.live }

// Close gives back what a Proxy that never ran holds.
func (p *Proxy) Close() {
	p.stop()
	for _, w := range p.Workers {
		w.Run() // ends at once, and closes what the worker has
	}
	if p.Files != nil {
		p.Files.Close()
	}
}

// stop ends the goroutines of Run, in the opposite order of their making.
func (p *Proxy) stop() {
	if p.admin != nil {
		p.admin.Close()
	}
	p.Runtime.Close()
	if p.Secrets != nil {
		p.Secrets.Close()
	}
	closed := func() {
		if p.dynamic.client != nil {
			p.dynamic.client.Close()
		}
		if p.relaxing != nil {
			p.relaxing.Stop()
		}
		if p.Listeners != nil {
			p.Listeners.Close()
		}
		if p.Clusters != nil {
			p.Clusters.Close()
		}
	}
	p.Control.Post(closed)
	p.Control.Stop()
	for _, w := range p.Workers {
		w.Stop()
	}
}

// AdminAddress returns where the admin interface listens, empty if there is none.
func (p *Proxy) AdminAddress() string {
	if p.admin == nil {
		return ""
	}
	return p.admin.Address()
}

// writeAdminAddress leaves the address for whoever started the process (--admin-address-path).
func (p *Proxy) writeAdminAddress() {
	path := p.options.Flags.GetAdminAddressPath()
	if path == "" || p.admin == nil {
		return
	}
	if err := os.WriteFile(path, []byte(p.AdminAddress()), 0o600); err != nil {
		p.log.Error("cannot write the admin address", zap.String("path", path), zap.Error(err))
	}
}
