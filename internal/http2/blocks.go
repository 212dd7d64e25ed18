package http2

import "encoding/binary"

// block is a header block that has not come as a whole.
type block struct {
	parts [][]byte // slabs
	id    uint32
	end   bool // END_STREAM
	open  bool
	count int // CONTINUATION frames
	wire  int
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
	h := head{o: c.o, err: errTooLong}
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
	case err == errTooMany, err == errTooLong:
		c.dear = true
		if err == errTooMany {
			c.o.Stats.HeaderOverflow.Inc()
		} else {
			c.o.Stats.HeadTooLong.Inc()
		}
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
