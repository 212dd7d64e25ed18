package http2

import (
	"math/rand/v2"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// Handler is whom a connection belongs to.
type Handler interface {
	// Serve serves a stream that a client has opened, on a fiber of its own. The stream ends with it.
	Serve(s *Stream)
	// Changed is told when a stream has ended, when the peer goes away and when it takes more or fewer streams.
	Changed()
	// Closed is told once, when the socket is closed. err is why: io.EOF if the peer did, an *Error for its fault, nil for Close.
	Closed(err error)
}

// Streams are the streams that the connections of one worker do not use.
type Streams struct{ free []*Stream }

// Conn is one HTTP/2 connection. It belongs to its worker.
type Conn struct {
	// set at construction
	w       *fiber.Worker
	net     fiber.Conn
	o       *Options
	handler Handler
	pool    *Streams
	server  bool
	onIdle  func(expired bool)
	onFlush func()
	// owned by the worker
	dec     decoder
	enc     encoder
	streams map[uint32]*Stream
	in      []byte // an incomplete frame, between reads
	out     outbox
	flow    flow
	block   block
	guard   guard
	probe   probe
	peer    peerSettings
	next    uint32 // client: ID of the next stream
	last    uint32 // highest ID of the peer's streams
	bound   uint32 // server: streams beyond are not looked at: what our last GOAWAY says
	gone    uint32 // client: streams beyond are not looked at: what the peer's GOAWAY says
	away    bool   // the peer has sent GOAWAY
	leaving bool   // we have
	greeted bool   // server: the preface has come
	settled bool   // the peer's SETTINGS have come
	acked   bool   // ours were acknowledged
	fresh   bool   // in has not been looked at
	reading bool   // frames are being read: what they make us write goes out at the end
	fibers  int    // server: of streams, that have not begun
	dear    bool   // a head was too big
	ending  bool   // nothing is read or written any more; the socket closes once it is flushed
	closed  bool
	until   fiber.Time // of the linger
	began   fiber.Time
	trip    fiber.Time // a round trip, as the acknowledgement of our SETTINGS took
	err     error      // what streams end with
	cause   error      // why the connection has ended

	// RxBytes and TxBytes count what went over the socket.
	RxBytes, TxBytes uint64
	// Opened counts the streams of the connection.
	Opened uint64
}

// peerSettings is what the peer's SETTINGS say.
type peerSettings struct {
	maxStreams uint32
	window     int64
	maxFrame   int
	connect    bool
}

// Server begins to serve nc, of which first has been read, which may be nil. It does not wait.
func (c *Conn) Server(w *fiber.Worker, nc fiber.Conn, o *Options, h Handler, free *Streams, first []byte) {
	c.start(w, nc, o, h, free, true)
	if c.in = append(c.in, first...); len(first) > 0 {
		c.fresh = true
		w.Go(c.read) // ends when nothing more is there
		return
	}
	c.rest()
}

// Client begins to use nc.
func (c *Conn) Client(w *fiber.Worker, nc fiber.Conn, o *Options, h Handler, free *Streams) {
	c.start(w, nc, o, h, free, false)
	c.rest()
}

func (c *Conn) start(w *fiber.Worker, nc fiber.Conn, o *Options, h Handler, free *Streams, server bool) {
	*c = Conn{w: w, net: nc, o: o, handler: h, pool: free, server: server, streams: map[uint32]*Stream{}, next: 1, bound: maxID, gone: maxID}
	c.onIdle, c.onFlush = c.wake, c.flush
	c.peer = peerSettings{maxStreams: 100, window: initialWindow, maxFrame: maxFrame} // 100 until its SETTINGS are there, as others do
	c.dec.limit, c.dec.longest = max(o.TableSize, 4096), o.TextLimit
	c.dec.table.max, c.dec.table.first = 4096, 1
	c.enc.table.max, c.enc.table.first = 4096, 1
	c.enc.limit, c.enc.never, c.enc.always = min(o.TableSize, 4096), o.NoHuffman, o.AlwaysHuffman
	c.enc.setMax(c.enc.limit)
	c.flow = flow{send: initialWindow, receive: max(int64(o.FirstConn), initialWindow), target: max(int64(o.FirstConn), initialWindow)}
	c.guard.tokens = o.ResetBurst
	if server {
		o.Stats.Downstream.Inc()
	} else {
		o.Stats.Upstream.Inc()
	}
	c.began = w.Now()
	c.flow.last = c.began
	c.greet()
	c.startProbe()
}

// greet sends the preface and our SETTINGS.
func (c *Conn) greet() {
	var p []byte
	set := func(id byte, v uint32) { p = append(p, 0, id, byte(v>>24), byte(v>>16), byte(v>>8), byte(v)) }
	if !c.server {
		c.reserve(len(Preface))
		c.out.b = append(c.out.b, Preface...)
		set(settingPush, 0)
	}
	if c.o.TableSize != 4096 {
		set(settingTableSize, c.o.TableSize)
	}
	if c.server && c.o.Connect {
		set(settingConnect, 1)
	}
	set(settingMaxStreams, c.o.MaxStreams)
	set(settingWindow, c.o.FirstWindow)
	p = append(p, c.o.Extra...)
	c.put(frameSettings, 0, 0, p)
	if n := c.o.FirstConn; n > initialWindow {
		c.putWord(frameUpdate, 0, n-initialWindow)
	}
}

// Active returns how many streams are under way.
func (c *Conn) Active() int { return len(c.streams) }

// Err is why the connection takes no more streams; nil: it does.
func (c *Conn) Err() error { return c.err }

// Draining says whether the connection takes no new streams although it has not ended.
func (c *Conn) Draining() bool { return c.away || c.leaving || c.ending || c.closed }

// Expect says how many streams the peer will take, as others of its connections did: until its SETTINGS are there. 0: unknown.
func (c *Conn) Expect(n uint32) {
	if n > 0 && !c.settled {
		c.peer.maxStreams = n
	}
}

// PeerStreams returns how many streams the peer takes at a time.
func (c *Conn) PeerStreams() uint32 { return c.peer.maxStreams }

// PeerAway says whether the peer has sent GOAWAY.
func (c *Conn) PeerAway() bool { return c.away }

// Settled says whether the peer's SETTINGS have come.
func (c *Conn) Settled() bool { return c.settled }

// PeerConnect says whether the peer takes extended CONNECT (RFC 8441).
func (c *Conn) PeerConnect() bool { return c.peer.connect }

// Limit returns how many streams a client may have under way at a time; 0 if it may open none any more.
func (c *Conn) Limit() int {
	if c.Draining() || c.next > maxID {
		return 0
	}
	return int(min(c.peer.maxStreams, c.o.MaxStreams))
}

// rest gives the socket to the loop until bytes come.
func (c *Conn) rest() { c.net.OnIdle(c.until, c.onIdle) }

// wake runs on a fiber when bytes have come, or the linger is over.
func (c *Conn) wake(expired bool) {
	switch {
	case c.closed:
	case expired:
		c.shut(nil)
	default:
		c.read()
	}
}

// read reads all that is there.
func (c *Conn) read() {
	if c.closed {
		return
	}
	w := c.w
	b := w.Bulk.Get()
	n := copy(b, c.in)
	c.reading = true
	err := c.batch(b, n)
	c.reading = false
	w.Bulk.Put(b)
	switch {
	case c.closed:
	case err == fiber.ErrWouldWait:
		c.schedule()
		c.rest()
	default:
		c.shut(err)
	}
}

// batch reads frames until nothing is there, and keeps what is left of the last one.
func (c *Conn) batch(b []byte, n int) error {
	if c.fresh {
		c.fresh = false
		n = c.digest(b, n)
	}
	for {
		m, err := c.net.TryRead(b[n:])
		if err != nil || c.closed {
			c.remember(b[:n])
			return err
		}
		c.RxBytes += uint64(m)
		c.probe.seen(c)
		full := n+m == len(b)
		if n = c.digest(b, n+m); full {
			c.schedule() // there may be no end of it soon
		}
	}
}

// digest takes in the frames of b[:n] and moves what is left to its beginning.
func (c *Conn) digest(b []byte, n int) (left int) {
	if c.ending {
		return 0 // nobody looks at it any more
	}
	used, bad := c.frames(b[:n])
	if bad != nil {
		c.fail(bad)
		return 0
	}
	return copy(b, b[used:n])
}

func (c *Conn) remember(b []byte) {
	if len(b) == 0 && cap(c.in) > 1<<10 {
		c.in = nil
	}
	c.in = append(c.in[:0], b...)
}

// frames takes in what is whole of b.
func (c *Conn) frames(b []byte) (used int, err *Error) {
	if c.server && !c.greeted {
		if n := min(len(b), len(Preface)); string(b[:n]) != Preface[:n] {
			return 0, fault(ProtocolError, "no client preface")
		}
		if len(b) < len(Preface) {
			return 0, nil
		}
		c.greeted = true
		used = len(Preface)
	}
	for len(b)-used >= frameHead && !c.ending && !c.closed {
		f := parseFrame(b[used:])
		if f.length > maxFrame {
			return used, fault(FrameSizeError, "frame is too long")
		}
		end := used + frameHead + f.length
		if len(b) < end {
			break
		}
		if err = c.guard.inbound(c, f); err == nil {
			err = c.dispatch(f, b[used+frameHead:end])
		}
		if err != nil {
			return used, err
		}
		if used = end; c.fibers >= maxFibers || c.dear {
			c.pause()
		}
	}
	return used, nil
}

// pause lets others run: streams that have come begin before more of them do, so that a peer that resets them at once does not make more
// fibers than that, and heads that are too big, and took long to read, hold nobody up.
func (c *Conn) pause() {
	c.reading, c.dear = false, false
	c.schedule()
	c.w.Yield()
	c.reading = true
}

// GoAway tells the peer that no new streams are taken: at first without a bound, so that those under way to us are still
// served, and when it is called again with the last one that came. Streams go on; the connection is closed by Close.
func (c *Conn) GoAway() {
	if c.ending || c.closed {
		return
	}
	last := uint32(maxID)
	if c.leaving || !c.server {
		last = c.last
	}
	c.leaving = true
	c.goAway(last, NoError, "")
}

func (c *Conn) goAway(last uint32, code Code, why string) {
	c.bound = min(c.bound, last)
	c.o.Stats.GoAwaySent.Inc()
	c.frame(frameGoAway, 0, 0, 8+len(why), 8+len(why))
	c.word(last)
	c.word(uint32(code))
	c.out.b = append(c.out.b, why...)
}

// Close ends the connection once what is written is out. Streams that are under way end with ErrGone.
func (c *Conn) Close() { c.end(nil) }

// Abort closes the connection at once.
func (c *Conn) Abort(err error) { c.shut(err) }

// fail ends the connection for a fault of the peer, who is told, but where Envoy does not either: of a message that is malformed.
func (c *Conn) fail(err *Error) {
	if c.ending || c.closed {
		return
	}
	if err != errField && err != errMessage {
		c.goAway(c.last, err.Code, err.text)
	}
	c.end(err)
}

func (c *Conn) end(err error) {
	if c.ending || c.closed {
		return
	}
	c.err, c.cause = err, err
	if err == nil {
		c.err = ErrGone
	}
	c.ending = true
	c.dropStreams(c.err)
	c.schedule()
}

// hangUp lets the peer read the last frames before the socket closes: closing it on unread input would reset it.
func (c *Conn) hangUp() {
	if c.closed || c.until != 0 {
		return
	}
	if c.o.Linger <= 0 || c.net.CloseWrite() != nil {
		c.shut(nil)
		return
	}
	c.until = c.w.Now().Add(c.o.Linger)
	if !c.reading {
		c.net.OnIdle(0, nil)
		c.rest()
	}
}

// shut closes the socket.
func (c *Conn) shut(err error) {
	if c.closed {
		return
	}
	c.closed = true
	if !c.ending {
		c.err, c.cause = ErrGone, err
	}
	c.probe.stop(c)
	c.dropStreams(c.err)
	c.out.drop(c)
	c.in = nil
	c.dropParts()
	_ = c.net.Close()
	c.out.room.Broadcast()
	c.out.drained.Broadcast()
	c.handler.Closed(c.cause)
}

// dropStreams ends all streams.
func (c *Conn) dropStreams(err error) {
	for _, s := range c.streams {
		c.forget(s)
		s.ended(err)
	}
}

// probe sends PINGs and waits for their answers.
type probe struct {
	timer   fiber.Timer
	last    fiber.Time // a frame came
	pending bool
}

func (c *Conn) startProbe() {
	c.probe.last = c.w.Now()
	c.probe.timer.Do = c.probeDue
	c.nextProbe()
}

func (c *Conn) nextProbe() {
	k := &c.o.Keepalive
	if k.Interval > 0 {
		d := k.Interval + time.Duration(rand.Float64()*k.Jitter/100*float64(k.Interval))
		c.probe.timer.Set(c.w, c.w.Now().Add(d))
	}
}

// seen notes that the peer is alive.
func (p *probe) seen(c *Conn) {
	p.last = c.w.Now()
	if p.pending {
		p.timer.Set(c.w, p.last.Add(c.o.Keepalive.Timeout))
	}
}

func (p *probe) stop(c *Conn) { p.timer.Stop(c.w) }

func (c *Conn) ping() {
	if c.probe.pending || c.ending || c.closed {
		return
	}
	c.probe.pending = true
	c.put(framePing, 0, 0, pingData)
	c.schedule()
	c.probe.timer.Set(c.w, c.w.Now().Add(c.o.Keepalive.Timeout))
}

var pingData = []byte("outrigge")

// probeDue runs when it is time for a PING, or when its answer has not come.
func (c *Conn) probeDue() {
	if !c.probe.pending {
		c.ping()
		return
	}
	c.o.Stats.KeepaliveTimeout.Inc()
	c.shut(ErrKeepalive)
}
