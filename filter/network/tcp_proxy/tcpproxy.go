// Package tcpproxy is envoy.filters.network.tcp_proxy.
package tcpproxy

import (
	"errors"
	"io"
	"math/rand/v2"
	"time"

	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/lb"
)

// Proxy is the terminal network filter.
type Proxy struct {
	clusters *cluster.Manager
	cluster  string
	idle     time.Duration
	cxTotal  *stats.Counter
	noRoute  *stats.Counter
}

// New builds it.
func New(p *tcpv3.TcpProxy, env filter.Env) (any, error) {
	if p.GetCluster() == "" {
		return nil, errors.New("cluster_specifier: only cluster is in the slice")
	}
	s := env.Stats.Root().Sub("tcp").Sub(p.GetStatPrefix())
	t := &Proxy{env.Clusters, p.GetCluster(), time.Hour, s.Counter("downstream_cx_total"), s.Counter("downstream_cx_no_route")}
	if p.GetIdleTimeout() != nil {
		t.idle = p.GetIdleTimeout().AsDuration()
	}
	return t, nil
}

// tunnel is a pair of connections. While nothing moves it owns neither fiber nor buffer.
type tunnel struct {
	p        *Proxy
	w        *fiber.Worker
	up, down half
	closed   bool
	lent     *pool.TCP
}

// half moves bytes one way.
type half struct {
	t        *tunnel
	from, to fiber.Conn
	pump     func(expired bool)
	ended    bool
}

// Open connects upstream.
func (p *Proxy) Open(c *filter.Conn) {
	p.cxTotal.Inc()
	t := &tunnel{p: p, w: c.Worker}
	c.Worker.Go(func() { t.connect(c) })
}

func (t *tunnel) connect(c *filter.Conn) {
	cl := t.p.clusters.Get(t.p.cluster)
	if cl == nil {
		t.p.noRoute.Inc()
		_ = c.Close()
		return
	}
	host := cl.Pick(t.w, lb.Request{Random: rand.Uint64()})
	if host == nil {
		cl.Stats.CxNoneHealthy.Inc()
		_ = c.Close()
		return
	}
	lent, err := cl.TCP(t.w, host, pool.Options{Downstream: c.Info})
	if err != nil {
		_ = c.Close()
		return
	}
	t.lent = lent
	u := lent.Conn()
	t.up, t.down = half{t: t, from: c, to: u}, half{t: t, from: u, to: c}
	t.up.pump, t.down.pump = t.up.move, t.down.move
	t.up.rest()
	t.down.rest()
}

func (h *half) rest() {
	limit := fiber.Time(0)
	if h.t.p.idle > 0 {
		limit = h.t.w.Now().Add(h.t.p.idle)
	}
	h.from.OnIdle(limit, h.pump)
}

// move runs on a fiber while bytes are there.
func (h *half) move(expired bool) {
	if expired {
		h.t.close()
		return
	}
	b := h.t.w.Bulk.Get()
	defer h.t.w.Bulk.Put(b)
	for h.from.Readable() && !h.t.closed {
		n, err := h.from.Read(b)
		if err == nil {
			_, err = h.to.Write(b[:n])
		}
		if err != nil {
			h.end(err)
			return
		}
	}
	if !h.t.closed {
		h.rest()
	}
}

func (h *half) end(err error) {
	h.ended = true
	if err != io.EOF || h.t.up.ended && h.t.down.ended {
		h.t.close()
		return
	}
	_ = h.to.CloseWrite()
}

func (t *tunnel) close() {
	if t.closed {
		return
	}
	t.closed = true
	_ = t.up.from.Close()
	t.lent.Release(false)
}
