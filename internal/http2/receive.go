package http2

import (
	"encoding/binary"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// flow is the flow control of the connection (RFC 9113, 5.2).
type flow struct {
	send    int64      // what we may send
	receive int64      // what the peer may send
	credit  int64      // what was read and not yet told
	target  int64      // what the peer may send when nothing waits to be read
	queued  int64      // what waits
	last    fiber.Time // credit
}

// limited says whether a window of which half was read since the last time limits what comes: that took less than two round trips.
func (c *Conn) limited(last *fiber.Time) bool {
	now := c.w.Now()
	since := now - *last
	*last = now
	return c.trip > 0 && since < 2*c.trip
}

// dispatch takes in a frame.
func (c *Conn) dispatch(f frame, p []byte) *Error {
	if c.block.open && (f.kind != frameContinuation || f.id != c.block.id) {
		return fault(ProtocolError, "header block is interrupted")
	}
	if !c.settled && f.kind != frameSettings {
		return fault(ProtocolError, "first frame is not SETTINGS")
	}
	switch f.kind {
	case frameData:
		return c.onData(f, p)
	case frameHeaders:
		return c.onHeaders(f, p)
	case framePriority:
		return c.onPriority(f, p)
	case frameReset:
		return c.onReset(f, p)
	case frameSettings:
		return c.onSettings(f, p)
	case framePush:
		return fault(ProtocolError, "PUSH_PROMISE")
	case framePing:
		return c.onPing(f, p)
	case frameGoAway:
		return c.onGoAway(f, p)
	case frameUpdate:
		return c.onUpdate(f, p)
	case frameContinuation:
		return c.onContinuation(f, p)
	}
	return nil // unknown types are ignored (RFC 9113, 5.5)
}

// idle says whether no stream of this ID has been opened yet.
func (c *Conn) idle(id uint32) bool {
	if (id&1 == 1) == c.server {
		return id > c.last
	}
	return c.server || id >= c.next
}

func (c *Conn) onData(f frame, p []byte) *Error {
	if f.id == 0 || c.idle(f.id) {
		return fault(ProtocolError, "DATA on an idle stream")
	}
	n := int64(f.length)
	if n > c.flow.receive {
		return fault(FlowControlError, "DATA beyond the window of the connection")
	}
	c.flow.receive -= n
	c.widen()
	p, ok := unpad(f, p)
	if !ok {
		return fault(ProtocolError, "padding is too long")
	}
	s := c.streams[f.id]
	if s == nil || s.rx.ended {
		c.credit(n)
		return c.stray(f.id, s)
	}
	return s.received(p, n, f.flags&flagEndStream != 0)
}

// stray is a frame for a stream that takes none any more.
func (c *Conn) stray(id uint32, s *Stream) *Error {
	if s != nil {
		return c.resetStream(s, StreamClosed)
	}
	if c.guard.wasReset(id) || id > c.bound {
		return nil
	}
	return c.refuse(id, StreamClosed)
}

// credit gives n bytes back to the window of the connection.
func (c *Conn) credit(n int64) {
	fl := &c.flow
	if fl.credit += n; fl.credit > 0 && fl.credit >= fl.target/2 && !c.ending && !c.closed {
		if fl.queued < fl.target/8 && c.limited(&fl.last) {
			more := max(0, min(fl.target, int64(c.o.ConnWindow)-fl.target))
			fl.target += more
			fl.credit += more
		}
		c.putWord(frameUpdate, 0, uint32(fl.credit))
		fl.receive += fl.credit
		fl.credit = 0
	}
}

// widen gives a host more of the window, as far as it is configured, before what nobody has read fills it: streams that are read share it.
func (c *Conn) widen() {
	fl := &c.flow
	if c.server || fl.receive >= int64(c.o.FirstConn)/4 {
		return
	}
	if more := min(int64(c.o.FirstConn), int64(c.o.ConnWindow)-fl.target); more > 0 {
		fl.target += more
		fl.receive += more
		c.putWord(frameUpdate, 0, uint32(more))
	}
}

// Crowded says whether so much of the window of the connection is taken by what nobody has read yet that other streams could be held up.
func (c *Conn) Crowded() bool { return c.flow.queued >= c.flow.target/2 }

// taken notes that n bytes do not wait any more.
func (c *Conn) taken(n int64) {
	was := c.Crowded()
	if c.flow.queued -= n; was && !c.Crowded() {
		c.handler.Changed()
	}
}

// refuse resets a stream that is not in our books.
func (c *Conn) refuse(id uint32, code Code) *Error {
	c.guard.noteReset(id)
	c.o.Stats.TxReset.Inc()
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], uint32(code))
	return c.answer(frameReset, 0, id, p[:])
}

// resetStream ends a stream for a fault of the peer.
func (c *Conn) resetStream(s *Stream, code Code) *Error {
	err := c.refuse(s.id, code)
	c.forget(s)
	s.ended(resetBy(code, false))
	return err
}

func (c *Conn) onPriority(f frame, p []byte) *Error {
	switch {
	case f.id == 0:
		return fault(ProtocolError, "PRIORITY without a stream")
	case len(p) != 5:
		if s := c.streams[f.id]; s != nil {
			return c.resetStream(s, FrameSizeError)
		}
		return fault(FrameSizeError, "PRIORITY of a wrong length")
	case binary.BigEndian.Uint32(p)&maxID == f.id:
		return fault(ProtocolError, "stream depends on itself")
	}
	return nil
}

