package router

import (
	"strconv"
	"time"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// times are the limits of an exchange; 0: none.
type times struct {
	global     time.Duration
	perTry     time.Duration
	perTryIdle time.Duration
	status     int // of the reply to a timeout: 504, or 204 (x-envoy-upstream-rq-timeout-alt-response)
}

// readTimeouts takes the timeouts from the request, else from the route, and tells the upstream what it may expect.
func (e *exchange) readTimeouts() {
	t := times{global: e.routeTimeout(), status: 504}
	if p := e.action.Retry; p != nil {
		t.perTry, t.perTryIdle = max(p.PerTry, 0), max(p.PerTryIdle, 0)
	}
	e.times = t
	e.headerTimeout()
	if v, ok := e.take("x-envoy-upstream-rq-per-try-timeout-ms"); ok {
		if ms, err := strconv.ParseUint(v, 10, 32); err == nil {
			e.times.perTry = time.Duration(ms) * time.Millisecond
		}
	}
	if _, ok := e.take("x-envoy-upstream-rq-timeout-alt-response"); ok {
		e.times.status = 204
	}
	if e.times.global != 0 && e.times.perTry >= e.times.global {
		e.times.perTry = 0
	}
	e.expect(0)
}

// routeTimeout is the route's timeout, which a gRPC request may shorten; max_stream_duration takes its place.
func (e *exchange) routeTimeout() time.Duration {
	a := e.action
	if a.MaxGrpcTimeout == route.Unset || !e.s.GRPC() {
		return max(a.Timeout, 0)
	}
	v, _ := e.s.Request.Header.Get("grpc-timeout")
	t, _ := grpc.ParseTimeout(v)
	if o := a.GrpcTimeoutOffset; o > 0 && o < t {
		t -= o
	}
	if m := a.MaxGrpcTimeout; m != 0 && (t == 0 || t > m) {
		t = m
	}
	return t
}

// headerTimeout lets the request say the timeout.
func (e *exchange) headerTimeout() {
	if e.r.respectExpected {
		if v, ok := e.s.Request.Header.Get("x-envoy-expected-rq-timeout-ms"); ok {
			e.setGlobal(v)
			return
		}
	}
	if v, ok := e.take("x-envoy-upstream-rq-timeout-ms"); ok {
		e.setGlobal(v)
	}
}

func (e *exchange) setGlobal(v string) {
	if ms, err := strconv.ParseUint(v, 10, 32); err == nil {
		e.times.global = time.Duration(ms) * time.Millisecond
	}
}

// expect tells the upstream how long we shall wait, elapsed after the request was complete.
func (e *exchange) expect(elapsed time.Duration) {
	t := e.times.perTry
	if t == 0 || e.hedging {
		t = e.times.global
	}
	if t == 0 {
		return
	}
	if g := e.times.global; g > 0 {
		if t = min(t, g-elapsed); t <= 0 {
			t = time.Millisecond
		}
	}
	h := &e.s.Request.Header
	if !e.r.suppress {
		h.Set("x-envoy-expected-rq-timeout-ms", e.number(t.Milliseconds()))
	}
	if e.action.MaxGrpcTimeout != route.Unset && e.s.GRPC() {
		h.Set("grpc-timeout", e.s.Append(func(b []byte, _ *stream.Stream) []byte { return grpc.AppendTimeout(b, t) }))
	}
}

// complete is called when the request has been sent to its end: the upstream's time begins.
func (e *exchange) complete() {
	if e.completed {
		return
	}
	e.completed = true
	s := e.s
	now := s.Worker.Now()
	e.since = now
	if e.times.global > 0 {
		s.Limit(filter.LimitRoute, now.Add(e.times.global))
	}
}

// number is n as text that lives until the stream ends.
func (e *exchange) number(n int64) string {
	return e.s.Append(func(b []byte, _ *stream.Stream) []byte { return strconv.AppendInt(b, n, 10) })
}
