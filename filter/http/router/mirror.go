package router

import (
	"cmp"
	"errors"
	"io"
	"strings"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/cluster/outlier"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

// shadow is a copy of a request on its way to another cluster. It outlives its stream, and nobody waits for it.
type shadow struct {
	stream.Stream

	cluster *cluster.Cluster
	body    stream.Bytes
	times   times
	match   []lb.Criterion // of the route: a copy goes to the same subset
	reply   stream.Response
	logs    filter.Loggers // upstream_log
	start   bool           // it is told of the beginning too
}

// mirror sends the copies, once, when the request is complete.
func (e *exchange) mirror() {
	if e.mirrored || !e.completed || len(e.mirrors) == 0 {
		return
	}
	e.mirrored = true
	body, ok := []byte(nil), true
	if e.s.Request.Body != nil {
		body, ok = e.tape.whole()
	}
	if !ok {
		e.cluster.Stats.RetryOrShadowAbandoned.Inc()
		return
	}
	for i := range e.mirrors {
		if m := &e.mirrors[i]; m.Hit(draw()) {
			e.shadow(m, body)
		}
	}
}

// shadow starts one copy.
func (e *exchange) shadow(m *route.Mirror, body []byte) {
	c := e.r.clusters.Get(m.ClusterName(&e.s.Stream))
	if c == nil {
		return
	}
	s := e.s
	h := &shadow{cluster: c, times: e.times, logs: e.r.logs, start: e.r.logStart, match: e.action.MetadataMatch}
	h.Reset(s.Worker, s.Conn.Info)
	q := &h.Request
	q.Method, q.Path, q.Scheme = strings.Clone(s.Request.Method), strings.Clone(s.Request.Path), strings.Clone(s.Request.Scheme)
	q.Authority = shadowHost(s.Request.Authority, m)
	q.Header.CopyFrom(&s.Request.Header)
	q.Trailer.CopyFrom(&s.Request.Trailer)
	q.Header.Set("x-envoy-internal", "true")
	q.Header.Append("x-forwarded-for", s.Chain.LocalAddress)
	if s.Request.Body != nil {
		h.body.B = append([]byte(nil), body...)
		q.Body = &h.body
	}
	m.Finalize(&h.Stream)
	s.Worker.Go(func() { h.run(s.Worker) }) // ends with its response, or at the timeout
}

// shadowHost is the authority of a copy: marked, unless the mirror says otherwise.
func shadowHost(authority string, m *route.Mirror) string {
	switch {
	case m.HostRewrite != "":
		return m.HostRewrite
	case m.NoShadowSuffix:
		return strings.Clone(authority)
	}
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && strings.IndexByte(authority[i:], ']') < 0 {
		return authority[:i] + "-shadow" + authority[i:]
	}
	return authority + "-shadow"
}

var errShadowTimeout = errors.New("mirror timeout")

// run sends the copy and reads the response away.
func (h *shadow) run(w *fiber.Worker) {
	if h.times.global > 0 {
		w.Current().SetLimit(fiber.Limit{At: w.Now().Add(h.times.global), Cause: errShadowTimeout})
	}
	if drop, _ := h.cluster.Drops(draw()); drop {
		h.reply.Status = 503
		h.charge()
		return
	}
	// As in Envoy a copy has no client's connection: where that was going is not where the copy goes, unless a header says so.
	q := lb.Request{Random: draw(), Match: h.match}
	h.cluster.Aim(&q, &stream.Info{}, h.Request.Authority, &h.Request.Header)
	if f := h.cluster.Forwarding(); f != nil {
		f.Resolve(w, &q)
	}
	host := h.cluster.Pick(w, q)
	if host == nil {
		h.cluster.Stats.CxNoneHealthy.Inc()
		return
	}
	c, err := h.cluster.HTTP(w, host, pool.Options{})
	if err != nil {
		if !errors.Is(err, pool.ErrOverflow) {
			host.Outlier.Report(outlier.ConnectFailed, 0)
		}
		h.lent(host, nil)
		h.log(stream.LogUpstreamEnd, nil, err)
		return
	}
	host.Outlier.Report(outlier.Connected, 0)
	h.lent(host, c)
	if h.start {
		h.log(stream.LogUpstreamPoolReady, c, nil)
	}
	err = h.exchange(c, host)
	h.log(stream.LogUpstreamEnd, c, err)
	c.Release(err == nil)
}

// exchange is the copy and its response; an error says that the connection is of no further use.
func (h *shadow) exchange(c pool.Stream, host *cluster.Host) error {
	if done, err := c.Send(&h.Request, true); err != nil || !done {
		return cmp.Or(err, io.ErrShortWrite)
	}
	for {
		if err := c.Receive(&h.reply); err != nil {
			host.Outlier.Report(failure(err), 0)
			return err
		}
		if h.reply.Status >= 200 {
			break
		}
	}
	host.Outlier.Status(h.reply.Status)
	h.charge()
	for b := h.reply.Body; b != nil; {
		if _, err := b.Next(true); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// failure is how a copy has failed.
func failure(err error) outlier.Result {
	if errors.Is(err, errShadowTimeout) {
		return outlier.Timeout
	}
	return outlier.ConnectFailed
}

// lent writes down the host and its connection, for upstream_log.
func (h *shadow) lent(host *cluster.Host, c pool.Stream) {
	u, now := &h.Info.Upstream, h.Worker.Now()
	u.Cluster, u.ClusterAlt, u.ClusterMetadata = h.cluster.Name, h.cluster.AltName, h.cluster.Metadata
	u.Host, u.HostName, u.HostMetadata, u.Ready = host.Address, host.Hostname, host.Metadata, now
	if c == nil {
		return
	}
	i := c.Info()
	u.Local, u.Remote, u.Protocol, u.ConnID, u.TLS, u.Connected = i.Local, i.Remote, i.Protocol, i.ID, i.TLS, now
	u.ServerName, u.Handshake = i.ServerName, i.Handshake
	if !c.Reused() {
		u.ConnStart, u.Connected = i.Started, i.Connected
	}
}

// log tells upstream_log of the copy, which has no client's connection, as in Envoy.
func (h *shadow) log(t stream.LogType, c pool.Stream, err error) {
	if len(h.logs) == 0 {
		return
	}
	i := &h.Info
	i.Conn, i.LogType, i.Protocol = &stream.Conn{}, t, i.Upstream.Protocol
	if t == stream.LogUpstreamEnd {
		i.Status, i.End = h.reply.Status, h.Worker.Now()
		wireOf(c).charge(&i.Upstream, wire{})
		i.BytesIn, i.BytesOut = bodies(c, nil)
		if !errors.Is(err, errShadowTimeout) {
			i.Flags = flagsOf(err)
		}
		h.Response = h.reply
	}
	h.logs.Log(&h.Stream)
}

// charge counts the response, which nobody else will see.
func (h *shadow) charge() {
	r := h.cluster.Routing()
	h.cluster.Stats.RqCompleted.Inc()
	r.All.Count(h.reply.Status)
	r.Internal.Count(h.reply.Status)
}
