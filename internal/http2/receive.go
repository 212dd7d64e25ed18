package http2

import (
	"encoding/binary"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// block is a header block that has not come as a whole.
type block struct {
	parts [][]byte // slabs
	id    uint32
	end   bool // END_STREAM
	open  bool
	count int // CONTINUATION frames
	wire  int
}

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

func (c *Conn) onHeaders(f frame, p []byte) *Error {
	if theirs := (f.id&1 == 1) == c.server; f.id == 0 || theirs && !c.server || !theirs && c.idle(f.id) {
		return fault(ProtocolError, "HEADERS on a stream that the peer cannot open")
	}
	p, ok := unpad(f, p)
	if !ok {
		return fault(ProtocolError, "padding is too long")
	}
	self := false
	if f.flags&flagPriority != 0 {
		if len(p) < 5 {
			return fault(FrameSizeError, "HEADERS is too short")
		}
		self = binary.BigEndian.Uint32(p)&maxID == f.id
		p = p[5:]
	}
	if self {
		return fault(ProtocolError, "stream depends on itself")
	}
	c.block.id, c.block.end, c.block.count, c.block.wire = f.id, f.flags&flagEndStream != 0, 0, frameHead+f.length
	if f.flags&flagEndHeaders != 0 {
		return c.onBlock(p)
	}
	c.block.open = true
	c.keepPart(p)
	return nil
}

func (c *Conn) onContinuation(f frame, p []byte) *Error {
	k := &c.block
	if !k.open {
		return fault(ProtocolError, "CONTINUATION without HEADERS")
	}
	if k.count++; k.count > maxContinuations {
		return errContinuations
	}
	k.wire += frameHead + f.length
	if f.flags&flagEndHeaders == 0 {
		c.keepPart(p)
		return nil
	}
	b := c.w.Bulk.Get()
	n := 0
	for _, part := range append(k.parts, p) {
		n += copy(b[n:], part)
	}
	c.dropParts()
	err := c.onBlock(b[:n])
	c.w.Bulk.Put(b)
	return err
}

// keepPart keeps a part of a block; a slab has room for what a frame may carry, and not many frames may make a block.
func (c *Conn) keepPart(p []byte) {
	b := c.w.Buffers.Get()
	c.block.parts = append(c.block.parts, b[:copy(b, p)])
}

func (c *Conn) dropParts() {
	for _, b := range c.block.parts {
		c.w.Buffers.Put(b)
	}
	c.block.parts, c.block.open = nil, false
}

// onBlock takes in a whole header block.
func (c *Conn) onBlock(p []byte) *Error {
	id := c.block.id
	s := c.streams[id]
	switch {
	case s != nil && s.rx.ended:
		if !c.skip(p) {
			return errCompress
		}
		return c.resetStream(s, StreamClosed)
	case s != nil:
		return c.nextHead(s, p)
	case c.server && id > c.last:
		return c.open(id, p)
	}
	c.o.Stats.HeadersNoStream.Inc()
	if !c.skip(p) {
		return errCompress
	}
	if c.guard.wasReset(id) || id > c.bound || !c.server {
		return nil
	}
	return fault(StreamClosed, "HEADERS on a closed stream")
}

// skip decodes a block of which only the dynamic table is of interest.
func (c *Conn) skip(p []byte) bool {
	c.dear = len(p) > maxFrame/4
	h := head{o: c.o, err: errTooBig}
	return c.dec.block(p, &h)
}

// open takes in the head of a new request.
func (c *Conn) open(id uint32, p []byte) *Error {
	c.last = id
	if id > c.bound || len(c.streams) >= int(c.o.MaxStreams) {
		if !c.skip(p) {
			return errCompress
		}
		if id > c.bound {
			return nil // our GOAWAY has said so
		}
		return c.refuse(id, RefusedStream)
	}
	s := c.take(id)
	h := s.newHead()
	h.begin(c.o, true, false)
	if !c.dec.block(p, h) {
		return errCompress
	}
	s.wireIn(c.block.wire)
	s.rx.length = h.length
	c.Opened++
	c.fibers++
	s.task.Start(c.w, s.run) // ends with the stream, which cancels it when the peer does
	err := h.settle(c.block.end)
	switch {
	case err != nil:
		s.bad = err
		return c.badHead(s, err)
	case h.refused:
		s.bad = errUnderline
		c.o.Stats.RejectedUnderscores.Inc()
		return c.resetStream(s, RefusedStream)
	}
	if s.rx.length = h.length; h.method == "CONNECT" {
		s.rx.length = -1
	}
	if c.block.end {
		s.endReceive()
	}
	return nil
}

// badHead refuses a stream whose head is none.
func (c *Conn) badHead(s *Stream, err *Error) *Error {
	switch {
	case err == errTooBig:
		c.dear = true
		c.o.Stats.HeaderOverflow.Inc()
		err := c.refuse(s.id, InternalError)
		c.forget(s)
		s.ended(resetBy(InternalError, !c.server)) // Envoy takes a host's for a reset of its own
		return err
	case c.o.StreamErrors:
		c.o.Stats.MessagingError.Inc()
		return c.resetStream(s, err.Code)
	}
	c.o.Stats.MessagingError.Inc()
	return err
}

// nextHead takes in a response, or trailers.
func (c *Conn) nextHead(s *Stream, p []byte) *Error {
	if s.got >= maxInterim {
		if !c.skip(p) {
			return errCompress
		}
		return c.resetStream(s, EnhanceYourCalm)
	}
	trailer := s.gotHead || c.server
	h := &s.trailer
	if !trailer {
		h = s.newHead()
	}
	h.begin(c.o, c.server, trailer)
	if !c.dec.block(p, h) {
		return errCompress
	}
	s.wireIn(c.block.wire)
	void := !trailer && (s.bodiless || h.status == 204 || h.status == 304)
	err := h.settle(c.block.end)
	if err == nil && c.block.end && !trailer && !void && h.length > 0 {
		err = errMessage // the body that it promises does not follow
	}
	if err != nil {
		if !trailer {
			s.got-- // nobody may read it
		}
		return c.badHead(s, err)
	}
	switch {
	case trailer:
		c.o.Stats.Trailers.Inc()
	case h.status >= 200:
		s.gotHead = true
		if s.rx.length = h.length; void {
			s.rx.length = 0
		}
	}
	if c.block.end {
		return s.endMessage()
	}
	s.rx.wake()
	return nil
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
