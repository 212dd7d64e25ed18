package hcm

import (
	"errors"
	"io"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/internal/tunnel"
)

// weave is a stream of HTTP/2 after its upgrade. Its fiber waits for the end, since a reset of the stream cancels it.
type weave struct {
	x    *exchange
	pair tunnel.Pair
	news fiber.Cond
	idle bool
	half bool // one side has said all that it has to say
	done bool
	err  error
}

// weave joins the stream and the host until both have ended.
func (x *exchange) weave() next {
	w := x.d.c.Worker
	x.m.stats.CxUpgradesActive.Inc()
	defer x.m.stats.CxUpgradesActive.Dec()
	if x.cfg.logTunnel {
		x.Info.LogType = stream.LogDownstreamTunnelSuccessfullyEstablished
		x.cfg.logs.Log(&x.Stream.Stream)
	}
	j := &weave{x: x}
	j.pair.Join(w, j, x.h2.Tunnel(), x.Tunnel.Conn)
	j.pair.Down.Prepend(x.Tunnel.Rest)
	for l := filter.LimitIdle; l <= filter.LimitTryIdle; l++ {
		if l != filter.LimitDuration {
			x.Limit(l, 0)
		}
	}
	j.pair.Begin(x.Idle)
	var err error
	for !j.done && !j.idle && err == nil {
		err = j.news.Wait(w)
	}
	j.pair.Stop()
	j.Moved(false)
	x.Info.WireOut, x.Info.ResponseEnd = x.h2.WireOut, w.Now()
	return j.result(err)
}

// result writes down how it has ended; err is what ended the wait.
func (j *weave) result(err error) next {
	x := j.x
	var t *filter.TimeoutError
	switch {
	case x.f.Err() != nil:
		return x.abandonedLate()
	case j.idle:
		t = filter.LimitIdle.Cause()
	default:
		errors.As(err, &t)
	}
	switch {
	case t != nil:
		x.Info.Flags |= t.Flags
		x.Info.Details = t.Details
		x.countTimeout(t)
		x.m.stats.RqTxReset.Inc()
		return hangUp
	case j.err != nil:
		x.Tunnel.Broken = true
		x.m.stats.RqTxReset.Inc()
		x.blameUpstream(j.err)
		return hangUp
	}
	return again
}

// Moved is tunnel.Owner.
func (j *weave) Moved(bool) {
	i, t := &j.x.Info, j.x.Tunnel
	in, out := j.pair.Up.Take(), j.pair.Down.Take()
	t.Sent += in
	t.Received += out
	i.BytesIn += in
	i.Upstream.BytesOut += in
	i.BytesOut += out
	i.Upstream.BytesIn += out
}

// Over is tunnel.Owner: the end of one side is passed on, and the other may go on.
func (j *weave) Over(h *tunnel.Half, err error) {
	if err == io.EOF { // never wrapped
		_ = h.To.CloseWrite()
		j.done = j.half || h == &j.pair.Down
		j.half = true
	} else {
		j.done, j.err = true, err
	}
	if j.done {
		j.news.Broadcast()
	}
}

// Idle is tunnel.Owner.
func (j *weave) Idle() {
	j.idle = true
	j.news.Broadcast()
}
