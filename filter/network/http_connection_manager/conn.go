package hcm

import (
	"math/rand/v2"
	"time"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http1"
)

// conn is one downstream connection. Between requests it is nothing but this and a socket.
type conn struct {
	// set at construction
	m     *Manager
	c     *filter.Conn
	serve func(expired bool)
	ends  fiber.Time // max_connection_duration; 0: never
	// owned by the worker
	codec    http1.Conn
	requests uint32
	phase    phase
	resting  bool       // the loop has the connection
	until    fiber.Time // of the drain or the delayed close
	opened   fiber.Time
	joint    *joint           // nil unless it is a tunnel
	peerRule *certificateRule // that peerText was made by
	peerText string
	mux      *mux // nil unless it speaks HTTP/2
	counted  bool // among the connections of its version of HTTP
}

// phase is where a connection stands in its life.
type phase uint8

const (
	serving   phase = iota
	draining        // its time is up: the next response says so, and without one it closes at until
	lingering       // closed for us: what still comes is dropped, until the peer closes or until passes
)

// next is what becomes of a connection after a stream.
type next uint8

const (
	again     next = iota // another request may follow
	hangUp                // close it now
	lingerOn              // the peer may still be sending: close it a little later
	destroyed             // the peer has closed it
	joined                // a tunnel has it, which ends it
	other                 // it speaks HTTP/2
)

// Open waits for the first request without a fiber.
func (m *Manager) Open(c *filter.Conn) {
	st := m.stats
	st.CxTotal.Inc()
	st.CxActive.Inc()
	if c.Info.TLS != nil {
		st.CxSSLTotal.Inc()
		st.CxSSLActive.Inc()
	}
	d := &conn{m: m, c: c, opened: c.Worker.Now()}
	d.serve = d.wake
	c.Drain, c.Drop = d.depart, d.drop
	d.codec.Reset(c.Worker, c.Conn)
	if s := &m.config.Load().connection; s.maxDuration > 0 {
		d.ends = c.Worker.Now().Add(jitter(s.maxDuration, s.durationJitter))
	}
	if m.speaksHTTP2(c) {
		d.multiplex(nil)
		return
	}
	d.rest()
}

// jitter makes d longer by up to percent of it.
func jitter(d time.Duration, percent float64) time.Duration {
	return d + time.Duration(rand.Float64()*percent/100*float64(d))
}

// rest gives the connection to the loop until bytes come, or its time is up.
func (d *conn) rest() {
	d.codec.Release()
	limit := d.until
	if d.phase == serving {
		limit = d.ends
		if t := d.m.config.Load().connection.idle; t > 0 {
			if at := d.c.Worker.Now().Add(t); limit == 0 || at < limit {
				limit = at
			}
		}
	}
	d.resting = true
	d.c.OnIdle(limit, d.serve)
}

// depart is filter.Conn.Drain: a connection that rests closes, unless a request has come in already.
func (d *conn) depart() {
	if d.mux != nil {
		d.mux.depart()
		return
	}
	if d.resting && d.phase == serving && !d.c.Readable() {
		d.c.OnIdle(0, nil)
		d.m.stats.CxDrainClose.Inc()
		d.close(false)
	}
}

// drop is filter.Conn.Drop: the connection ends, whatever it does. A fiber that serves it sees that it is closed.
func (d *conn) drop() {
	switch {
	case d.mux != nil:
		d.mux.h2.Close()
	case d.joint != nil:
		d.joint.drop()
	case d.resting:
		d.c.OnIdle(0, nil)
		d.close(false)
	default:
		_ = d.c.Close()
	}
}

// wake runs on a fiber when something has come to pass while the connection rested.
func (d *conn) wake(expired bool) {
	d.resting = false
	switch {
	case expired:
		d.expire()
	case d.phase == lingering:
		d.discard()
	default:
		d.exchanges()
	}
}

// expire ends a connection that has rested, or lived, for too long: one that has served requests gets a grace period first.
func (d *conn) expire() {
	now, c := d.c.Worker.Now(), &d.m.config.Load().connection
	switch {
	case d.phase == lingering:
		d.m.stats.CxDelayedClose.Inc()
		d.close(false)
		return
	case d.phase == draining:
		d.linger()
		return
	case d.ends != 0 && now >= d.ends:
		d.m.stats.CxMaxDuration.Inc()
	default:
		d.m.stats.CxIdle.Inc()
	}
	if d.requests == 0 {
		d.close(false)
		return
	}
	d.drain(c)
	d.rest()
}

// drain begins the grace period of drain_timeout.
func (d *conn) drain(c *connectionSettings) {
	d.phase = draining
	d.until = d.c.Worker.Now().Add(jitter(c.drain, c.drainJitter))
	if c.safeMaxDuration && d.ends != 0 && d.c.Worker.Now() >= d.ends {
		d.until = 0 // it goes with the next response
	}
}

// linger lets the peer read the last response before the connection closes: closing it on unread input would reset it.
func (d *conn) linger() {
	t := d.m.config.Load().connection.delayedClose
	if t == 0 {
		d.close(false)
		return
	}
	d.phase, d.until = lingering, d.c.Worker.Now().Add(t)
	d.rest()
}

// discard drops what comes in while the connection lingers.
func (d *conn) discard() {
	b := d.c.Worker.Buffers.Get()
	defer d.c.Worker.Buffers.Put(b)
	for {
		switch _, err := d.c.TryRead(b); err {
		case nil:
		case fiber.ErrWouldWait:
			d.rest()
			return
		default:
			d.close(true)
			return
		}
	}
}

// exchanges serves requests, on a fiber, until none is there: then the connection rests again, or is at its end.
func (d *conn) exchanges() {
	sh := &d.m.shards[d.c.Worker.ID]
	x := sh.take()
	n := destroyed
	defer func() {
		if n == again {
			sh.put(x)
			d.rest()
			return
		}
		switch n {
		case joined:
		case other:
			sh.put(x)
			d.multiplex(d.codec.Input())
			d.codec.Release()
		default:
			d.end(n) // also while a panic is on its way to the worker, which counts it; x is not used again then
		}
	}()
	for {
		if n = x.exchange(d); n != again || !d.codec.Buffered() && !d.c.Readable() {
			if n != again && n != joined && n != other {
				sh.put(x)
			}
			return
		}
	}
}

// end closes the connection as n says.
func (d *conn) end(n next) {
	if n == lingerOn {
		d.linger()
		return
	}
	d.close(n == destroyed)
}

// close ends the connection; remote says that the peer began it.
func (d *conn) close(remote bool) {
	st := d.m.stats
	d.codec.Release()
	_ = d.c.Close()
	if d.counted {
		st.CxHTTP1Active.Dec()
	}
	d.closed(remote)
}

// closed counts the end of the connection.
func (d *conn) closed(remote bool) {
	st := d.m.stats
	st.CxActive.Dec()
	if d.c.Info.TLS != nil {
		st.CxSSLActive.Dec()
	}
	st.CxDestroy.Inc()
	if remote {
		st.CxDestroyRemote.Inc()
	} else {
		st.CxDestroyLocal.Inc()
	}
	st.CxLength.Record(milliseconds(d.opened, d.c.Worker.Now()))
	if d.c.Ended != nil {
		d.c.Ended()
	}
}
