package hcm

import (
	"errors"
	"io"
	"math/rand/v2"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// exchange is a stream with what the connection manager keeps of it. It is pooled by its worker.
type exchange struct {
	filter.Stream

	m        *Manager
	d        *conn
	cfg      *config
	h2       *http2.Stream // nil: HTTP/1
	f        *fiber.Fiber
	seen     seen
	peer     stream.Conn // the connection, if the head says that the client is not the peer
	sender   http1.Sender
	outlet   outlet
	setup    filter.Setup
	asked    string // the upgrade that the request asks for, in lower case; "connect" for CONNECT
	absolute bool   // the request target was in absolute form: its scheme counts
	closing  bool   // the connection does not go on after this stream
	noDelay  bool   // ... and the peer knows, so there is no race to be careful about
	refused  bool   // the head could not be read
	answered bool   // a final response has gone out, or cannot
	flush    fiber.Timer
	interim  func(r *stream.Response) error
}

var (
	errHeadTimeout = errors.New("request headers timeout")
	errHeadIdle    = errors.New("stream idle timeout")
	errHeadRequest = errors.New("request timeout")
)

// exchange serves one request of d and says how the connection goes on.
func (x *exchange) exchange(d *conn) next {
	w := d.c.Worker
	x.m, x.d, x.cfg, x.f, x.h2 = d.m, d, d.m.config.Load(), w.Current(), nil
	d.codec.Options = &x.cfg.http1
	x.limitHead()
	err := d.codec.ReadRequest(&x.Request)
	x.f.Unlimit()
	if !d.counted {
		if err != nil && x.preface() {
			return other
		}
		d.count1()
	}
	if err != nil && !x.answerable(err) {
		return x.unfinished()
	}
	x.begin()
	n := x.run(err)
	if n == joined {
		return n
	}
	x.end()
	return n
}

// unfinished is a connection that has ended: a head that had begun is a stream that nobody knows more of.
func (x *exchange) unfinished() next {
	if !x.d.codec.Buffered() {
		return destroyed
	}
	x.begin()
	x.forget()
	n := x.abandoned()
	x.end()
	return n
}

// forget takes back what was read of a head.
func (x *exchange) forget() {
	x.Forget()
	x.seen = seen{}
}

// limitHead bounds the time until the head is there.
func (x *exchange) limitHead() {
	w := x.d.c.Worker
	if t := x.cfg.headersTimeout; t > 0 {
		x.f.SetLimit(fiber.Limit{At: w.Now().Add(t), Cause: errHeadTimeout})
	}
	if t := x.cfg.requestTimeout; t > 0 {
		x.f.SetLimit(fiber.Limit{At: w.Now().Add(t), Cause: errHeadRequest})
	}
	if t := x.cfg.idle; t > 0 {
		x.f.SetLimit(fiber.Limit{At: w.Now().Add(t), Cause: errHeadIdle})
	}
}

// answerable says whether err, from reading a head, is one that the client is told of.
func (x *exchange) answerable(err error) bool {
	var refused *http1.Error
	return errors.As(err, &refused) || err == errHeadTimeout || err == errHeadIdle || err == errHeadRequest
}

// begin makes the stream ready.
func (x *exchange) begin() {
	d, st := x.d, x.m.stats
	d.requests++
	st.RqTotal.Inc()
	st.RqActive.Inc()
	if x.interim == nil {
		x.interim = x.sendInterim
	}
	x.setup = filter.Setup{Conn: d.c, Chain: x.cfg.chain, Table: x.cfg.table.Load(), Draw: rand.Uint64(), Idle: x.cfg.idle}
	if x.cfg.request.proxyContinue {
		x.setup.Interim = x.interim
	}
	x.Begin(&x.setup)
	x.MatchScheme = x.cfg.request.matchScheme
	x.asked, x.closing, x.noDelay, x.answered, x.refused = "", false, false, false, false
	i := &x.Info
	i.StartWall = d.c.Worker.Wall()
	if s := x.h2; s != nil {
		st.RqHTTP2.Inc()
		x.absolute = true
		i.Protocol, i.HeaderIn = stream.HTTP2, s.HeadIn
		x.Touch()
		return
	}
	st.RqHTTP1.Inc()
	if x.absolute = d.codec.Absolute; !x.absolute {
		x.Request.Scheme = "" // until it is known how the client came here
	}
	i.Protocol, i.HeaderIn = d.codec.Protocol, d.codec.HeadBytes
	x.Touch()
	d.c.Guard(x.f)
}

// run takes the stream from its head to the end of its response. A bug in a filter takes this stream with it, and no more.
func (x *exchange) run(err error) (n next) {
	defer func() {
		if p := recover(); p != nil {
			x.d.c.Worker.Panicked(p)
			n = x.crashed()
		}
	}()
	if err != nil {
		x.refuse(err)
	} else {
		x.request()
	}
	return x.respond()
}

// crashed answers for a stream whose code has panicked.
func (x *exchange) crashed() next {
	x.Info.Details, x.closing = "internal_error", true
	if x.Started() || x.f.Err() != nil {
		return destroyed
	}
	x.LocalReply(500, "internal_error", "")
	x.Finish()
	return x.respond()
}

// refuse answers for a head that could not be read.
func (x *exchange) refuse(err error) {
	var bad *http1.Error
	x.closing, x.refused = true, true
	x.forget()
	switch {
	case errors.As(err, &bad):
		x.LocalReply(bad.Status, bad.Details, http1.Reason(bad.Status))
	case err == errHeadTimeout:
		x.m.stats.RqHeaderTimeout.Inc()
		x.LocalReply(408, "request_header_timeout", "request header timeout")
	case err == errHeadRequest:
		x.LocalReply(408, "request_overall_timeout", "request timeout")
	default:
		x.m.stats.RqIdle.Inc()
		x.Info.Flags |= stream.StreamIdleTimeout
		x.LocalReply(408, "stream_idle_timeout", "stream timeout")
	}
	x.Chain.Respond(&x.Stream)
	if bad != nil {
		x.Info.Flags |= stream.DownstreamProtocolError // for logs; the reply was made before, as in Envoy
	}
}

// request prepares the head, finds the route and serves the stream.
func (x *exchange) request() {
	w := x.d.c.Worker
	x.limit()
	x.expect()
	x.ask()
	if x.prepare() == filter.Stop {
		x.closing = x.closing || !x.RequestComplete()
		x.Chain.Respond(&x.Stream)
		return
	}
	x.Rematch()
	x.routeLimits()
	if x.upgradable() == filter.Stop {
		x.Chain.Respond(&x.Stream)
		return
	}
	if x.cfg.logNewRequest {
		x.Info.LogType = stream.LogDownstreamStart
		x.cfg.logs.Log(&x.Stream.Stream)
	}
	x.periodic(w)
	x.Chain.Serve(&x.Stream)
	for x.Restart {
		x.redo()
		x.Chain.Serve(&x.Stream)
	}
}

// redo is an internal redirect: the stream is over for its filters and begins again.
func (x *exchange) redo() {
	x.log()
	x.Chain.End(&x.Stream)
	x.m.stats.RqTotal.Inc()
	x.m.stats.RqHTTP1.Inc()
	x.Info.Upstream = stream.Upstream{}
	x.Info.Flags, x.Info.Details, x.Info.Status = 0, "", 0
	x.Again()
	x.Rematch()
	x.routeLimits()
}

// limit sets the limits that the connection manager knows of.
func (x *exchange) limit() {
	now := x.d.c.Worker.Now()
	if t := x.cfg.requestTimeout; t > 0 && !x.RequestComplete() {
		x.Limit(filter.LimitRequest, now.Add(t))
	}
	if t := x.cfg.maxStreamDuration; t > 0 {
		x.Limit(filter.LimitDuration, now.Add(t))
	}
}

// routeLimits sets the limits that the route knows better.
func (x *exchange) routeLimits() {
	if x.Route == nil || x.Route.Action == nil {
		return
	}
	a := x.Route.Action
	if a.IdleTimeout >= 0 {
		x.Idle = a.IdleTimeout
		x.Limit(filter.LimitIdle, 0)
		x.Touch()
	}
	x.limitDuration(a)
}

// expect answers "expect: 100-continue", whether or not a body follows, unless the upstream is to answer.
func (x *exchange) expect() {
	h := &x.Request.Header
	v, ok := h.Get("expect")
	if !ok || x.cfg.request.proxyContinue || !equalFold(v, "100-continue") {
		return
	}
	h.Del("expect")
	_ = x.sendContinue()
}

// sendContinue sends "100 Continue".
func (x *exchange) sendContinue() error {
	x.m.stats.Classes.count(100)
	x.m.listener.Classes.count(100)
	if x.h2 != nil {
		return x.h2.Respond(&stream.Response{Status: 100}, false)
	}
	b := continued
	if x.Info.Protocol == stream.HTTP10 {
		b = continued10
	}
	_, err := x.d.c.Write(b)
	return err
}

var continued, continued10 = []byte("HTTP/1.1 100 Continue\r\n\r\n"), []byte("HTTP/1.0 100 Continue\r\n\r\n")

// sendInterim sends an interim response that the upstream has made.
func (x *exchange) sendInterim(r *stream.Response) error {
	x.m.stats.Classes.count(r.Status)
	x.m.listener.Classes.count(r.Status)
	if x.h2 != nil {
		return x.h2.Respond(r, false)
	}
	var s http1.Sender
	s.Response(x.d.c.Worker, x.d.c, r, http1.Reply{Options: &x.cfg.http1, Protocol: x.Info.Protocol})
	_, err := s.Run(true)
	return err
}

// end closes the books of the stream.
func (x *exchange) end() {
	d, st, i := x.d, x.m.stats, &x.Info
	w := d.c.Worker
	x.flush.Stop(w)
	i.End = w.Now()
	if i.WireIn = d.codec.WireBytes; x.h2 != nil {
		i.WireIn = x.h2.WireIn
	} else if x.Tunnel != nil {
		i.WireIn += x.Tunnel.Sent
	}
	if i.Flags == 0 && !x.answered {
		i.Flags = stream.DownstreamConnectionTermination
	}
	if i.Flags&stream.DownstreamProtocolError != 0 && x.h2 == nil { // in the head or in the body
		st.CxProtocolError.Inc()
	}
	x.log()
	x.Chain.End(&x.Stream)
	x.f.Unlimit()
	if x.h2 == nil {
		d.c.Guard(nil)
	}
	st.RqActive.Dec()
	st.RqTime.Record(milliseconds(i.Start, i.End))
	st.CxRx.Add(uint64(max(i.WireIn, 0)))
	st.CxTx.Add(uint64(max(i.WireOut, 0)))
	x.End()
}

// log tells the access loggers.
func (x *exchange) log() {
	x.Info.LogType = stream.LogDownstreamEnd
	x.cfg.logs.Log(&x.Stream.Stream)
}

// outlet is the body of the response on its way to the client: it moves the idle limit on and remembers what went wrong.
type outlet struct {
	x   *exchange
	src stream.Body
	err error
}

// Next passes a piece on.
func (b *outlet) Next(wait bool) ([]byte, error) {
	p, err := b.src.Next(wait)
	if len(p) > 0 {
		b.x.Touch()
	} else if err != nil && err != io.EOF {
		b.err = err
	}
	return p, err
}
