package router

import (
	"time"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// routerStats stand below http.<stat_prefix>.
type routerStats struct {
	NoCluster              stats.Counter `stat:"no_cluster"`
	NoRoute                stats.Counter `stat:"no_route"`
	RedirectBadLocation    stats.Counter `stat:"passthrough_internal_redirect_bad_location"`
	RedirectNoRoute        stats.Counter `stat:"passthrough_internal_redirect_no_route"`
	RedirectPredicate      stats.Counter `stat:"passthrough_internal_redirect_predicate"`
	RedirectTooMany        stats.Counter `stat:"passthrough_internal_redirect_too_many_redirects"`
	RedirectUnsafeScheme   stats.Counter `stat:"passthrough_internal_redirect_unsafe_scheme"`
	RqDirectResponse       stats.Counter `stat:"rq_direct_response"`
	RqOverloadLocalReply   stats.Counter `stat:"rq_overload_local_reply"`
	RqRedirect             stats.Counter `stat:"rq_redirect"`
	RqResetAfterStarted    stats.Counter `stat:"rq_reset_after_downstream_response_started"`
	RqTotal                stats.Counter `stat:"rq_total"`
	RetrySkippedUnfinished stats.Counter `stat:"rq_retry_skipped_request_not_complete,lazy"`
}

// charge counts a response, of the upstream or in its place, by its status.
func (e *exchange) charge(status int, host *cluster.Host) {
	s := e.s
	if host != nil && status >= 500 {
		host.Stats.RqError.Add(1)
	}
	if !e.r.dynamicStats || s.Info.HealthCheck {
		return
	}
	e.cluster.Stats.RqCompleted.Inc()
	canary := host != nil && host.Canary
	if v, ok := s.Response.Header.Get("x-envoy-upstream-canary"); ok && v == "true" {
		canary = true
	}
	e.canary = canary
	if e.r.quietGRPC && status >= 400 && s.GRPC() {
		return
	}
	r := e.responses
	r.All.Count(status)
	if s.Info.Internal {
		r.Internal.Count(status)
	} else {
		r.External.Count(status)
	}
	if canary {
		r.Canary.Count(status)
	}
	if host != nil && host.Zone != nil {
		host.Zone.All.Count(status)
	}
	for _, v := range e.groups {
		if v != nil {
			v.Codes.Count(status)
		}
	}
}

// interimCame counts an interim response: a repeated "100 Continue" and those that nobody has defined are not worth it.
func (e *exchange) interimCame(status int, host *cluster.Host) {
	repeated := e.interim && status == 100
	if e.interim = true; !repeated && status <= 104 {
		e.charge(status, host)
	}
}

// took records how long the upstream took, at the end of its response.
func (e *exchange) took(d time.Duration) {
	if !e.r.dynamicStats || e.s.Info.HealthCheck {
		return
	}
	ms := uint64(max(d, 0) / time.Millisecond)
	r := e.responses
	r.Time.Record(ms)
	if e.s.Info.Internal {
		r.InternalTime.Record(ms)
	} else {
		r.ExternalTime.Record(ms)
	}
	if e.canary {
		r.CanaryTime.Record(ms)
	}
	if h := e.won.host; h != nil && h.Zone != nil {
		h.Zone.Time.Record(ms)
	}
	for _, v := range e.groups {
		if v != nil {
			v.Time.Record(ms)
		}
	}
}

// each calls f for the virtual cluster's and the route's statistics, as far as there are any.
func (e *exchange) each(f func(*filter.RouteStats)) {
	for _, v := range e.groups {
		if v != nil {
			f(v)
		}
	}
}

// tried records how much of its per-try timeout an attempt has used: none, if there is none.
func (e *exchange) tried() {
	if b := e.cluster.Budgets; b != nil && !e.expired {
		b.PerTry.Record(percentUsed(timeSince(e.since, e.s.Worker.Now()), e.times.perTry))
	}
}

// spent records how much of its timeout the whole request has used.
func (e *exchange) spent() {
	if b := e.cluster.Budgets; b != nil {
		b.Global.Record(percentUsed(timeSince(e.since, e.s.Worker.Now()), e.times.global))
	}
}

func percentUsed(used, of time.Duration) uint64 {
	if of == 0 {
		return 0
	}
	return uint64(100 * used.Milliseconds() / max(of.Milliseconds(), 1))
}
