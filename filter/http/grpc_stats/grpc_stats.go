// Package grpcstats is the HTTP filter envoy.filters.http.grpc_stats
// (type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig): it counts the calls and messages of gRPC, and of
// Connect, by service and method.
//
// Differences to Envoy: none known.
package grpcstats

import (
	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
)

// stateKey is where the counts stand in the filter state.
const stateKey = "envoy.filters.http.grpc_stats"

// Filter is one value for all workers.
type Filter struct {
	config

	// set at construction
	slot filter.Slot[call]
	// owned by the worker of the same index
	books []*grpc.Book
}

// New builds the filter.
func New(p *grpcstatsv3.FilterConfig, env filter.Env) (any, error) {
	f := &Filter{config: parse(p), slot: filter.NewSlot[call](env)}
	for range env.Workers {
		f.books = append(f.books, grpc.NewBook("grpc", f.noDots))
	}
	return f, nil
}

// OnRequest looks whether the request is a call, and follows its body.
func (f *Filter) OnRequest(s *filter.Stream) filter.Status {
	c := f.slot.Get(s)
	if c.kind = kindOf(s); c.kind == none {
		return filter.Continue
	}
	c.f, c.s, c.calls = f, s, f.find(s)
	if s.Request.Body != nil {
		c.request = counted{c: c, src: s.Request.Body}
		s.Request.Body = &c.request
	}
	return filter.Continue
}

// find returns where the call is counted; nil: nowhere, since it leads to no cluster or its path is that of no method.
func (f *Filter) find(s *filter.Stream) *grpc.Calls {
	service, method, ok := grpc.Method(s.Request.Path)
	if s.Cluster == nil || !ok {
		return nil
	}
	if !f.all && !f.listed[name{service, method}] {
		service, method = "", ""
	}
	return f.books[s.Worker.ID].Calls(s.Cluster.Codes, service, method)
}

// OnResponse counts the status, if it is in the head, and follows the body.
func (f *Filter) OnResponse(s *filter.Stream) filter.Status {
	c := f.slot.Get(s)
	if c.kind == none {
		return filter.Continue
	}
	if s.Local() {
		c.arrived()
	}
	c.headed()
	if s.Response.Body != nil {
		c.response = counted{c: c, src: s.Response.Body, answer: true}
		s.Response.Body = &c.response
	}
	return filter.Continue
}
