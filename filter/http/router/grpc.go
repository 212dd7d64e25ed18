package router

import (
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/header"
)

// judge counts for the host whether a request has succeeded; the status of a gRPC call comes with its trailers, unless it has none.
func (e *exchange) judge(a *attempt) {
	switch {
	case !e.s.GRPC():
		a.host.Stats.RqSuccess.Add(1)
	case a.ended:
		a.countCall(&e.s.Response.Header)
	default:
		a.unjudged = true
	}
}

// settle counts a gRPC call at its end.
func (a *attempt) settle() {
	if a.unjudged {
		a.unjudged = false
		a.countCall(&a.e.s.Response.Trailer)
	}
}

func (a *attempt) countCall(h *header.Map) {
	if s, ok := grpc.StatusOf(h); ok && s.HTTP() < 500 {
		a.host.Stats.RqSuccess.Add(1)
	} else {
		a.host.Stats.RqError.Add(1)
	}
}
