package hcm

import (
	"errors"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// respond sends the response that stands in the stream and says how the connection goes on.
func (x *exchange) respond() next {
	if x.f.Err() != nil {
		return x.abandoned()
	}
	if !x.Local() && x.Response.Status == 0 {
		x.LocalReply(404, "", "") // no filter has answered
		x.Finish()
	}
	x.count()
	x.head()
	d, r := x.d, &x.Response
	status := r.Status
	x.outlet = outlet{x: x, src: r.Body}
	if r.Body != nil {
		r.Body = &x.outlet
	}
	if x.h2 != nil {
		return x.respond2(status)
	}
	kind := http1.KindOf(&x.Request)
	x.sender = http1.Sender{}
	x.sender.Response(d.c.Worker, d.c.Conn, r, http1.Reply{Options: &x.cfg.http1, Kind: kind, Protocol: x.Info.Protocol, Close: x.closing && x.Tunnel == nil})
	x.m.charge(&x.Info, status)
	x.Start()
	d.c.Worker.Gather()
	done, err := x.sender.Run(true)
	i := &x.Info
	i.BytesOut, i.HeaderOut, i.WireOut = x.sender.Sent, x.sender.HeadBytes, x.sender.WireBytes
	i.ResponseEnd = d.c.Worker.Now()
	x.answered = true
	if !done || err != nil {
		return x.broken(err)
	}
	if x.Tunnel != nil {
		return x.tunnel()
	}
	return x.onwards()
}

// onwards says how the connection goes on after a whole response.
func (x *exchange) onwards() next {
	switch {
	case !x.closing && x.d.codec.Drained():
		return again
	case x.noDelay && !x.incomplete():
		return hangUp
	}
	return lingerOn
}

// incomplete says that the client may still be sending: its request, or what it takes for the payload of an upgrade.
func (x *exchange) incomplete() bool { return !x.RequestComplete() || x.refused || x.asked != "" }

// abandoned is a client that has gone before its response.
func (x *exchange) abandoned() next {
	st := x.m.stats
	st.RqRxReset.Inc()
	if x.h2 != nil {
		return x.abandoned2()
	}
	st.CxDestroyActive.Inc()
	st.CxDestroyRemoteActive.Inc()
	x.Info.Flags |= stream.DownstreamConnectionTermination
	x.Info.Details, x.Info.Status = "downstream_remote_disconnect", 0
	return destroyed
}

// broken is a response that has begun and cannot be sent to its end: all that can be said is to close the connection.
func (x *exchange) broken(err error) next {
	i, st := &x.Info, x.m.stats
	var t *filter.TimeoutError
	switch {
	case x.f.Err() != nil || !x.bodyFailed() && !errors.As(err, &t):
		n := x.abandonedLate()
		return n
	case errors.As(err, &t):
		i.Flags |= t.Flags
		i.Details = t.Details
		x.countTimeout(t)
	default:
		x.blameUpstream(err)
	}
	st.RqTxReset.Inc()
	if x.h2 != nil {
		return hangUp
	}
	st.RqRxReset.Inc() // the codec's stream goes with it
	return lingerOn
}

// bodyFailed says that a response could not be read to its end, not that it could not be sent.
func (x *exchange) bodyFailed() bool {
	if x.h2 != nil {
		return x.h2.BodyFailed
	}
	return x.sender.BodyFailed
}

// abandonedLate is abandoned with a response under way, whose status stands.
func (x *exchange) abandonedLate() next {
	status := x.Info.Status
	n := x.abandoned()
	x.Info.Status = status
	return n
}

// blameUpstream notes why the body of the response has ended early.
func (x *exchange) blameUpstream(err error) {
	f := filter.FaultOf(err)
	x.Info.Flags |= f.Flag
	x.Info.Details = f.Details(true)
}

// countTimeout counts a limit of the stream that has passed.
func (x *exchange) countTimeout(t *filter.TimeoutError) {
	switch t {
	case filter.LimitIdle.Cause():
		x.m.stats.RqIdle.Inc()
	case filter.LimitRequest.Cause():
		x.m.stats.RqTimeout.Inc()
	case filter.LimitDuration.Cause():
		x.m.stats.RqMaxDuration.Inc()
	}
}

// count counts the limit that a local reply is about.
func (x *exchange) count() {
	if !x.Local() {
		return
	}
	for l := filter.LimitIdle; l <= filter.LimitDuration; l++ {
		if t := l.Cause(); x.Info.Details == t.Details {
			x.countTimeout(t)
		}
	}
	x.f.Unlimit() // the reply itself has all the time that the client takes
	x.bodyTimeout()
}

// bodyTimeout lets a local reply take no longer than an idle stream may.
func (x *exchange) bodyTimeout() {
	for l := filter.LimitIdle; l <= filter.LimitTryIdle; l++ {
		x.Limit(l, 0)
	}
}

// head makes the head of the response what the client may see.
func (x *exchange) head() {
	h, r := &x.Response.Header, &x.cfg.response
	upgraded := x.Tunnel != nil
	date, server := false, false
	h.RemoveFunc(func(f *header.Field) bool {
		switch f.Name {
		case "connection", "upgrade":
			return !upgraded
		case "transfer-encoding", "keep-alive", "proxy-connection":
			return true
		case "date":
			date = true
		case "server":
			server = true
		}
		return false
	})
	if !date {
		h.Add("date", x.d.c.Worker.Date())
	}
	if r.server == hcmv3.HttpConnectionManager_OVERWRITE || r.server == hcmv3.HttpConnectionManager_APPEND_IF_ABSENT && !server {
		h.Set("server", r.serverName)
	}
	if id := x.Info.RequestID; id != "" && (r.alwaysSetID || x.seen.forceTrace) {
		h.Set("x-request-id", id)
	}
	if v := x.cfg.request.via; v != "" {
		x.appendVia(h, v)
	}
	x.proxyStatus()
	x.decideClose()
}

// decideClose decides whether the connection goes on after this stream.
func (x *exchange) decideClose() {
	d, c := x.d, &x.cfg.connection
	if x.h2 != nil {
		x.decideDrain()
		return
	}
	h := &x.Response.Header
	if d.codec.Close {
		x.closing, x.noDelay = true, true
	}
	if c.maxRequests > 0 && d.requests >= c.maxRequests {
		d.m.stats.CxMaxRequests.Inc()
		x.closing, x.noDelay = true, true
	}
	if x.Info.Protocol == stream.HTTP10 {
		if _, ok := h.Get("content-length"); !ok && x.Response.Body != nil {
			x.closing, x.noDelay = true, true // the body ends with the connection
		}
	}
	if l := d.m.env.Listener; l != nil && l.Drain.Closing() && d.phase == serving {
		d.m.stats.CxDrainClose.Inc()
		x.closing = true
	}
	if x.Close || d.phase == draining || d.ends != 0 && d.c.Worker.Now() >= d.ends {
		x.closing = true
	}
	if x.BadRequest() && !x.cfg.connection.streamError {
		x.closing = true
	}
	if x.Tunnel == nil && x.incomplete() {
		d.m.stats.RqRxReset.Inc()
		d.m.stats.RqEarlyResponse.Inc()
		x.closing = true
	}
	switch {
	case x.Tunnel != nil:
	case x.closing:
		h.Set("connection", "close")
	case x.Info.Protocol == stream.HTTP10:
		h.Set("connection", "keep-alive")
	}
}
