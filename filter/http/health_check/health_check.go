// Package healthcheck is the HTTP filter envoy.filters.http.health_check
// (type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck): it answers health checks of this proxy, or of
// what stands behind it.
//
// Differences to Envoy: none known.
package healthcheck

import (
	"sync/atomic"
	"time"

	healthcheckv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Filter is one value for all workers.
type Filter struct {
	config

	// set at construction
	node   string // node.cluster: what x-envoy-upstream-healthchecked-cluster says
	failed func() bool
	size   func(cluster string) (size, bool)
	// atomic
	cache atomic.Pointer[answer]
}

// answer is what the upstream last said to a health check.
type answer struct {
	status   int
	degraded bool
	until    time.Time
}

// size is how many hosts a cluster has, and how many of them may serve.
type size struct{ total, serving uint64 }

// New builds the filter.
func New(p *healthcheckv3.HealthCheck, env filter.Env) (any, error) {
	c, err := parse(p)
	if err != nil {
		return nil, err
	}
	return &Filter{config: c, node: env.Node.Cluster, failed: env.Listener.Drain.Failed, size: func(name string) (size, bool) {
		k := env.Clusters.Get(name)
		if k == nil {
			return size{}, false
		}
		s := k.Stats
		return size{uint64(s.MembershipTotal.Value()), uint64(s.MembershipHealthy.Value() + s.MembershipDegraded.Value())}, true
	}}, nil
}

// OnRequest marks health checks, and answers them unless they are to be passed on.
func (f *Filter) OnRequest(s *filter.Stream) filter.Status {
	if !f.headers.Match(&s.Request) {
		return filter.Continue
	}
	s.Info.HealthCheck = true
	switch cached := f.cached(s); {
	case f.failed():
		return f.reply(s, 503, "health_check_failed")
	case !f.passThrough:
		return f.reply(f.judge(s))
	case cached != nil:
		f.reply(s, cached.status, "health_check_cached")
		if cached.degraded {
			s.Response.Header.Set("x-envoy-degraded", "")
		}
		return filter.Stop
	}
	return filter.Continue
}

// judge looks at the clusters whose health is asked for.
func (f *Filter) judge(s *filter.Stream) (_ *filter.Stream, status int, details string) {
	if len(f.clusters) == 0 {
		return s, 200, "health_check_ok"
	}
	for _, c := range f.clusters {
		n, ok := f.size(c.name)
		switch {
		case !ok:
			return s, 503, "health_check_failed_no_cluster_found"
		case n.total == 0 && c.percent != 0:
			return s, 503, "health_check_failed_cluster_empty"
		case 100*n.serving < n.total*c.percent:
			return s, 503, "health_check_failed_cluster_unhealthy"
		}
	}
	return s, 200, "health_check_ok_cluster_healthy"
}

func (f *Filter) reply(s *filter.Stream, status int, details string) filter.Status {
	if status/100 != 2 {
		s.Info.Flags |= stream.FailedLocalHealthCheck
	}
	return s.LocalReply(status, details, "")
}

// OnResponse tells the checker whom it has reached, and everybody when this proxy is told to fail; it remembers answers.
func (f *Filter) OnResponse(s *filter.Stream) filter.Status {
	h := &s.Response.Header
	if s.Info.HealthCheck {
		h.Set("x-envoy-upstream-healthchecked-cluster", f.node)
		if f.cacheTime > 0 && !s.Local() {
			_, degraded := h.Get("x-envoy-degraded")
			f.cache.Store(&answer{s.Response.Status, degraded, s.Worker.Wall().Add(f.cacheTime)})
		}
	}
	if f.failed() {
		h.Set("x-envoy-immediate-health-check-fail", "true")
	}
	return filter.Continue
}

// cached returns what the upstream said within the cache time; nil: nothing.
func (f *Filter) cached(s *filter.Stream) *answer {
	if a := f.cache.Load(); a != nil && s.Worker.Wall().Before(a.until) {
		return a
	}
	return nil
}
