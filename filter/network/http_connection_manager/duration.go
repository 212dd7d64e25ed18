package hcm

import (
	"time"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// limitDuration bounds the stream by what its route says of that, and tells a gRPC host how long that is.
func (x *exchange) limitDuration(a *route.Action) {
	t, bounded := x.duration(a)
	if !bounded {
		x.Limit(filter.LimitDuration, 0)
		return
	}
	if a.StreamDuration && x.GRPC() {
		x.Request.Header.Set("grpc-timeout", x.Append(func(b []byte, _ *stream.Stream) []byte { return grpc.AppendTimeout(b, t) }))
	}
	x.Limit(filter.LimitDuration, x.Info.Start.Add(t))
}

// duration is how long the stream may last, in this order: by the client's grpc-timeout, if the route listens to it, by the route, by the
// connection manager.
func (x *exchange) duration(a *route.Action) (d time.Duration, bounded bool) {
	if t, ok := deadline(a, &x.Request.Header); ok {
		return t, true
	}
	if a.MaxStreamDuration != route.Unset {
		return a.MaxStreamDuration, a.MaxStreamDuration > 0
	}
	return x.cfg.maxStreamDuration, x.cfg.maxStreamDuration > 0
}

// deadline is that of the client, within what the route allows; it may be over at once.
func deadline(a *route.Action, h *header.Map) (time.Duration, bool) {
	if a.GrpcTimeoutHeaderMax == route.Unset {
		return 0, false
	}
	v, _ := h.Get("grpc-timeout")
	t, ok := grpc.ParseTimeout(v)
	if !ok {
		return 0, false
	}
	if most := a.GrpcTimeoutHeaderMax; most > 0 {
		t = min(t, most)
	}
	return max(t-max(a.GrpcTimeoutHeaderOffset, 0), 0), true
}
