// Package proxy is a running process: it makes clusters and listeners of a bootstrap.
package proxy

import (
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/listener"
	"github.com/outrigger-proxy/outrigger/proxy/admin"
)

// Proxy is one process.
type Proxy struct {
	Stats     *stats.Store
	Clusters  *cluster.Manager
	Listeners []*listener.Listener
	Workers   []*fiber.Worker
	running   sync.WaitGroup
	admin     net.Listener
}

// Engine makes a worker: fiber.New or fiber.NewGoroutines.
type Engine func(id int) (*fiber.Worker, error)

// New builds everything and opens the sockets.
func New(b *bootstrapv3.Bootstrap, ext *filter.Extensions, concurrency int, engine Engine) (*Proxy, error) {
	p := &Proxy{Stats: &stats.Store{}}
	panics := p.Stats.Root().Counter("server.fiber_panics")
	for i := range concurrency {
		w, err := engine(i)
		if err != nil {
			return nil, err
		}
		w.Panicked = func(v any) { panics.Inc(); fmt.Println("panic in a fiber:", v) }
		p.Workers = append(p.Workers, w)
	}
	p.Clusters = cluster.NewManager(cluster.Env{Workers: p.Workers, Stats: p.Stats})
	for _, c := range b.GetStaticResources().GetClusters() {
		if err := p.Clusters.Add(c, true); err != nil {
			return nil, err
		}
	}
	env := filter.Env{Process: &filter.Process{Clusters: p.Clusters, Stats: p.Stats, Workers: p.Workers, Extensions: ext}}
	for _, c := range b.GetStaticResources().GetListeners() {
		l, err := listener.New(c, env)
		if err != nil {
			return nil, fmt.Errorf("listener %q: %w", c.GetName(), err)
		}
		for _, w := range p.Workers {
			if err := l.Listen(w); err != nil {
				return nil, fmt.Errorf("listener %q: %w", c.GetName(), err)
			}
		}
		p.Listeners = append(p.Listeners, l)
	}
	return p, p.openAdmin(b)
}

func (p *Proxy) openAdmin(b *bootstrapv3.Bootstrap) (err error) {
	sa := b.GetAdmin().GetAddress().GetSocketAddress()
	if sa == nil {
		return nil
	}
	p.admin, err = net.Listen("tcp", fmt.Sprintf("%s:%d", sa.GetAddress(), sa.GetPortValue()))
	return err
}

// Run serves until Stop.
func (p *Proxy) Run() {
	runtime.GOMAXPROCS(len(p.Workers) + 1) // a waiting worker keeps its P
	if p.admin != nil {
		go func() { _ = http.Serve(p.admin, admin.Handler(p.Stats)) }() // ends when Stop closes the listener
	}
	for _, w := range p.Workers {
		p.running.Go(w.Run) // ends with Stop
	}
	p.running.Wait()
}

// Stop ends Run.
func (p *Proxy) Stop() {
	if p.admin != nil {
		_ = p.admin.Close()
	}
	for _, w := range p.Workers {
		w.Stop()
	}
}
