package pool

import (
	"errors"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// mux is an upstream HTTP/2 connection: it stands among those that a lane may lend as long as it takes another stream.
type mux struct {
	conn

	// owned by the worker
	h2     http2.Conn
	active int // streams that are lent
	rest   fiber.Timer
	free   []*Channel
	local  bool // we have closed it
	told   bool // how many streams it takes
	away   bool // the host has sent GOAWAY
}

// begin speaks HTTP/2 on the connection, which has come about.
func (m *mux) begin() {
	l := m.lane
	m.info.Protocol = stream.HTTP2
	m.rest.Do = m.rested
	l.unsettled++
	m.h2.Client(l.w, m.net, l.peer.Config.HTTP2, m, l.peer.streams(l.w))
	m.h2.Expect(l.takes)
}

// open says whether another stream may be lent: not where streams that nobody reads could hold it up.
func (m *mux) open() bool { return m.active < m.h2.Limit() && !m.spent() && !m.h2.Crowded() }

// Serve is nobody's: a server opens no streams.
func (m *mux) Serve(*http2.Stream) {}

// Changed takes in that the connection takes more or fewer streams.
func (m *mux) Changed() {
	l := m.lane
	if m.h2.PeerAway() && !m.away {
		m.away = true
		l.peer.Config.Stats.CxCloseNotify.Inc()
	}
	l.give(&m.conn)
	if !m.told && m.h2.Settled() {
		m.told = true
		l.takes = m.h2.PeerStreams()
		l.unsettled--
		l.grow()
	}
}

// settle lets the connection go, or rest, or be lent again.
func (m *mux) settle() {
	l := m.lane
	switch open := m.open(); {
	case m.h2.Err() != nil:
		m.leave()
	case m.active == 0 && (m.spent() || m.h2.Draining()):
		m.finish()
	case open && m.at < 0:
		m.at = len(l.idle)
		l.idle = append(l.idle, &m.conn)
	case !open:
		m.leave()
	}
	if d := l.peer.Config.IdleTimeout; m.active == 0 && d > 0 && m.at >= 0 {
		m.rest.Set(l.w, l.w.Now().Add(d))
	} else {
		m.rest.Stop(l.w)
	}
}

// finish closes a connection that carries no stream.
func (m *mux) finish() {
	m.leave()
	m.local = true
	m.h2.Close()
}

// leave takes the connection from those that may be lent.
func (m *mux) leave() {
	if m.at >= 0 {
		m.lane.unrest(&m.conn)
	}
}

// rested runs when the connection has carried no stream for idle_timeout.
func (m *mux) rested() {
	if m.active == 0 {
		m.lane.peer.Config.Stats.CxIdleTimeout.Inc()
		m.finish()
	}
}

// Closed counts the end of the connection.
func (m *mux) Closed(err error) {
	if _, bad := errors.AsType[*http2.Error](err); bad {
		m.lane.peer.Config.Stats.CxProtocolError.Inc()
		m.local = true
	}
	m.leave()
	if !m.told {
		m.lane.unsettled--
	}
	m.rest.Stop(m.lane.w)
	m.expiry.Stop(m.lane.w)
	m.lent = m.active > 0
	s := m.lane.peer.Config.Stats
	s.CxTxBytes.Add(m.h2.TxBytes)
	s.CxRxBytes.Add(m.h2.RxBytes)
	m.count(m.local || errors.Is(err, http2.ErrKeepalive))
	m.lane.grow()
	m.lane.settle()
}

// channel lends a stream, which attach has counted.
func (m *mux) channel() *Channel {
	var c *Channel
	if n := len(m.free); n > 0 {
		c, m.free = m.free[n-1], m.free[:n-1]
	} else {
		c = &Channel{m: m}
	}
	c.reused = m.streams > 1
	return c
}

// Channel is a stream of an HTTP/2 connection while it is lent. It is a Stream.
type Channel struct {
	// set at construction
	m *mux
	// owned by the worker
	s       *http2.Stream
	upgrade string // what the request asks for, in the terms of HTTP/1
	connect bool
	reused  bool
}

// Send sends the head and as much of the body as is there.
func (c *Channel) Send(q *stream.Request, wait bool) (bool, error) {
	if c.s == nil {
		if err := c.begin(q); err != nil {
			return false, err
		}
	}
	if c.connect || c.upgrade != "" {
		return true, nil
	}
	return c.s.Run(wait)
}

// begin sends the head. An upgrade of HTTP/1 becomes an extended CONNECT (RFC 8441).
func (c *Channel) begin(q *stream.Request) error {
	c.s = c.m.h2.Open()
	switch http1.KindOf(q) {
	case http1.Upgrading:
		v, _ := q.Header.Find(header.Upgrade)
		c.upgrade = strings.ToLower(v)
		c.s.Hold()
	case http1.Connect:
		c.connect = true
		c.s.Hold()
	}
	if z := c.m.lane.peer.Config.Sizes; z != nil {
		z.request(q)
	}
	return c.s.Request(q, c.upgrade)
}

// Receive reads the next head.
func (c *Channel) Receive(r *stream.Response) error {
	if err := c.s.ReadResponse(r); err != nil {
		return err
	}
	if r.Status < 200 {
		return nil
	}
	if z := c.m.lane.peer.Config.Sizes; z != nil {
		z.response(r)
	}
	switch {
	case c.upgrade != "" && r.Status/100 == 2:
		r.Status, r.Body = 101, nil
		r.Header.SetID(header.Connection, "upgrade")
		r.Header.SetID(header.Upgrade, c.upgrade)
	case c.connect && r.Status/100 == 2:
		r.Body = nil
	}
	return nil
}

// Reused says whether the connection has carried a stream before.
func (c *Channel) Reused() bool { return c.reused }

// Info describes the connection.
func (c *Channel) Info() *Info { return &c.m.info }

// Meter tells what went over the wire for this stream: in all, and of it the heads.
func (c *Channel) Meter() (in, headIn, out, headOut int64) {
	if c.s == nil {
		return 0, 0, 0, 0
	}
	return c.s.WireIn, c.s.HeadIn, c.s.WireOut, c.s.HeadOut
}

// Bodies tells how much of the bodies was received and sent.
func (c *Channel) Bodies() (in, out int64) {
	if c.s == nil {
		return 0, 0
	}
	return c.s.BodyIn, c.s.Sent
}

// Detach hands out the stream as a connection.
func (c *Channel) Detach() (fiber.Conn, []byte) { return c.s.Tunnel(), nil }

// Tunneled counts nothing: the connection knows what went over it.
func (c *Channel) Tunneled(_, _ int64) {}

// Release ends the stream.
func (c *Channel) Release(bool) {
	m := c.m
	l := m.lane
	if s := c.s; s != nil {
		if z := l.peer.Config.Sizes; z != nil {
			z.RqBody.Record(uint64(s.Sent))
			z.RsBody.Record(uint64(s.BodyIn))
		}
		c.s = nil
		m.judge(s)
		s.Release()
	}
	c.upgrade, c.connect = "", false
	m.free = append(m.free, c)
	m.unlend()
}

// judge counts a stream that ends early: for the host, or for us.
func (m *mux) judge(s *http2.Stream) {
	st := m.lane.peer.Config.Stats
	r, reset := errors.AsType[*http2.Reset](s.Err())
	_, fault := errors.AsType[*http2.Error](s.Err())
	switch {
	case s.Live(), fault, reset && (!r.Remote || r.Code == http2.ProtocolError):
		st.RqTxReset.Inc()
	case reset && r.Code != http2.RefusedStream && r.Code != http2.ConnectError:
		st.RqRxReset.Inc()
	}
}

// unlend counts the end of a stream.
func (m *mux) unlend() {
	l := m.lane
	if m.active--; m.active == 0 {
		l.delist(&m.conn)
	}
	l.limits.Requests.Return()
	l.peer.Config.Stats.RqActive.Dec()
	l.peer.Stats.RqActive.Add(-1)
	if m.h2.Err() == nil {
		l.give(&m.conn)
	}
}
