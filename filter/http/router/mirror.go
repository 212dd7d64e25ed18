package router

import (
	"errors"
	"io"
	"strings"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/cluster/outlier"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
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
	reply   stream.Response
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
	h := &shadow{cluster: c, times: e.times}
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
	// As in Envoy a copy has no client's connection: where that was going is not where the copy goes, unless a header says so.
	to := h.cluster.Destination(&stream.Info{}, &h.Request.Header)
	host := h.cluster.Pick(w, lb.Request{Random: draw(), Destination: to})
	if host == nil {
		h.cluster.Stats.CxNoneHealthy.Inc()
		return
	}
	c, err := h.cluster.HTTP(w, host, pool.Options{})
	if err != nil {
		if !errors.Is(err, pool.ErrOverflow) {
			host.Outlier.Report(outlier.ConnectFailed, 0)
		}
		return
	}
	host.Outlier.Report(outlier.Connected, 0)
	ok := false
	defer func() { c.Release(ok) }()
	if done, err := c.Send(&h.Request, true); err != nil || !done {
		return
	}
	for {
		if err := c.Receive(&h.reply); err != nil {
			host.Outlier.Report(failure(err), 0)
			return
		}
		if h.reply.Status >= 200 {
			break
		}
	}
	host.Outlier.Status(h.reply.Status)
	h.charge()
	for b := h.reply.Body; b != nil; {
		if _, err := b.Next(true); err != nil {
			ok = err == io.EOF
			return
		}
	}
	ok = true
}

// failure is how a copy has failed.
func failure(err error) outlier.Result {
	if errors.Is(err, errShadowTimeout) {
		return outlier.Timeout
	}
	return outlier.ConnectFailed
}

// charge counts the response, which nobody else will see.
func (h *shadow) charge() {
	r := h.cluster.Routing()
	h.cluster.Stats.RqCompleted.Inc()
	r.All.Count(h.reply.Status)
	r.Internal.Count(h.reply.Status)
}
