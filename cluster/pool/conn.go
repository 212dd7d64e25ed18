package pool

import (
	"errors"
	"io"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

var errConnectTimeout = errors.New("connect timeout")

// conn is an upstream connection.
type conn struct {
	// set at construction
	lane     *lane
	exchange *Exchange // HTTP/1
	mux      *mux      // HTTP/2; neither: TCP
	// owned by the worker
	net      fiber.Conn
	info     Info
	onIdle   func(expired bool) // wake, made once: this is the request path
	expiry   fiber.Timer        // max_connection_duration
	streams  uint32
	at       int // index in idle, -1: not there
	epoch    uint32
	killed   func()     // whoever uses a TCP connection wants to know that it is to end; nil: nobody
	lent     bool       // carries a stream
	listed   bool       // among the lane's lent
	since    fiber.Time // it has been in use
	prev     *conn
	next     *conn
	draining bool // carries no further one
	broke    bool // the host does not speak HTTP: it is we who end it
}

// open connects; it is all that its fiber does.
func (c *conn) open() {
	l := c.lane
	cfg := l.peer.Config
	f := l.w.Current()
	f.SetLimit(fiber.Limit{At: l.w.Now().Add(cfg.ConnectTimeout), Cause: errConnectTimeout})
	nc, err := cfg.Dial(l.w, *l.peer.target.Load(), &c.info)
	f.Unlimit()
	l.connecting--
	l.delist(c)
	if err != nil {
		c.refused(err)
		return
	}
	c.net = nc
	c.info.Connected = l.w.Now()
	cfg.Stats.CxConnectMs.Record(uint64((c.info.Connected - c.info.Started) / millisecond))
	if c = c.negotiated(); c.exchange != nil {
		cfg.Stats.CxHTTP1.Inc()
		c.info.Protocol = stream.HTTP11
		c.exchange.h1.Reset(l.w, nc)
		c.exchange.h1.Options = cfg.HTTP1
		if cfg.Opened != nil {
			cfg.Opened()
		}
	}
	if d := cfg.duration(); d > 0 {
		c.expiry.Do = c.expired
		c.expiry.Set(l.w, l.w.Now().Add(d))
	}
	if l.peer.gone.Load() {
		c.draining = true
	}
	c.onIdle = c.wake
	if c.mux != nil {
		cfg.Stats.CxHTTP2.Inc()
		c.mux.begin()
	}
	l.give(c)
}

// negotiated is the connection in the protocol that ALPN has chosen, where that was left to it.
func (c *conn) negotiated() *conn {
	if t := c.info.TLS; c.lane.mode != Auto || c.exchange == nil || t == nil || t.ALPN() != "h2" {
		return c
	}
	m := &mux{conn: *c}
	m.exchange, m.mux = nil, m
	return &m.conn
}

func (cfg *Config) duration() time.Duration {
	if cfg.Duration == nil {
		return 0
	}
	return cfg.Duration()
}

func (c *conn) refused(err error) {
	l := c.lane
	s := l.peer.Config.Stats
	timeout := errors.Is(err, errConnectTimeout)
	if timeout {
		s.CxConnectTimeout.Inc()
	}
	s.CxConnectFail.Inc()
	l.peer.Stats.CxConnectFail.Add(1)
	c.count(timeout)
	l.failed(&ConnectError{Timeout: timeout, Err: err})
	l.grow()
	l.settle()
}

// wake runs when something happens on a resting connection: its end, its limit, or bytes that nobody asked for.
func (c *conn) wake(expired bool) {
	c.lane.unrest(c)
	if expired {
		c.lane.peer.Config.Stats.CxIdleTimeout.Inc()
	}
	c.close(expired)
}

// expired runs at max_connection_duration.
func (c *conn) expired() {
	c.lane.peer.Config.Stats.CxMaxDuration.Inc()
	c.draining = true
	if c.mux != nil {
		c.mux.settle()
		return
	}
	if c.at >= 0 {
		c.lane.unrest(c)
		c.close(true)
	}
}

// release ends the stream. complete says that both messages came to their end, reusable that the connection can carry another one.
func (c *conn) release(complete, reusable bool) {
	l := c.lane
	l.delist(c)
	l.limits.Requests.Return()
	l.peer.Config.Stats.RqActive.Dec()
	l.peer.Stats.RqActive.Add(-1)
	c.lent = !complete
	if !reusable || c.spent() {
		c.close(c.broke || !c.ended())
		return
	}
	l.give(c)
}

// spent says that the connection takes no further stream.
func (c *conn) spent() bool { return c.draining || c.epoch != c.lane.epoch || c.lane.peer.gone.Load() }

// ended says whether the peer has closed or reset the connection.
func (c *conn) ended() bool {
	if !c.net.Readable() {
		return false
	}
	var b [1]byte
	n, err := c.net.TryRead(b[:])
	return n == 0 && err != fiber.ErrWouldWait
}

// close ends the connection, and lets the lane go on without it.
func (c *conn) close(local bool) {
	c.end(local)
	c.lane.grow()
	c.lane.settle()
}

// end closes and counts; local says that it is our doing.
func (c *conn) end(local bool) {
	c.expiry.Stop(c.lane.w)
	_ = c.net.Close()
	c.count(local)
}

func (c *conn) count(local bool) {
	l := c.lane
	s := l.peer.Config.Stats
	s.CxDestroy.Inc()
	if c.lent {
		s.CxDestroyActive.Inc()
	}
	switch {
	case local && c.lent:
		s.CxDestroyLocalActive.Inc()
		fallthrough
	case local:
		s.CxDestroyLocal.Inc()
	case c.lent:
		s.CxDestroyRemoteActive.Inc()
		fallthrough
	default:
		s.CxDestroyRemote.Inc()
	}
	s.CxActive.Dec()
	l.peer.Stats.CxActive.Add(-1)
	l.limits.Connections.Return()
	s.CxLengthMs.Record(uint64((l.w.Now() - c.info.Started) / millisecond))
	if c.exchange != nil || c.mux != nil {
		s.RqPerCx.Record(uint64(c.streams))
	}
	l.conns--
}

// Exchange is an HTTP/1 connection while it is lent. It is a Stream.
type Exchange struct {
	conn

	// owned by the worker
	h1     http1.Conn
	send   http1.Sender
	began  bool
	sent   bool
	kind   http1.Kind // of the request: its response is framed by it
	detach bool
	// answered says that the head of a final response has come; only kept for Sizes
	answered bool
}

// Send sends the head and as much of the body as is there.
func (e *Exchange) Send(q *stream.Request, wait bool) (bool, error) {
	if !e.began {
		e.began, e.sent, e.detach, e.kind = true, false, false, http1.KindOf(q)
		e.h1.HeadBytes, e.h1.BodyBytes, e.h1.WireBytes = 0, 0, 0 // of the response before
		e.send.Request(e.lane.w, e.net, q, e.h1.Options)
		if z := e.lane.peer.Config.Sizes; z != nil {
			z.request(q)
		}
	}
	if !wait {
		e.lane.w.Gather()
	}
	done, err := e.send.Run(wait)
	e.sent = done
	return done, err
}

// Receive reads the next head.
func (e *Exchange) Receive(r *stream.Response) error {
	err := e.h1.ReadResponse(r, e.kind)
	switch {
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	case err == io.ErrUnexpectedEOF, err != nil && malformed(err):
		e.broke = err != io.ErrUnexpectedEOF
		e.lane.peer.Config.Stats.CxProtocolError.Inc()
	case err == nil:
		e.head(r)
	}
	return err
}

// head counts what the head of a response says.
func (e *Exchange) head(r *stream.Response) {
	if e.h1.CloseNotice {
		e.lane.peer.Config.Stats.CxCloseNotify.Inc()
	}
	if z := e.lane.peer.Config.Sizes; z != nil && r.Status >= 200 {
		e.answered = true
		z.response(r)
	}
}

// malformed says whether err is about what the host has sent.
func malformed(err error) bool {
	var broken *http1.Error // escapes: not in Receive, which runs for every response
	return errors.As(err, &broken)
}

// Codec gives access to what the codec counted: head and wire bytes of the messages under way.
func (e *Exchange) Codec() (in *http1.Conn, out *http1.Sender) { return &e.h1, &e.send }

// Reused says whether the connection has carried a stream before.
func (e *Exchange) Reused() bool { return e.streams > 1 }

// Info describes the connection.
func (e *Exchange) Info() *Info { return &e.info }

// Detach hands out the raw connection.
func (e *Exchange) Detach() (fiber.Conn, []byte) {
	e.detach = true
	return e.h1.Detach()
}

// Tunneled counts what has gone over the connection since Detach.
func (e *Exchange) Tunneled(sent, received int64) {
	s := e.lane.peer.Config.Stats
	s.CxTxBytes.Add(uint64(sent))
	s.CxRxBytes.Add(uint64(received))
}

// Release gives the connection back.
func (e *Exchange) Release(ok bool) {
	complete := ok && e.sent && !e.detach && e.h1.Drained()
	reusable := complete && !e.h1.Close && !e.h1.Buffered() && !e.net.Readable()
	if e.began {
		s := e.lane.peer.Config.Stats
		s.CxTxBytes.Add(uint64(e.send.WireBytes))
		s.CxRxBytes.Add(uint64(e.h1.WireBytes))
		if z := e.lane.peer.Config.Sizes; z != nil {
			z.RqBody.Record(uint64(e.send.Sent))
			if e.answered {
				z.RsBody.Record(uint64(e.h1.BodyBytes))
			}
			e.answered = false
		}
		e.began = false
		e.judge(complete)
	}
	e.h1.Release()
	e.release(complete, reusable)
}

// judge counts what was wrong with the response.
func (e *Exchange) judge(complete bool) {
	s := e.lane.peer.Config.Stats
	switch err := e.h1.Failed(); {
	case err == nil && complete && e.h1.Buffered(): // more than the response
		e.broke = true
		s.CxProtocolError.Inc()
	case err != nil:
		e.broke = malformed(err)
		s.CxProtocolError.Inc()
	}
}

// TCP is a connection while it is lent: to one downstream connection, for its whole life.
type TCP conn

// Conn returns the connection to read from and write to.
func (t *TCP) Conn() fiber.Conn { return t.net }

// Info describes the connection.
func (t *TCP) Info() *Info { return &t.info }

// Sent counts bytes written.
func (t *TCP) Sent(n int) { t.lane.peer.Config.Stats.CxTxBytes.Add(uint64(n)) }

// Received counts bytes read.
func (t *TCP) Received(n int) { t.lane.peer.Config.Stats.CxRxBytes.Add(uint64(n)) }

// OnKill is called when the connection must end because its host has failed (CloseOnFailure).
func (t *TCP) OnKill(f func()) { t.killed = f }

// Release closes the connection, once; remote says that the host closed it.
func (t *TCP) Release(remote bool) {
	c := (*conn)(t)
	l := c.lane
	l.delist(c)
	l.limits.Requests.Return()
	l.peer.Config.Stats.RqActive.Dec()
	l.peer.Stats.RqActive.Add(-1)
	c.close(!remote)
}
