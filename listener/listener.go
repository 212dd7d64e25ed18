// Package listener accepts connections and hands each to its filter chain.
package listener

import (
	"fmt"
	"net/netip"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/snapshot"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Listener has a socket on each worker.
type Listener struct {
	// set at construction
	Name string
	addr netip.AddrPort
	// atomic
	chain snapshot.Value[chain]
}

// chain is a compiled filter chain; the slice matches none but the first.
type chain struct {
	filters  []filter.Network
	terminal filter.Terminal
}

// New builds a listener; it listens after Listen.
func New(p *listenerv3.Listener, env filter.Env) (*Listener, error) {
	l := &Listener{Name: p.GetName()}
	sa := p.GetAddress().GetSocketAddress()
	ip, err := netip.ParseAddr(sa.GetAddress())
	if err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	l.addr = netip.AddrPortFrom(ip, uint16(sa.GetPortValue()))
	if len(p.GetFilterChains()) != 1 || len(p.GetListenerFilters()) > 0 {
		return nil, fmt.Errorf("filter_chains: the slice has one")
	}
	c := &chain{}
	for i, f := range p.GetFilterChains()[0].GetFilters() {
		v, err := env.Extensions.Network.Build(f.GetTypedConfig(), env)
		if err != nil {
			return nil, fmt.Errorf("filter_chains[0].filters[%d]: %w", i, err)
		}
		if t, ok := v.(filter.Terminal); ok {
			c.terminal = t
		} else if n, ok := v.(filter.Network); ok {
			c.filters = append(c.filters, n)
		}
	}
	if c.terminal == nil {
		return nil, fmt.Errorf("filter_chains[0].filters: no terminal filter")
	}
	l.chain.Store(c)
	return l, nil
}

// Listen opens the socket of a worker. It is called on that worker, or before it runs.
func (l *Listener) Listen(w *fiber.Worker) error {
	sock, err := fiber.Bind(fiber.ListenConfig{Address: stream.Address{AddrPort: l.addr}, ReusePort: true})
	if err != nil {
		return err
	}
	defer sock.Close()
	f, err := w.Accept(sock, fiber.AcceptOptions{}, func(c fiber.Conn) {
		l.accept(&filter.Conn{Conn: c, Worker: w, Info: &stream.Conn{Remote: c.Remote(), Start: w.Now()}})
	})
	if err == nil && l.addr.Port() == 0 {
		l.addr = f.Address().AddrPort
	}
	return err
}

// Addr returns the address after the first Listen.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// accept needs a fiber only if a filter may wait.
func (l *Listener) accept(c *filter.Conn) {
	ch := l.chain.Load()
	if len(ch.filters) == 0 {
		ch.terminal.Open(c)
		return
	}
	c.Worker.Go(func() {
		for _, f := range ch.filters {
			if f.OnConn(c) == filter.Stop {
				_ = c.Close()
				return
			}
		}
		ch.terminal.Open(c)
	})
}
