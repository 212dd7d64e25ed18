// Package harness is what the end-to-end tests stand on: it starts a whole proxy in this process, on either engine, or a binary such as
// real Envoy, asks its admin interface and its listeners, and plays its hosts.
//
// An address is HOST:PORT, or the path of a unix socket.
package harness

import (
	"cmp"
	"os"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/filter/all"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/listener"
	"github.com/outrigger-proxy/outrigger/proxy"
	"github.com/outrigger-proxy/outrigger/proxy/bootstrap"
)

// Patience is how long anything may take that ought to happen at once: builds under the race detector on busy machines are slow.
const Patience = 20 * time.Second

// Admin is the part of a bootstrap that has an admin interface, on a free port.
const Admin = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n"

// Proxy is a proxy that runs in this process.
type Proxy struct {
	*proxy.Proxy
	Pages

	tb    testing.TB
	ended chan struct{}
}

// Option changes what a proxy is started with.
type Option func(o *proxy.Options)

// On runs the proxy on an engine.
func On(e proxy.Engine) Option { return func(o *proxy.Options) { o.Engine = e } }

// Flags are those that differ from Options'.
func Flags(change func(f *adminv3.CommandLineOptions)) Option {
	return func(o *proxy.Options) { change(o.Flags) }
}

// EngineName is the engine that tests run on which run on one alone: that of OUTRIGGER_ENGINE.
func EngineName() string { return cmp.Or(os.Getenv("OUTRIGGER_ENGINE"), "epoll") }

// Options are those of a test: every extension, one worker on the engine of OUTRIGGER_ENGINE, times that are short, and no log.
func Options(change ...Option) proxy.Options {
	o := proxy.Options{
		Flags:      &adminv3.CommandLineOptions{Concurrency: 1, DrainTime: durationpb.New(time.Second), FileFlushInterval: durationpb.New(5 * time.Millisecond)},
		Extensions: all.Extensions(), Logs: log.Discard(), Engine: fibertest.Engines()[EngineName()],
	}
	for _, f := range change {
		f(&o)
	}
	return o
}

// New makes a proxy of a bootstrap in YAML, and does not run it.
func New(config string, change ...Option) (*proxy.Proxy, error) {
	r, err := bootstrap.Load(bootstrap.Source{YAML: config})
	if err == nil {
		_, err = log.CompileConfig(r.Bootstrap.GetApplicationLogConfig())
	}
	if err != nil {
		return nil, err
	}
	return proxy.New(r.Bootstrap, Options(change...))
}

// Check says what `--mode validate` would say of a bootstrap.
func Check(config string, change ...Option) error {
	p, err := New(config, append(change, Flags(func(f *adminv3.CommandLineOptions) { f.Mode = adminv3.CommandLineOptions_Validate }))...)
	if err == nil {
		p.Close()
	}
	return err
}

// Start runs a proxy until the test ends, and waits until it is live.
func Start(tb testing.TB, config string, change ...Option) *Proxy {
	tb.Helper()
	return Begin(tb, config, change...).WaitLive()
}

// Begin runs a proxy until the test ends.
func Begin(tb testing.TB, config string, change ...Option) *Proxy {
	tb.Helper()
	p, err := New(config, change...)
	if err != nil {
		tb.Fatal(err)
	}
	r := Run(tb, p)
	tb.Cleanup(r.Stop)
	return r
}

// Run runs a proxy that New has made, until Stop.
func Run(tb testing.TB, p *proxy.Proxy) *Proxy {
	tb.Helper()
	r := &Proxy{Proxy: p, Pages: Pages{tb, p.AdminAddress()}, tb: tb, ended: make(chan struct{})}
	go func() { p.Run(); close(r.ended) }() // ends with Stop, or by itself
	return r
}

// Stop ends it at once, and waits for its end.
func (p *Proxy) Stop() { p.Quit(); <-p.ended }

// Terminate asks it to end as an operator does, and waits for its end.
func (p *Proxy) Terminate() error {
	p.Shutdown()
	return await(p.ended)
}

// Ended is closed when it has ended.
func (p *Proxy) Ended() <-chan struct{} { return p.ended }

// WaitLive waits until it serves.
func (p *Proxy) WaitLive() *Proxy {
	p.tb.Helper()
	select {
	case <-p.Live():
	case <-p.ended: // in modes that do not serve
	case <-time.After(Patience):
		p.tb.Fatalf("the proxy is not live: %s", p.Page("/init_dump"))
	}
	return p
}

// Address is where a listener listens; an empty name means the first one.
func (p *Proxy) Address(name string) (address string) {
	p.tb.Helper()
	p.Control.Do(func() {
		p.Listeners.Each(func(v listener.View) {
			if address == "" && (name == "" || v.Name == name) {
				address = v.Addresses[0].String()
			}
		})
	})
	if address == "" {
		p.tb.Fatalf("there is no listener %q", name)
	}
	return address
}

// Get asks a listener for a path, and returns status and body.
func (p *Proxy) Get(name, path string) string {
	p.tb.Helper()
	return Get(p.tb, Client(p.Address(name)), "http://x"+path)
}
