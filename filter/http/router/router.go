// Package router is envoy.filters.http.router (type.googleapis.com/envoy.extensions.filters.http.router.v3.Router): the terminal
// HTTP filter. It sends the request to a host of the route's cluster, again if the retry policy says so, and leaves the response.
//
// Serve reads from top to bottom: the route (this file), what the request and the route say of time and retries (request.go,
// timeout.go), the loop of attempts (exchange.go, retry.go, hedge.go), one attempt (attempt.go), and the response or the local reply
// (respond.go, reply.go). mirror.go copies requests, redirect.go follows redirects by itself, connect.go ends CONNECT here.
package router

import (
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Router is the filter.
type Router struct {
	// set at construction
	settings

	clusters *cluster.Manager
	runtime  *runtime.Loader
	stats    *routerStats
	slot     filter.Slot[exchange]
	keep     int            // of the body of a request, for another attempt: as much as a downstream connection may buffer
	logs     filter.Loggers // upstream_log
}

// New builds it.
func New(p *routerv3.Router, env filter.Env) (any, error) {
	s, err := parse(p)
	if err != nil {
		return nil, err
	}
	logs, err := filter.NewLoggers(p.GetUpstreamLog(), env)
	if err != nil {
		return nil, upstreamLogError(err)
	}
	return &Router{
		settings: s, keep: env.BufferLimit(), clusters: env.Clusters, runtime: env.Runtime, stats: stats.New[routerStats](env.Scope),
		slot: filter.NewSlot[exchange](env), logs: logs,
	}, nil
}

// Serve finds a response.
func (r *Router) Serve(s *filter.Stream) {
	r.stats.RqTotal.Inc()
	rt := s.Route
	switch {
	case rt == nil:
		r.stats.NoRoute.Inc()
		s.Info.Flags |= stream.NoRouteFound
		s.LocalReply(404, "route_not_found", "")
	case rt.Direct != nil:
		r.direct(s)
	case rt.Redirect != nil:
		r.redirect(s)
	case rt.Action == nil:
		s.LocalReply(503, "", "") // non_forwarding_action is not for proxies
	default:
		r.forward(s)
	}
}

// direct answers with the body of the route.
func (r *Router) direct(s *filter.Stream) {
	r.stats.RqDirectResponse.Inc()
	d := s.Route.Direct
	body, contentType := d.Body(&s.Stream)
	s.LocalReply(d.Status, "direct_response", body)
	if contentType != "" && contentType != "text/plain" {
		s.Response.Header.Set("content-type", contentType)
	}
	if l := s.Route.Location(&s.Stream); l != "" {
		s.Response.Header.Set("location", l)
	}
}

// redirect answers with another place to go.
func (r *Router) redirect(s *filter.Stream) {
	r.stats.RqDirectResponse.Inc()
	s.Route.RewritePath(&s.Stream, !r.suppress)
	location := s.Route.Location(&s.Stream)
	s.LocalReply(s.Route.Redirect.Status, "direct_response", "")
	s.Response.Header.Set("location", location)
}

// forward takes the request to its cluster.
func (r *Router) forward(s *filter.Stream) {
	a := s.Route.Action
	c := s.Cluster
	if c == nil {
		r.stats.NoCluster.Inc()
		s.Info.Flags |= stream.NoClusterFound
		s.LocalReply(a.ClusterNotFoundCode, "cluster_not_found", "")
		return
	}
	e := r.slot.Get(s)
	e.begin(r, s, c)
	if e.checked() == filter.Stop || e.maintained() == filter.Stop || e.dropped() == filter.Stop {
		return
	}
	e.prepare()
	if s.Upgrade == "connect" && e.connectConfig() != nil {
		e.answer(e.connect())
		return
	}
	if err := s.Prefetch(); err != nil {
		e.bodyErr = err
		if a := e.next(); e.chosen(a) { // as if it had been sent
			e.noted(a.host)
		}
		e.answer(err)
		return
	}
	if err := e.run(); err != nil {
		e.answer(err)
		e.drop() // nothing of the upstream is held while the client reads why
	}
}

// OnEnd gives the connections back.
func (r *Router) OnEnd(s *filter.Stream) { r.slot.Get(s).end() }
