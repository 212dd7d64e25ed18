package router

import (
	"errors"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// log tells the loggers of upstream_log of an attempt, as a stream of its own: its status, its flags, and what it has received from the
// host and sent to it.
func (a *attempt) log(t stream.LogType) {
	e := a.e
	if len(e.r.logs) == 0 {
		return
	}
	s := e.s
	info, response := s.Info, s.Response
	i := &s.Info
	i.Protocol = i.Upstream.Protocol
	i.LogType, i.Details, i.Flags, i.Status, i.BytesIn, i.BytesOut, i.Upstream.Attempts = t, "", a.flags, a.response.Status, 0, 0, 0
	i.Upstream.Host, i.Upstream.HostName, i.Upstream.HostMetadata = a.host.Address, a.host.Hostname, a.host.Metadata // hedging: it may be of another
	if t == stream.LogUpstreamEnd {
		i.BytesIn, i.BytesOut = bodies(a.conn, s.Tunnel)
	}
	switch {
	case a.response.Status == 0: // its head is of an attempt before
		s.Response = stream.Response{}
	case e.won != a:
		s.Response, i.BytesIn = a.response, 0
	}
	e.r.logs.Log(&s.Stream)
	s.Info, s.Response = info, response
}

// logEnd tells of the end of an attempt that has come to a host, once.
func (a *attempt) logEnd() {
	if a.host != nil && !a.logged {
		a.logged = true
		a.log(stream.LogUpstreamEnd)
	}
}

// failedWith notes why an attempt has no response, for its log.
func (a *attempt) failedWith(err error) {
	if err != nil && len(a.e.r.logs) > 0 && a.e.s.Worker.Current().Err() == nil {
		a.flags = flagsOf(err)
		a.meter()
		a.logEnd()
	}
}

// metered is a connection of HTTP/1, whose codec counts.
type metered interface {
	Codec() (in *http1.Conn, out *http1.Sender)
}

// wire is how much of an exchange went over the wire: in all, and of it the heads.
type wire struct{ in, headIn, out, headOut int64 }

// wireOf asks a connection; a nil one has carried nothing.
func wireOf(c pool.Stream) (n wire) {
	switch c := c.(type) {
	case *pool.Channel:
		n.in, n.headIn, n.out, n.headOut = c.Meter()
	case metered:
		in, out := c.Codec()
		n = wire{in.WireBytes, in.HeadBytes, out.WireBytes, out.HeadBytes}
	}
	return n
}

// charge adds n to what the attempts of a stream have carried, but for what of it was added before.
func (n wire) charge(u *stream.Upstream, before wire) {
	u.BytesIn += n.in - before.in
	u.HeaderIn += n.headIn - before.headIn
	u.BytesOut += n.out - before.out
	u.HeaderOut += n.headOut - before.headOut
}

// bodies is how much of the bodies has come and gone, with what went through t, which may be nil: a stream of HTTP/2 counts that itself.
func bodies(c pool.Stream, t *filter.Tunnel) (in, out int64) {
	switch c := c.(type) {
	case *pool.Channel:
		return c.Bodies()
	case metered:
		r, s := c.Codec()
		in, out = r.BodyBytes, s.Sent
		if t != nil {
			in, out = in+t.Received, out+t.Sent
		}
	}
	return in, out
}

// flagsOf is what an attempt that has failed with err is marked with. A limit marks the request, not the attempt.
func flagsOf(err error) stream.Flags {
	var c *pool.ConnectError
	var t *filter.TimeoutError
	switch {
	case err == nil, errors.As(err, &t):
		return 0
	case errors.Is(err, pool.ErrOverflow):
		return stream.UpstreamOverflow
	case errors.As(err, &c):
		return stream.UpstreamConnectionFailure
	}
	return filter.FaultOf(err).Flag
}
