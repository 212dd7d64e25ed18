package pool

import (
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// lane is the pool of one host, worker and priority: connections that wait for streams, and streams that wait for connections.
// It does what Envoy's ConnPoolImplBase does, with the same counters.
type lane struct {
	// set at construction
	peer      *Peer
	w         *fiber.Worker
	limits    *Limits
	prio      Priority
	http      bool
	mode      Protocol
	transport Transport
	watch     *watch
	emptied   func() // takes the lane out of its place: the last connection is gone
	// owned by the worker
	idle       []*conn
	queue      []*waiter // streams, in their order
	spare      []*waiter
	conns      int // all of them: idle, lent, connecting
	connecting int
	epoch      uint32 // connections of an earlier one take no further stream
	lent       *conn  // the first of those in use
	takes      uint32 // streams that the last HTTP/2 connection took at a time
	unsettled  int    // HTTP/2 connections that have not told how many streams they take
}

// waiter is a stream that waits for a connection.
type waiter struct {
	cond fiber.Cond
	conn *conn
	err  error
}

// newLane makes an empty lane, unless there are too many (max_connection_pools).
func newLane(p *Peer, w *fiber.Worker, o Options, http bool) (*lane, error) {
	l := &lane{peer: p, w: w, limits: p.Config.Limits[o.Priority], prio: o.Priority, http: http, mode: p.mode(o, http), transport: o.Transport, watch: &p.lanes[w.ID].watch}
	l.limits.refresh()
	if !l.limits.Pools.Take() {
		p.Config.Stats.CxPoolOverflow.Inc()
		return nil, ErrOverflow
	}
	return l, nil
}

// settle ends the lane when it has neither connections nor streams that wait for one.
func (l *lane) settle() {
	if l.conns == 0 && len(l.queue) == 0 {
		l.limits.Pools.Return()
		l.emptied()
	}
}

// get lends the connection used last, or waits for one.
func (l *lane) get() (*conn, error) {
	l.limits.refresh()
	for n := len(l.idle); n > 0; n = len(l.idle) {
		c := l.idle[n-1]
		if m := c.mux; m != nil {
			if m.open() {
				return l.share(c)
			}
			m.leave() // it has ended in this very turn
			continue
		}
		l.idle = l.idle[:n-1]
		c.at = -1
		c.net.OnIdle(0, nil)  // ours again
		if c.net.Readable() { // it has ended in this very turn
			c.end(false)
			continue
		}
		if !l.attach(c) {
			l.rest(c)
			return nil, ErrOverflow
		}
		return c, nil
	}
	s := l.peer.Config.Stats
	if !l.limits.Pending.Take() {
		s.RqPendingOverflow.Inc()
		l.settle()
		return nil, ErrOverflow
	}
	s.RqPendingTotal.Inc()
	s.RqPendingActive.Inc()
	l.peer.Stats.RqPendingActive.Add(1)
	return l.wait()
}

// share lends another stream of an HTTP/2 connection.
func (l *lane) share(c *conn) (*conn, error) {
	if !l.attach(c) {
		return nil, ErrOverflow
	}
	c.mux.settle()
	return c, nil
}

func (l *lane) wait() (*conn, error) {
	var t *waiter
	if n := len(l.spare); n > 0 {
		t, l.spare = l.spare[n-1], l.spare[:n-1]
	} else {
		t = &waiter{}
	}
	l.queue = append(l.queue, t)
	l.grow()
	var err error
	for t.conn == nil && t.err == nil && err == nil {
		err = t.cond.Wait(l.w)
	}
	c, result := t.conn, t.err
	if err != nil {
		l.abandon(t)
		c, result = nil, err
	}
	*t = waiter{}
	l.spare = append(l.spare, t)
	return c, result
}

// abandon takes a cancelled stream out of the queue.
func (l *lane) abandon(t *waiter) {
	if t.conn != nil { // lent in the same turn
		if m := t.conn.mux; m != nil {
			m.unlend()
		} else {
			t.conn.release(true, true)
		}
		return
	}
	for i := range l.queue {
		if l.queue[i] == t {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			l.unqueued()
			l.peer.Config.Stats.RqCancelled.Inc()
			return
		}
	}
}

func (l *lane) unqueued() {
	l.limits.Pending.Return()
	l.peer.Config.Stats.RqPendingActive.Dec()
	l.peer.Stats.RqPendingActive.Add(-1)
}

func (l *lane) shift() *waiter {
	t := l.queue[0]
	copy(l.queue, l.queue[1:])
	l.queue = l.queue[:len(l.queue)-1]
	l.unqueued()
	return t
}

// attach counts a stream onto c.
func (l *lane) attach(c *conn) bool {
	s := l.peer.Config.Stats
	if !l.http {
		l.limits.Requests.Force() // max_requests is for HTTP
	} else if !l.limits.Requests.Take() {
		s.RqActiveOverflow.Inc()
		return false
	}
	l.limits.Began()
	c.streams++
	if most := l.peer.Config.MaxRequests; most > 0 && c.streams == most {
		s.CxMaxRequests.Inc()
		c.draining = true
	}
	c.lent = true
	l.enlist(c)
	if c.mux != nil {
		c.mux.active++
	}
	s.RqTotal.Inc()
	s.RqActive.Inc()
	l.peer.Stats.RqTotal.Add(1)
	l.peer.Stats.RqActive.Add(1)
	return true
}

// give hands a connection to the first stream that waits, or lets it rest.
func (l *lane) give(c *conn) {
	for len(l.queue) > 0 && (c.mux == nil || c.mux.open()) {
		t := l.shift()
		if l.attach(c) {
			t.conn = c
			t.cond.Signal()
			if c.mux == nil {
				return
			}
			continue
		}
		t.err = ErrOverflow
		t.cond.Signal()
	}
	if c.mux != nil {
		c.mux.settle()
		return
	}
	if c.spent() {
		c.close(true)
		return
	}
	l.rest(c)
}

// rest lets a connection wait for the next stream, without a buffer.
func (l *lane) rest(c *conn) {
	c.at = len(l.idle)
	l.idle = append(l.idle, c)
	limit := fiber.Time(0)
	d := l.peer.Config.IdleTimeout
	if !l.http {
		d = l.peer.Config.TCPIdle
	}
	if d > 0 {
		limit = l.w.Now().Add(d)
	}
	c.net.OnIdle(limit, c.onIdle)
}

// grow starts connections until there is one under way for each stream that waits (with preconnect_policy some more), as far as the
// limits go. The first connection of a lane is never refused, or its streams would wait for ever.
func (l *lane) grow() {
	for l.wanted() {
		if !l.allowed() {
			l.peer.Config.Stats.CxOverflow.Inc()
			if l.conns > 0 {
				return
			}
			l.limits.Connections.Force()
		}
		l.connect()
	}
}

func (l *lane) wanted() bool {
	waiting := len(l.queue)
	if l.mode == HTTP2 {
		return l.unsettled == 0 && waiting > l.connecting*int(l.peer.Config.HTTP2.MaxStreams)
	}
	if ratio := l.peer.Config.Preconnect; ratio > 1 && !l.peer.gone.Load() {
		busy := l.conns - len(l.idle) - l.connecting
		return float64(l.connecting+len(l.idle)+busy) < float64(waiting+busy)*ratio
	}
	return l.connecting < waiting
}

func (l *lane) allowed() bool {
	return l.peer.Stats.CxActive.Load() < l.peer.Config.HostConnections[l.prio] && l.limits.Connections.Take()
}

func (l *lane) connect() {
	var c *conn
	switch {
	case l.mode == HTTP2:
		m := &mux{}
		c = &m.conn
		c.mux = m
	case l.http:
		e := &Exchange{}
		c = &e.conn
		c.exchange = e
	default:
		c = &conn{}
	}
	c.lane, c.at, c.epoch = l, -1, l.epoch
	l.conns++
	l.connecting++
	s := l.peer.Config.Stats
	s.CxTotal.Inc()
	s.CxActive.Inc()
	l.peer.Stats.CxTotal.Add(1)
	l.peer.Stats.CxActive.Add(1)
	c.info.Started, c.info.Transport = l.w.Now(), l.transport
	if l.http {
		c.info.Protocols = offers[l.mode]
	}
	l.enlist(c)
	l.w.Go(c.open)
}

// failed ends every stream that waits: the host is not well, and whoever asked decides what to do.
func (l *lane) failed(err error) {
	for n := len(l.queue); n > 0; n-- {
		l.peer.Config.Stats.RqPendingFailureEject.Inc()
		t := l.shift()
		t.err = err
		t.cond.Signal()
	}
}

// drain closes what rests; what is lent closes when it comes back.
func (l *lane) drain() {
	l.epoch++
	for len(l.idle) > 0 {
		c := l.idle[len(l.idle)-1]
		if c.mux != nil {
			c.mux.settle() // which is not to be lent any more
			continue
		}
		l.unrest(c)
		c.close(true)
	}
}

// kill ends TCP connections that carry a stream.
func (l *lane) kill() {
	if l.http || !l.peer.Config.CloseOnFailure {
		return
	}
	for c := l.lent; c != nil; {
		next := c.next
		if c.net != nil {
			c.abort()
		}
		c = next
	}
}

func (l *lane) unrest(c *conn) {
	last := len(l.idle) - 1
	l.idle[c.at] = l.idle[last]
	l.idle[c.at].at = c.at
	l.idle[last] = nil
	l.idle = l.idle[:last]
	c.at = -1
}

const millisecond = fiber.Time(time.Millisecond)
