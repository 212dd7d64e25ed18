// Package hcm is envoy.filters.network.http_connection_manager.
package hcm

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/snapshot"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Manager is the terminal network filter. Its connections live on when its configuration changes.
type Manager struct {
	// set at construction
	shards []shard
	stats  counters
	// atomic
	config snapshot.Value[Config]
}

// Config is what a stream looks up once, at its beginning.
type Config struct {
	Chain *filter.Chain
	Table *route.Table
	Logs  []filter.AccessLog
	Idle  time.Duration
	Head  time.Duration // request_headers_timeout
}

// shard is what one worker owns.
type shard struct {
	streams []*filter.Stream
	_       [40]byte
}

type counters struct {
	cxTotal, rqTotal, rq2xx, rq3xx, rq4xx, rq5xx, rxReset *stats.Counter
	cxActive, rqActive                                    *stats.Gauge
}

// New builds it.
func New(p *hcmv3.HttpConnectionManager, env filter.Env) (any, error) {
	c, err := Compile(p, env)
	if err != nil {
		return nil, err
	}
	s := env.Stats.Root().Sub("http").Sub(p.GetStatPrefix())
	m := &Manager{shards: make([]shard, len(env.Workers)), stats: counters{
		cxTotal: s.Counter("downstream_cx_total"), rqTotal: s.Counter("downstream_rq_total"), rxReset: s.Counter("downstream_rq_rx_reset"),
		rq2xx: s.Counter("downstream_rq_2xx"), rq3xx: s.Counter("downstream_rq_3xx"), rq4xx: s.Counter("downstream_rq_4xx"), rq5xx: s.Counter("downstream_rq_5xx"),
		cxActive: s.Gauge("downstream_cx_active"), rqActive: s.Gauge("downstream_rq_active"),
	}}
	m.config.Store(c)
	return m, nil
}

// Update publishes another configuration; open connections and streams stay.
func (m *Manager) Update(c *Config) { m.config.Store(c) }

// Compile builds what streams look up.
func Compile(p *hcmv3.HttpConnectionManager, env filter.Env) (*Config, error) {
	c := &Config{Idle: time.Hour}
	if d := p.GetCommonHttpProtocolOptions().GetIdleTimeout(); d != nil {
		c.Idle = d.AsDuration()
	}
	c.Head = p.GetRequestHeadersTimeout().AsDuration()
	var err error
	if c.Table, err = route.Compile(p.GetRouteConfig(), route.Env{Runtime: env.Runtime, Validate: true}); err != nil {
		return nil, fmt.Errorf("route_config.%w", err)
	}
	var filters []any
	slots := 0
	env.Slots = &slots
	for i, f := range p.GetHttpFilters() {
		b, err := env.Extensions.HTTP.Build(f.GetTypedConfig(), env)
		if err != nil {
			return nil, fmt.Errorf("http_filters[%d]: %w", i, err)
		}
		filters = append(filters, b)
	}
	var ok bool
	if c.Chain, ok = filter.Compile(filters, slots); !ok {
		return nil, errors.New("http_filters: the last one must be terminal, and only that one")
	}
	for i, l := range p.GetAccessLog() {
		b, err := env.Extensions.Log.Build(l.GetTypedConfig(), env)
		if err != nil {
			return nil, fmt.Errorf("access_log[%d]: %w", i, err)
		}
		c.Logs = append(c.Logs, b)
	}
	return c, nil
}

// conn is one downstream connection. Between requests it is nothing but this and a socket.
type conn struct {
	m     *Manager
	c     *filter.Conn
	codec http1.Conn
	serve func(expired bool)
}

// Open waits for the first request without a fiber.
func (m *Manager) Open(c *filter.Conn) {
	m.stats.cxTotal.Inc()
	m.stats.cxActive.Add(1)
	d := &conn{m: m, c: c}
	d.serve = d.requests
	d.codec.Reset(c.Worker, c.Conn)
	d.idle()
}

func (d *conn) idle() {
	d.codec.Release()
	limit := fiber.Time(0)
	if t := d.m.config.Load().Idle; t > 0 {
		limit = d.c.Worker.Now().Add(t)
	}
	d.c.OnIdle(limit, d.serve)
}

func (d *conn) close() {
	d.codec.Release()
	_ = d.c.Close()
	d.m.stats.cxActive.Add(-1)
}

// requests serves requests, on a fiber, until none is there: then the connection is idle again, or at its end.
func (d *conn) requests(expired bool) {
	w := d.c.Worker
	sh := &d.m.shards[w.ID]
	s := sh.take()
	clean := false
	defer func() {
		if clean {
			sh.streams = append(sh.streams, s)
		} else {
			d.close() // a panic is on its way to the worker, which counts it
		}
	}()
	keep := !expired
	for keep {
		if keep = d.request(w, s); keep && !d.codec.Buffered() && !d.c.Readable() {
			clean = true
			d.idle()
			return
		}
	}
	clean = true
	d.close()
}

