package http2

import (
	"encoding/binary"
	"errors"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// outbox is what is to be written. Frames are gathered here; a fiber of the connection, which runs behind those that have something
// to say in this turn, writes them at once.
type outbox struct {
	b         []byte
	number    uint64 // of b: counts the buffers that went out
	frames    uint32 // not yet taken by the socket
	control   uint32 // of them those that answer a frame of the peer's
	scheduled bool
	room      fiber.Cond // who has DATA to send waits for its turn
	granted   int        // how many were told that it is theirs, and have not run yet
	drained   fiber.Cond // who has a head to send waits for what is written to be less
	writing   bool       // the socket may not take it
	shown     backlog    // in the gauges
}

// backlog counts frames that wait for the peer: all, and those that answer one of its own.
type backlog struct{ frames, control uint32 }

var errFlushTimeout = errors.New("http2: the peer takes nothing")

// reserve makes room for n bytes.
func (c *Conn) reserve(n int) {
	b := c.out.b
	if cap(b)-len(b) >= n {
		return
	}
	var grown []byte
	switch need := len(b) + n; {
	case need <= c.w.Buffers.Size:
		grown = c.w.Buffers.Get()
	case need <= c.w.Bulk.Size:
		grown = c.w.Bulk.Get()
	default:
		grown = make([]byte, need+need/2)
	}
	c.out.b = grown[:copy(grown, b)]
	c.giveBack(b)
}

func (c *Conn) giveBack(b []byte) {
	switch cap(b) {
	case c.w.Buffers.Size:
		c.w.Buffers.Put(b[:cap(b)])
	case c.w.Bulk.Size:
		c.w.Bulk.Put(b[:cap(b)])
	}
}

// frame appends the head of a frame with a payload of n bytes and makes room for it.
func (c *Conn) frame(k frameType, flags byte, id uint32, n, room int) {
	c.reserve(frameHead + room)
	c.out.b = appendFrame(c.out.b, n, k, flags, id)
	c.out.frames++
	if c.out.writing {
		c.show()
	}
	if !c.reading {
		c.schedule()
	}
}

// put appends a frame.
func (c *Conn) put(k frameType, flags byte, id uint32, p []byte) {
	c.frame(k, flags, id, len(p), len(p))
	c.out.b = append(c.out.b, p...)
}

func (c *Conn) word(v uint32) { c.out.b = binary.BigEndian.AppendUint32(c.out.b, v) }

// putWord appends a frame whose payload is one number.
func (c *Conn) putWord(k frameType, id, v uint32) {
	c.frame(k, 0, id, 4, 4)
	c.word(v)
}

// answer appends a frame that the peer has brought about.
func (c *Conn) answer(k frameType, flags byte, id uint32, p []byte) *Error {
	c.out.control++
	c.put(k, flags, id, p)
	return c.guard.outbound(c)
}

// schedule starts the fiber that writes, if there is something to write.
func (c *Conn) schedule() {
	if (len(c.out.b) > 0 || c.ending) && !c.out.scheduled && !c.closed {
		c.out.scheduled = true
		c.w.Go(c.onFlush)
	}
}

// flush writes until nothing is left.
func (c *Conn) flush() {
	o := &c.out
	f := c.w.Current()
	for len(o.b) > 0 && !c.closed {
		b, frames, control := o.b, o.frames, o.control
		o.b = nil
		o.number++
		f.SetLimit(fiber.Limit{At: c.w.Now().Add(c.o.FlushTimeout), Cause: errFlushTimeout})
		o.writing = true
		_, err := c.net.Write(b)
		o.writing = false
		f.Unlimit()
		c.TxBytes += uint64(len(b))
		c.giveBack(b)
		if err != nil {
			c.unwritable(err)
			break
		}
		o.frames -= min(frames, o.frames)
		o.control -= min(control, o.control)
		c.shown()
		o.drained.Broadcast()
		c.grant()
	}
	o.scheduled = false
	if c.ending && !c.closed {
		c.hangUp()
	}
}

func (c *Conn) unwritable(err error) {
	if err == errFlushTimeout {
		c.o.Stats.FlushTimeout.Inc()
	}
	c.shut(err)
}

// show brings the gauges up to date. They are left alone as long as the socket takes what is written at once.
func (c *Conn) show() {
	now, o := backlog{c.out.frames, c.out.control}, &c.out
	c.o.Stats.FramesActive.Add(int64(now.frames) - int64(o.shown.frames))
	c.o.Stats.ControlActive.Add(int64(now.control) - int64(o.shown.control))
	o.shown = now
}

// shown brings them up to date if they show anything.
func (c *Conn) shown() {
	if c.out.shown != (backlog{}) {
		c.show()
	}
}

// drop gives up what is not written.
func (o *outbox) drop(c *Conn) {
	c.giveBack(o.b)
	o.b, o.frames, o.control = nil, 0, 0
	o.number++
	c.shown()
}

// full says that DATA must wait.
func (c *Conn) full() bool { return len(c.out.b) >= highWater || c.flow.send <= 0 }

// grant lets the next of those that wait send one frame, so that streams take turns.
func (c *Conn) grant() {
	if o := &c.out; o.granted == 0 && (c.closed || !c.full()) && o.room.Signal() {
		o.granted++
	}
}

// heads waits until there is not too much to write for another head.
func (c *Conn) heads() error {
	for len(c.out.b) > headsWater {
		c.show()
		if err := c.out.drained.Wait(c.w); err != nil {
			return err
		}
		if c.closed {
			return c.err
		}
	}
	return nil
}

// headers appends a header block that fill encodes, into room for most bytes: HEADERS and, where it is long, CONTINUATION.
func (c *Conn) headers(id uint32, end bool, most int, fill func(b []byte) []byte) (n int) {
	c.frame(frameHeaders, 0, id, 0, most+16)
	at := len(c.out.b)
	c.out.b = fill(c.enc.begin(c.out.b))
	flags := byte(0)
	if end {
		flags = flagEndStream
	}
	n = len(c.out.b) - at
	if n <= c.peer.maxFrame {
		setHead(c.out.b[at-frameHead:], n, flags|flagEndHeaders)
		return n + frameHead
	}
	all := append([]byte(nil), c.out.b[at:]...)
	c.out.b = c.out.b[:at+c.peer.maxFrame]
	setHead(c.out.b[at-frameHead:], c.peer.maxFrame, flags)
	for rest := all[c.peer.maxFrame:]; len(rest) > 0; {
		k := min(len(rest), c.peer.maxFrame)
		flags = 0
		if k == len(rest) {
			flags = flagEndHeaders
		}
		c.put(frameContinuation, flags, id, rest[:k])
		rest = rest[k:]
		n += frameHead
	}
	return n + frameHead
}

func setHead(b []byte, n int, flags byte) {
	b[0], b[1], b[2], b[4] = byte(n>>16), byte(n>>8), byte(n), flags
}
