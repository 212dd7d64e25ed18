package router

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// retries is what the route and the request say of retries, and what has been done.
type retries struct {
	policy *route.Retry // nil: only the request has asked
	on     route.Condition
	left   int
	codes  []int  // of x-envoy-retriable-status-codes
	names  string // of x-envoy-retriable-header-names
	tried  []*cluster.Host
	held   bool          // a retry is taken from the circuit breaker
	after  time.Duration // the response has said how long to wait
}

// verdict is what becomes of an attempt.
type verdict uint8

const (
	giveUp verdict = iota // its outcome is the outcome
	again                 // another one
	follow                // its response is a redirect that we follow
)

// plain is the policy of requests that ask for retries on a route without one.
var plain = &route.Retry{NumRetries: 1, Base: 25 * time.Millisecond, Max: 250 * time.Millisecond, HostAttempts: 1}

// readRetries reads the policy and the headers, which it consumes.
func (e *exchange) readRetries() {
	p := &e.retry
	if p.policy = e.action.Retry; p.policy == nil {
		p.policy = plain
	}
	p.on, p.left = p.policy.On, p.policy.NumRetries
	if v, ok := e.take("x-envoy-retry-on"); ok {
		c, _ := route.ParseRetryOn(v)
		p.on |= c
	}
	if v, ok := e.take("x-envoy-retry-grpc-on"); ok {
		c, _ := route.ParseRetryGrpcOn(v)
		p.on |= c
	}
	if l := p.policy.RequestHeaders; len(l) > 0 && !l.MatchAny(&e.s.Request) {
		p.on = 0
	}
	if v, ok := e.take("x-envoy-max-retries"); ok {
		if n, err := strconv.ParseUint(v, 10, 31); err == nil && p.on != 0 {
			p.left = int(n)
		}
	}
	if v, ok := e.take("x-envoy-retriable-status-codes"); ok {
		for c := range strings.SplitSeq(v, ",") {
			if n, err := strconv.Atoi(strings.TrimSpace(c)); err == nil {
				p.codes = append(p.codes, n)
			}
		}
	}
	p.names, _ = e.take("x-envoy-retriable-header-names")
}

// decide says what follows an attempt.
func (e *exchange) decide(a *attempt, err error) verdict {
	would := e.would(a, err)
	if !would && e.retry.held && err == nil {
		e.cluster.Stats.RqRetrySuccess.Inc()
		e.each(func(v *filter.RouteStats) { v.RetrySuccess.Inc() })
	}
	e.releaseRetry()
	if would && e.retryable() && e.takeRetry() {
		if err == nil && e.r.dynamicStats {
			e.responses.Retried.Count(a.response.Status)
		}
		if a != nil && a.host != nil {
			a.host.Stats.RqError.Add(1)
		}
		return again
	}
	if err == nil && e.redirected(a) {
		return follow
	}
	return giveUp
}

// retryable says whether the body can be sent again; more of it than may be kept is one way why not.
func (e *exchange) retryable() bool {
	if e.s.Request.Body == nil || e.taped && !e.tape.lost {
		return true
	}
	e.cluster.Stats.RetryOrShadowAbandoned.Inc()
	return false
}

// takeRetry takes one of the retries that are left, here and in the circuit breaker.
func (e *exchange) takeRetry() bool {
	p, st := &e.retry, e.cluster.Stats
	if p.left == 0 {
		st.RqRetryLimit.Inc()
		e.each(func(v *filter.RouteStats) { v.RetryLimit.Inc() })
		e.s.Info.Flags |= stream.UpstreamRetryLimitExceeded
		return false
	}
	p.left--
	if !e.limits.Retries.Take() {
		st.RqRetryOverflow.Inc()
		e.each(func(v *filter.RouteStats) { v.RetryOverflow.Inc() })
		e.s.Info.Flags |= stream.UpstreamOverflow
		return false
	}
	p.held = true
	st.RqRetry.Inc()
	e.each(func(v *filter.RouteStats) { v.Retry.Inc() })
	return true
}

// releaseRetry gives the circuit breaker its retry back.
func (e *exchange) releaseRetry() {
	if e.retry.held {
		e.retry.held = false
		e.limits.Retries.Return()
	}
}

// pause waits before retry n (from 0).
func (e *exchange) pause(n int) error {
	p, st := &e.retry, e.cluster.Stats
	d := p.after
	if d > 0 {
		st.RqRetryBackoffRatelimit.Inc()
		d += time.Duration(draw() % uint64(d/2+1))
		p.after = 0
	} else {
		st.RqRetryBackoff.Inc()
		d = p.policy.Backoff(n, draw())
	}
	return e.s.Worker.Sleep(d)
}

// renew brings the headers of the request up to date for another attempt; last is why the one before has failed.
func (e *exchange) renew(last error) {
	h, vh := &e.s.Request.Header, e.s.Route.VirtualHost
	e.expect(timeSince(e.since, e.s.Worker.Now()))
	if vh == nil {
		return
	}
	if vh.IncludeRequestAttemptCount {
		h.Set("x-envoy-attempt-count", e.number(int64(e.s.Info.Upstream.Attempts+1)))
	}
	if vh.IncludeIsTimeoutRetryHeader {
		if isTryTimeout(last) {
			h.Set("x-envoy-is-timeout-retry", "true")
		} else {
			h.Set("x-envoy-is-timeout-retry", "false")
		}
	}
}

