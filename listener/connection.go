package listener

import (
	"errors"
	"io"
	"time"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// place is a listener on one worker.
type place struct {
	// set at construction
	l     *Listener
	w     *fiber.Worker
	stats *placeStats
	// owned by the worker
	first    *connection // open connections, those under inspection too
	turn     uint64      // of the last accept
	accepted uint64      // in that turn
}

// connection is a downstream connection from its accept to its end.
type connection struct {
	filter.Conn

	info    stream.Conn
	at      *place
	version *version
	balance *balance // of the listener that accepted it; nil: none
	chain   *chain   // nil: it has not come so far
	prev    *connection
	next    *connection

	departing bool // Shutdown waits for it
}

var (
	errFiltersTimeout   = errors.New("listener filters timed out")
	errTransportTimeout = errors.New("transport socket timed out")
)

// accept is where a connection begins: on the loop, outside of fibers. It needs a fiber only if a filter may wait.
func (p *place) accept(nc fiber.Conn) {
	p.countAccept()
	l := p.l
	v := l.current.Load()
	if !l.admit(v.config) {
		_ = nc.Close()
		l.balance.left(p.w.ID)
		return
	}
	c := &connection{at: p, version: v, balance: l.balance}
	c.Conn.Conn, c.Worker, c.Info = nc, p.w, &c.info
	c.describe(nc)
	p.link(c)
	if len(v.loggers) > 0 {
		c.Record()
	}
	if len(v.filters) == 0 {
		a := filter.Accepted{Conn: nc, Worker: p.w, Info: &c.info}
		c.choose(&a)
		return
	}
	p.w.Go(c.inspect)
}

func (p *place) countAccept() {
	if p.turn == p.w.Turns {
		p.accepted++
		return
	}
	if p.accepted > 0 {
		p.l.stats.PerEvent.Record(p.accepted)
	}
	p.turn, p.accepted = p.w.Turns, 1
}

// admit counts a connection in, unless a limit is reached.
func (l *Listener) admit(c *config) bool {
	open, limit := l.m.open.Add(1), uint64(l.m.config.MaxConnections)
	if limit == 0 {
		limit = l.m.config.Runtime.Load().Uint("overload.global_downstream_max_connections", noLimit)
	}
	if limit != noLimit && !c.ignoreGlobalLimit && uint64(open) > limit {
		l.m.open.Add(-1)
		l.stats.GlobalOverflow.Inc()
		return false
	}
	if !l.take() {
		l.m.open.Add(-1)
		return false
	}
	return true
}

// take counts a connection against the limit of the listener itself.
func (l *Listener) take() bool {
	open := l.open.Add(1)
	if limit := l.m.config.Runtime.Load().Uint(l.limitKey, noLimit); limit != noLimit && uint64(open) > limit {
		l.open.Add(-1)
		l.stats.Overflow.Inc()
		return false
	}
	return true
}

const noLimit = ^uint64(0)

func (c *connection) describe(nc fiber.Conn) {
	local, remote := nc.Local(), nc.Remote()
	c.info = stream.Conn{
		ID: c.at.l.m.nextID(), Start: c.Worker.Now(), Local: local, Remote: remote, DirectLocal: local, DirectRemote: remote,
		Listener: c.version.config.name, ListenerMetadata: c.version.config.metadata,
	}
}

func (p *place) link(c *connection) {
	c.at, c.prev, c.next = p, nil, p.first
	if p.first != nil {
		p.first.prev = c
	}
	p.first = c
}

func (c *connection) unlink() {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		c.at.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
}

// inspect runs the listener filters, on a fiber.
func (c *connection) inspect() {
	s := c.at.l.stats
	s.PreActive.Inc()
	a := &filter.Accepted{Conn: c.Conn.Conn, Worker: c.Worker, Info: &c.info}
	ok := c.runInspectors(a)
	s.PreActive.Dec()
	if !ok {
		c.reject()
		return
	}
	c.choose(a)
}

func (c *connection) runInspectors(a *filter.Accepted) bool {
	f := c.Worker.Current()
	if d := c.version.config.filtersTimeout; d > 0 {
		defer f.Restore(f.SetLimit(fiber.Limit{At: c.Worker.Now().Add(d), Cause: errFiltersTimeout}))
	}
	for _, i := range c.version.filters {
		if i.disabled != nil && i.disabled(a) {
			continue
		}
		if i.filter.OnAccept(a) == filter.Stop {
			return c.stopped(a.Failure())
		}
	}
	return true
}

// stopped counts why a listener filter ended the inspection and says whether the connection goes on all the same.
func (c *connection) stopped(why error) bool {
	s := c.at.l.stats
	switch {
	case why == nil: // the filter refused what it saw
	case errors.Is(why, errFiltersTimeout):
		s.PreTimeout.Inc()
		return c.version.config.continueOnTimeout
	case errors.Is(why, io.EOF):
		s.RemoteClose.Inc()
	default:
		s.FilterError.Inc()
	}
	return false
}

// choose finds the filter chain, of the listener that the connection was meant for where addresses were restored.
func (c *connection) choose(a *filter.Accepted) {
	if a.Info.LocalRestored && c.version.config.handOff && !c.handOver() {
		return
	}
	c.info.ALPN = a.ApplicationProtocols
	ch := c.version.chains.find(a)
	if ch == nil {
		c.at.l.stats.NoMatch.Inc()
		if c.Stream != nil {
			c.Stream.Info.Flags |= stream.NoRouteFound
			c.Stream.Info.Details = "filter_chain_not_found"
		}
		c.reject()
		return
	}
	c.chain, c.info.FilterChain, c.info.ChainMetadata = ch, ch.name, ch.metadata
	c.Ended = c.ended
	c.at.count()
	switch {
	case !ch.waits():
		c.open()
	case c.Worker.Current() != nil:
		c.start(a)
	default:
		kept := *a // a is on the stack of accept
		c.Worker.Go(func() { c.start(&kept) })
	}
}

func (p *place) count() {
	p.l.stats.Total.Inc()
	p.l.stats.Active.Inc()
	p.stats.Total.Inc()
	p.stats.Active.Inc()
}

// handOver gives the connection to the listener of its original destination, if there is one; false: that one is full.
func (c *connection) handOver() bool {
	from := c.at.l
	to := from.m.lookup(c.info.Local)
	if to == nil || to == from {
		return true
	}
	if !to.take() {
		c.reject()
		return false
	}
	from.open.Add(-1)
	c.unlink()
	to.places[c.Worker.ID].link(c)
	c.version = to.current.Load()
	if c.Stream == nil && len(c.version.loggers) > 0 {
		c.Record()
	}
	return true
}

// start runs what may wait: the transport socket's handshake and the network filters. It is on a fiber.
func (c *connection) start(a *filter.Accepted) {
	if c.chain.transport != nil && !c.handshake(a) {
		c.refuse()
		return
	}
	for _, s := range c.chain.steps {
		if s.network != nil && s.network.OnConn(&c.Conn) == filter.Stop {
			c.refuse()
			return
		}
		if s.wrapper != nil {
			c.Conn.Conn = s.wrapper.Wrap(&c.Conn)
		}
	}
	c.open()
}

func (c *connection) handshake(a *filter.Accepted) bool {
	f := c.Worker.Current()
	if d := c.chain.connect; d > 0 {
		defer f.Restore(f.SetLimit(fiber.Limit{At: c.Worker.Now().Add(d), Cause: errTransportTimeout}))
	}
	nc, err := c.chain.transport.Accept(a)
	if err != nil {
		if errors.Is(err, errTransportTimeout) {
			c.at.l.stats.TransportTimeout.Inc()
		}
		return false
	}
	c.Conn.Conn = nc
	return true
}

func (c *connection) open() {
	if c.chain.terminal == nil {
		c.refuse()
		return
	}
	c.chain.terminal.Open(&c.Conn)
}

// refuse ends a connection that no terminal filter has.
func (c *connection) refuse() {
	_ = c.Close()
	c.ended()
}

// reject ends a connection that has no filter chain: it does not count as one in the listener's statistics.
func (c *connection) reject() {
	_ = c.Close()
	c.leave()
}

// ended is filter.Conn.Ended.
func (c *connection) ended() {
	s := c.at.l.stats
	s.Active.Dec()
	s.Destroy.Inc()
	s.Length.Record(uint64(time.Duration(c.Worker.Now()-c.info.Start) / time.Millisecond))
	c.at.stats.Active.Dec()
	c.leave()
}

func (c *connection) leave() {
	c.RunEnds()
	if len(c.version.loggers) > 0 {
		c.Stream.Info.End = c.Worker.Now()
		c.version.loggers.Log(c.Stream)
	}
	c.unlink()
	c.balance.left(c.Worker.ID)
	c.at.l.open.Add(-1)
	c.at.l.m.open.Add(-1)
	if c.departing {
		c.at.l.m.departing.Add(-1)
	}
}

// depart asks the connections to close that have nothing in flight, and counts those that go on.
func (p *place) depart() {
	departing := &p.l.m.departing
	var next *connection
	for c := p.first; c != nil; c = next {
		next = c.next
		if c.Drain != nil && !c.departing {
			c.departing = true
			departing.Add(1)
			c.Drain()
		}
	}
	departing.Add(-1)
}

// end closes the connections whose chain gone wants; those under inspection have none. Nil wants all.
func (p *place) end(gone func(*chain) bool) {
	var next *connection
	for c := p.first; c != nil; c = next {
		next = c.next
		if gone != nil && (c.chain == nil || !gone(c.chain)) {
			continue
		}
		if c.Drop != nil {
			c.Drop()
		} else {
			_ = c.Close()
		}
	}
}
