package router

import (
	"cmp"
	"errors"
	"strings"
	"syscall"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// answer turns the reason for having no response into one.
func (e *exchange) answer(err error) {
	if err == nil {
		return
	}
	s := e.s
	var t *filter.TimeoutError
	var bad *http1.Error
	switch {
	case s.Worker.Current().Err() != nil:
		s.LocalReply(0, "downstream_remote_disconnect", "")
		return // nobody is there to read it
	case e.bodyErr != nil:
		s.Unreadable(e.bodyErr)
	case errors.Is(err, errNoHosts):
		e.cluster.Stats.CxNoneHealthy.Inc()
		s.Info.Flags |= stream.NoHealthyUpstream
		status := 503
		if e.missing != 0 {
			status = e.missing
		}
		s.LocalReply(status, cmp.Or(e.unresolved, "no_healthy_upstream"), "no healthy upstream")
		e.attemptCount()
		e.charge(status, nil)
	case errors.As(err, &t):
		e.timedOut(t)
	case errors.As(err, &bad):
		e.reset(502, "protocol error", stream.UpstreamProtocolError)
	default:
		e.resetFor(err)
	}
}

// timedOut answers for a limit that has passed.
func (e *exchange) timedOut(t *filter.TimeoutError) {
	s := e.s
	host := e.lastHost()
	if t == filter.LimitRoute.Cause() {
		e.expired = true
		e.countTimeout(host)
	}
	s.TimedOut(t)
	switch t {
	case filter.LimitRoute.Cause(), filter.LimitTry.Cause(), filter.LimitTryIdle.Cause():
		if e.times.status != 504 {
			s.Reply(filter.Reply{Status: e.times.status, Details: t.Details})
		}
		e.charge(e.times.status, host)
		e.attemptCount()
		if !e.expired {
			e.spent()
		}
	case filter.LimitUpstream.Cause(): // which nobody counts as a response
		e.attemptCount()
	}
}

// countTimeout counts a route timeout.
func (e *exchange) countTimeout(host *cluster.Host) {
	e.cluster.Stats.RqTimeout.Inc()
	e.each(func(v *filter.RouteStats) { v.Timeout.Inc() })
	e.spent()
	if host != nil {
		host.Stats.RqTimeout.Add(1)
	}
}

// lastHost is the host of the attempt that is under way.
func (e *exchange) lastHost() *cluster.Host {
	if e.used == 0 {
		return nil
	}
	return e.tries[e.used-1].host
}

// resetFor answers for an upstream that has broken off.
func (e *exchange) resetFor(err error) {
	var c *pool.ConnectError
	switch {
	case errors.Is(err, pool.ErrOverflow):
		e.reset(503, "overflow", stream.UpstreamOverflow)
		if !e.r.suppress {
			e.s.Response.Header.Set("x-envoy-overloaded", "true")
		}
	case errors.As(err, &c) && c.Timeout:
		e.reset(503, "connection timeout", stream.UpstreamConnectionFailure)
	case errors.As(err, &c):
		u := &e.s.Info.Upstream
		if _, errno := errors.AsType[syscall.Errno](c.Err); !errno || u.Host.Path == "" { // of a unix socket it is not told
			u.Failure = c.Reason()
		}
		e.reset(503, "remote connection failure", stream.UpstreamConnectionFailure)
	default:
		f := filter.FaultOf(err)
		e.reset(f.Status, f.Reason, f.Flag)
	}
}

// reset answers for an upstream that has broken off before its response.
func (e *exchange) reset(status int, reason string, flag stream.Flags) {
	s := e.s
	s.Info.Flags |= flag
	again := ""
	if s.Info.Upstream.Attempts > 1 {
		again = "retried and the latest "
	}
	failure := s.Info.Upstream.Failure
	when := "before"
	if e.interim {
		when = "after"
	}
	details := s.Text("upstream_reset_", when, "_response_started{", strings.ReplaceAll(reason, " ", "_"), "}")
	body := s.Text("upstream connect error or disconnect/reset before headers. ", again, "reset reason: ", reason)
	if failure != "" {
		details = s.Text(details[:len(details)-1], "|", strings.ReplaceAll(failure, " ", "_"), "}")
	}
	host := e.lastHost()
	s.LocalReply(status, details, body)
	e.attemptCount()
	if !e.interim {
		e.charge(status, host)
	}
}