func (sh *shard) take() *filter.Stream {
	n := len(sh.streams)
	if n == 0 {
		return &filter.Stream{}
	}
	s := sh.streams[n-1]
	sh.streams = sh.streams[:n-1]
	return s
}

// request serves one; keep says whether the connection can carry another.
func (d *conn) request(w *fiber.Worker, s *filter.Stream) (keep bool) {
	f := w.Current()
	cfg := d.m.config.Load()
	if cfg.Head > 0 {
		f.SetLimit(fiber.Limit{At: w.Now().Add(cfg.Head)})
	}
	err := d.codec.ReadRequest(&s.Request)
	f.Unlimit()
	if err != nil {
		d.refuse(w, s, cfg, err)
		return false
	}
	d.m.stats.rqTotal.Inc()
	d.m.stats.rqActive.Add(1)
	d.c.Guard(f)
	s.Begin(d.c, cfg.Chain)
	keep = d.exchange(w, f, s, cfg)
	for _, l := range cfg.Logs {
		l.Log(&s.Stream) // before the end hooks: the heads are still there
	}
	cfg.Chain.End(s)
	f.Unlimit()
	d.c.Guard(nil)
	d.m.stats.rqActive.Add(-1)
	return keep
}

// exchange is what a bug in a filter can break: it takes this stream with it, and the end hooks still run.
func (d *conn) exchange(w *fiber.Worker, f *fiber.Fiber, s *filter.Stream, cfg *Config) (keep bool) {
	defer func() {
		if p := recover(); p != nil {
			w.Panicked(p)
			keep = false
		}
	}()
	d.incoming(s)
	_, s.Route = cfg.Table.Match(&s.Stream, rand.Uint64())
	cfg.Chain.Serve(s)
	return d.respond(w, f, s)
}

func (d *conn) refuse(w *fiber.Worker, s *filter.Stream, cfg *Config, err error) {
	var refused *http1.Error
	if !errors.As(err, &refused) {
		return
	}
	s.Begin(d.c, cfg.Chain)
	s.Request.Method = "GET"
	s.LocalReply(refused.Status, refused.Details, http1.Reason(refused.Status))
	var send http1.Sender
	send.Response(w, d.c, &s.Response, http1.Reply{Close: true})
	_, _ = send.Run(true)
}

// incoming adds what a proxy says of a request.
func (d *conn) incoming(s *filter.Stream) {
	q := &s.Request
	s.Info.Method, s.Info.Path, s.Info.Authority = q.Method, q.Path, q.Authority
	h := &q.Header
	if v, ok := h.Get("x-forwarded-for"); ok {
		h.Set("x-forwarded-for", s.Text(v, ",", d.c.Info.Remote.Addr().String()))
	} else {
		h.Add("x-forwarded-for", d.c.Info.Remote.Addr().String())
	}
	if _, ok := h.Get("x-forwarded-proto"); !ok {
		h.Add("x-forwarded-proto", "http")
	}
	if _, ok := h.Get("x-request-id"); !ok {
		h.Add("x-request-id", "todo")
	}
}

func (d *conn) respond(w *fiber.Worker, f *fiber.Fiber, s *filter.Stream) (keep bool) {
	if f.Err() != nil {
		d.m.stats.rxReset.Inc()
		s.Info.Flags, s.Info.Details = stream.DownstreamConnectionTermination, "downstream_remote_disconnect"
		return false
	}
	r := &s.Response
	r.Header.Set("server", "envoy")
	if _, ok := r.Header.Get("date"); !ok {
		r.Header.Add("date", w.Date())
	}
	closing := d.codec.Close || s.Request.Body != nil && !d.codec.Drained() && s.Local()
	var send http1.Sender
	send.Response(w, d.c, r, http1.Reply{Kind: http1.KindOf(&s.Request), Close: closing})
	done, err := send.Run(true)
	s.Info.BytesOut, s.Info.Status = send.Sent, r.Status
	d.m.stats.count(r.Status)
	if err == io.ErrUnexpectedEOF && !done {
		s.Info.Flags |= stream.UpstreamConnectionTermination
	}
	return done && err == nil && !closing && d.codec.Drained()
}

func (c *counters) count(status int) {
	switch status / 100 {
	case 2:
		c.rq2xx.Inc()
	case 3:
		c.rq3xx.Inc()
	case 4:
		c.rq4xx.Inc()
	case 5:
		c.rq5xx.Inc()
	}
}