func (c *Conn) onReset(f frame, p []byte) *Error {
	switch {
	case f.id == 0 || c.idle(f.id):
		return fault(ProtocolError, "RST_STREAM on an idle stream")
	case len(p) != 4:
		return fault(FrameSizeError, "RST_STREAM of a wrong length")
	}
	if c.server {
		if err := c.guard.rst(c); err != nil {
			return err
		}
	}
	s := c.streams[f.id]
	if s == nil {
		return nil
	}
	c.o.Stats.RxReset.Inc()
	code := Code(binary.BigEndian.Uint32(p))
	if code == RefusedStream {
		c.o.Stats.RefusedErrors.Inc()
	}
	c.forget(s)
	s.ended(resetBy(code, true))
	return nil
}

func (c *Conn) onSettings(f frame, p []byte) *Error {
	switch {
	case f.id != 0:
		return fault(ProtocolError, "SETTINGS on a stream")
	case f.flags&flagAck != 0:
		if len(p) != 0 {
			return fault(FrameSizeError, "SETTINGS acknowledgement with a payload")
		}
		if c.acked {
			return fault(ProtocolError, "SETTINGS acknowledgement of nothing")
		}
		c.acked, c.trip = true, c.w.Now()-c.began
		c.dec.limit = c.o.TableSize
		if !c.settled {
			return fault(ProtocolError, "first frame is not SETTINGS")
		}
		return nil
	case len(p)%6 != 0:
		return fault(FrameSizeError, "SETTINGS of a wrong length")
	case len(p)/6 > maxSettings:
		return errSettingsFlood
	}
	c.settled = true
	for ; len(p) > 0; p = p[6:] {
		if err := c.setting(binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])); err != nil {
			return err
		}
	}
	err := c.answer(frameSettings, flagAck, 0, nil)
	c.handler.Changed()
	return err
}

func (c *Conn) setting(id uint16, v uint32) *Error {
	switch id {
	case settingTableSize:
		c.enc.setMax(v)
	case settingPush:
		if v > 1 || v == 1 && !c.server {
			return fault(ProtocolError, "SETTINGS_ENABLE_PUSH")
		}
	case settingMaxStreams:
		c.peer.maxStreams = v
	case settingWindow:
		if v > maxWindow {
			return fault(FlowControlError, "SETTINGS_INITIAL_WINDOW_SIZE")
		}
		return c.setWindow(int64(v))
	case settingMaxFrame:
		if v < 16<<10 || v > 1<<24-1 {
			return fault(ProtocolError, "SETTINGS_MAX_FRAME_SIZE")
		}
		c.peer.maxFrame = int(min(v, 32<<10))
	case settingConnect:
		if v > 1 {
			return fault(ProtocolError, "SETTINGS_ENABLE_CONNECT_PROTOCOL")
		}
		c.peer.connect = v == 1
	}
	return nil
}

// setWindow changes the windows of all streams (RFC 9113, 6.9.2).
func (c *Conn) setWindow(v int64) *Error {
	by := v - c.peer.window
	c.peer.window = v
	for _, s := range c.streams {
		if s.tx.window += by; s.tx.window > maxWindow {
			return fault(FlowControlError, "window is too big")
		}
		s.tx.open.Signal()
	}
	return nil
}

func (c *Conn) onPing(f frame, p []byte) *Error {
	switch {
	case f.id != 0:
		return fault(ProtocolError, "PING on a stream")
	case len(p) != 8:
		return fault(FrameSizeError, "PING of a wrong length")
	case f.flags&flagAck != 0:
		if c.probe.pending && string(p) == string(pingData) {
			c.probe.pending = false
			c.probe.stop(c)
			c.nextProbe()
		}
		return nil
	}
	return c.answer(framePing, flagAck, 0, p)
}

func (c *Conn) onGoAway(f frame, p []byte) *Error {
	switch {
	case f.id != 0:
		return fault(ProtocolError, "GOAWAY on a stream")
	case len(p) < 8:
		return fault(FrameSizeError, "GOAWAY of a wrong length")
	}
	c.away = true
	if !c.server {
		c.gone = min(c.gone, binary.BigEndian.Uint32(p)&maxID)
		for id, s := range c.streams {
			if id > c.gone {
				c.forget(s)
				s.ended(ErrGoAway)
			}
		}
	}
	c.handler.Changed()
	return nil
}

func (c *Conn) onUpdate(f frame, p []byte) *Error {
	if len(p) != 4 {
		return fault(FrameSizeError, "WINDOW_UPDATE of a wrong length")
	}
	n := int64(binary.BigEndian.Uint32(p) & maxID)
	if f.id == 0 {
		if c.flow.send += n; n == 0 {
			return fault(ProtocolError, "WINDOW_UPDATE of 0")
		}
		if c.flow.send > maxWindow {
			return fault(FlowControlError, "window of the connection is too big")
		}
		c.grant()
		return nil
	}
	if c.idle(f.id) {
		return fault(ProtocolError, "WINDOW_UPDATE on an idle stream")
	}
	s := c.streams[f.id]
	if s == nil {
		return nil
	}
	switch s.tx.window += n; {
	case n == 0:
		return c.resetStream(s, ProtocolError)
	case s.tx.window > maxWindow:
		return c.resetStream(s, FlowControlError)
	}
	s.tx.open.Signal()
	return nil
}