func isTryTimeout(err error) bool {
	return err == filter.LimitTry.Cause() || err == filter.LimitTryIdle.Cause()
}

// would says whether the policy wants another attempt after this outcome.
func (e *exchange) would(a *attempt, err error) bool {
	p := &e.retry
	switch {
	case e.interim:
		return false // the client has seen an interim response of this attempt
	case err == nil:
		return p.wouldStatus(e, &a.response)
	case errors.Is(err, errNoHosts), errors.Is(err, pool.ErrOverflow):
		return false
	case isTryTimeout(err):
		e.tryTimedOut(a, err)
	case err == filter.LimitUpstream.Cause():
		e.cluster.Stats.RqMaxDuration.Inc()
	}
	if p.on&(route.OnReset|route.On5xx|route.OnGatewayError) != 0 {
		return true
	}
	var c *pool.ConnectError
	connect := errors.As(err, &c)
	return p.on&route.OnConnectFailure != 0 && connect || p.on&route.OnRefusedStream != 0 && http2.Refused(err) ||
		p.on&route.OnResetBeforeRequest != 0 && (connect || a.conn == nil)
}

// tryTimedOut counts a per-try timeout.
func (e *exchange) tryTimedOut(a *attempt, err error) {
	st := e.cluster.Stats
	if err == filter.LimitTry.Cause() {
		st.RqPerTryTimeout.Inc()
	} else {
		st.RqPerTryIdleTimeout.Inc()
	}
	if a.host != nil {
		a.host.Stats.RqTimeout.Add(1)
	}
}

// wouldStatus says whether the policy wants another attempt after a response.
func (p *retries) wouldStatus(e *exchange, r *stream.Response) bool {
	if p.on == 0 {
		return false
	}
	if r.Header.Has("x-envoy-ratelimited") {
		return p.on&route.OnEnvoyRateLimited != 0 && p.later(e, r)
	}
	s := r.Status
	if p.on&route.On5xx != 0 && s >= 500 && s < 600 || p.on&route.OnGatewayError != 0 && s >= 502 && s <= 504 ||
		p.on&route.OnRetriable4xx != 0 && s == 409 || p.on&route.OnRetriableStatusCodes != 0 && p.listed(s) ||
		p.on&route.OnRetriableHeaders != 0 && p.marked(r) || p.on&route.OnGrpc != 0 && p.wouldGRPC(r) {
		return p.later(e, r)
	}
	return false
}

func (p *retries) listed(status int) bool {
	if p.policy.RetriableStatus(status) {
		return true
	}
	return slices.Contains(p.codes, status)
}

func (p *retries) marked(r *stream.Response) bool {
	if len(p.policy.Headers) > 0 && p.policy.Headers.MatchAnyResponse(r) {
		return true
	}
	for n := range strings.SplitSeq(p.names, ",") {
		if n = strings.ToLower(strings.TrimSpace(n)); n != "" && r.Header.Has(n) {
			return true
		}
	}
	return false
}

// wouldGRPC looks at the head alone, as Envoy does: trailers come when the client has the response already.
func (p *retries) wouldGRPC(r *stream.Response) bool {
	v, ok := grpc.StatusOf(&r.Header)
	if !ok {
		return false
	}
	switch v {
	case grpc.Canceled:
		return p.on&route.OnGrpcCancelled != 0
	case grpc.DeadlineExceeded:
		return p.on&route.OnGrpcDeadlineExceeded != 0
	case grpc.ResourceExhausted:
		return p.on&route.OnGrpcResourceExhausted != 0
	case grpc.Internal:
		return p.on&route.OnGrpcInternal != 0
	case grpc.Unavailable:
		return p.on&route.OnGrpcUnavailable != 0
	}
	return false
}

// later reads from a response how long to wait before the retry that it causes.
func (p *retries) later(e *exchange, r *stream.Response) bool {
	for _, h := range p.policy.ResetHeaders {
		v, ok := r.Header.Get(h.Name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			continue
		}
		d := time.Duration(n) * time.Second
		if h.Unix {
			d = time.Unix(int64(n), 0).Sub(e.s.Worker.Wall())
		}
		if d > 0 && d <= p.policy.ResetMax {
			p.after = d
			break
		}
	}
	return true
}

// note remembers the host of an attempt.
func (p *retries) note(h *cluster.Host) {
	if p.on != 0 {
		p.tried = append(p.tried, h)
	}
}

func (p *retries) hostAttempts() int { return p.policy.HostAttempts }

// rejects says whether a predicate does not want a host.
func (p *retries) rejects(h *cluster.Host) bool {
	if p.policy.OmitCanary && h.Canary {
		return true
	}
	if p.policy.PreviousHosts {
		for _, t := range p.tried {
			if t.Peer == h.Peer {
				return true
			}
		}
	}
	for _, m := range p.policy.OmitHosts {
		if holds(h.Metadata, m) {
			return true
		}
	}
	return false
}

// holds says whether have has everything that want has, in "envoy.lb".
func holds(have, want stream.Metadata) bool {
	const ns = "envoy.lb"
	if len(want[ns]) == 0 {
		return false
	}
	for k, v := range want[ns] {
		if !reflect.DeepEqual(have[ns][k], v) {
			return false
		}
	}
	return true
}

// wouldTimeout says whether the policy wants another attempt after a gateway timeout.
func (p *retries) wouldTimeout() bool {
	return p.on&(route.On5xx|route.OnGatewayError) != 0 || p.on&route.OnRetriableStatusCodes != 0 && p.listed(504)
}
