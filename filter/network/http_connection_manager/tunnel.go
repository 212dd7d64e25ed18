package hcm

import (
	"errors"
	"io"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/internal/tunnel"
)

// joint is a stream after its upgrade: client and host are joined, and no fiber waits for the end. It is not part of the exchange, which
// is pooled: a fiber that is still writing to one side may outlive the stream.
type joint struct {
	x       *exchange
	pair    tunnel.Pair
	longest fiber.Timer // max_stream_duration
}

// tunnel joins the client and the host until one of them ends, which ends both.
func (x *exchange) tunnel() next {
	d := x.d
	w := d.c.Worker
	x.m.stats.CxUpgradesActive.Inc()
	x.m.stats.RqEarlyResponse.Inc() // the request ends with the tunnel
	if x.cfg.logTunnel {
		x.Info.LogType = stream.LogDownstreamTunnelSuccessfullyEstablished
		x.cfg.logs.Log(&x.Stream.Stream)
	}
	j := &joint{x: x}
	down, early := d.codec.Detach()
	j.pair.Join(w, j, down, x.Tunnel.Conn)
	j.pair.Up.Prepend(early)
	j.pair.Down.Prepend(x.Tunnel.Rest)
	d.c.Guard(nil) // the pair sees the end, behind the last bytes
	x.Leave()
	d.joint = j
	if at := earlier(x.Limited(filter.LimitDuration), x.Limited(filter.LimitUpstream)); at != 0 {
		j.longest.Do = j.tooLong
		j.longest.Set(w, at)
	}
	j.pair.Begin(x.Idle)
	return joined
}

// Moved is tunnel.Owner.
func (j *joint) Moved(bool) {
	i, t := &j.x.Info, j.x.Tunnel
	in, out := j.pair.Up.Take(), j.pair.Down.Take()
	t.Sent += in
	t.Received += out
	i.BytesIn += in
	i.Upstream.BytesOut += in
	i.BytesOut += out
	i.WireOut += out
	i.Upstream.BytesIn += out
}

// Over is tunnel.Owner: HTTP/1 has no half-close, so an end is the end of both.
func (j *joint) Over(h *tunnel.Half, err error) {
	x := j.x
	var w *tunnel.WriteError
	if errors.As(err, &w) == (h == &j.pair.Down) { // the client was read from, or written to
		j.end(x.abandonedLate())
		return
	}
	x.m.stats.RqRxReset.Inc() // the request has not come to its end
	if x.Tunnel.Ends && err == io.EOF {
		j.end(lingerOn)
		return
	}
	x.Tunnel.Broken = true
	x.m.stats.RqTxReset.Inc()
	x.blameUpstream(err)
	j.end(lingerOn)
}

// Idle is tunnel.Owner.
func (j *joint) Idle() { j.expire(filter.LimitIdle) }

// tooLong runs at max_stream_duration, of the stream or of the cluster.
func (j *joint) tooLong() {
	if at := j.x.Limited(filter.LimitUpstream); at != 0 && at <= j.x.d.c.Worker.Now() {
		j.expire(filter.LimitUpstream)
		return
	}
	j.expire(filter.LimitDuration)
}

// earlier is the earlier of two times, of which 0 is never.
func earlier(a, b fiber.Time) fiber.Time {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// expire ends the tunnel at one of the limits of its stream.
func (j *joint) expire(l filter.Limit) {
	x, t := j.x, l.Cause()
	x.Info.Flags |= t.Flags
	x.Info.Details = t.Details
	x.countTimeout(t)
	x.m.stats.RqRxReset.Inc()
	x.m.stats.RqTxReset.Inc()
	j.later(lingerOn)
}

// drop ends the tunnel at the listener's wish.
func (j *joint) drop() {
	x := j.x
	x.m.stats.CxDestroyActive.Inc()
	x.m.stats.CxDestroyLocalActive.Inc()
	x.Info.Flags |= stream.DownstreamConnectionTermination
	x.Info.Details = "downstream_local_disconnect"
	j.later(hangUp)
}

// later is end for who is on the loop.
func (j *joint) later(n next) {
	j.stop()
	j.x.d.c.Worker.Go(func() { j.end(n) }) // ends at once: end hooks do not wait
}

func (j *joint) stop() {
	j.pair.Stop()
	j.longest.Stop(j.x.d.c.Worker)
	j.x.d.joint = nil
}

// end closes the books of the stream, on a fiber, and its connection as n says.
func (j *joint) end(n next) {
	x := j.x
	d := x.d
	w := d.c.Worker
	j.stop()
	j.Moved(false)
	x.m.stats.CxUpgradesActive.Dec()
	x.Info.ResponseEnd = w.Now()
	defer d.end(n) // also when a hook panics, which the worker counts; x is not used again then
	x.f = w.Current()
	x.end()
	d.m.shards[w.ID].put(x)
}
