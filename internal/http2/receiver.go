package http2

import (
	"io"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/header"
)

// receiver is the receiving half of a stream. It is the Body of the message.
type receiver struct {
	s        *Stream
	pieces   [][]byte
	at       int        // pieces[at:] are not read
	lent     []byte     // by Next
	small    []byte     // the stream's own piece, for little
	window   int64      // what the peer may send
	target   int64      // what it may send when nothing waits to be read
	last     fiber.Time // credit
	credited int64      // what was read and not yet told
	queued   int64
	length   int64 // promised; -1: not said
	ended    bool
	told     bool // the trailers were handed out
	err      error
	trailer  *header.Map
	readable fiber.Cond
	idle     *tunnel // is told instead
}

const smallPiece = 1 << 10

func (b *receiver) begin(s *Stream) {
	c := s.c
	b.s, b.length, b.window, b.target, b.last = s, -1, int64(c.o.FirstWindow), int64(c.o.FirstWindow), c.w.Now()
}

// received takes in the payload of a DATA frame, of which n bytes count for the windows.
func (s *Stream) received(p []byte, n int64, end bool) *Error {
	b, c := &s.rx, s.c
	switch {
	case n > b.window:
		c.credit(n)
		return c.resetStream(s, FlowControlError)
	case !c.server && !s.gotHead:
		c.credit(n)
		return c.resetStream(s, ProtocolError)
	}
	s.WireIn += n + frameHead
	s.BodyIn += int64(len(p))
	b.window -= n
	if pad := n - int64(len(p)); pad > 0 {
		c.credit(pad)
		b.credit(pad)
	}
	if b.length >= 0 && s.BodyIn > b.length {
		c.credit(int64(len(p)))
		c.o.Stats.MessagingError.Inc()
		return c.resetStream(s, ProtocolError)
	}
	b.queue(p)
	if end {
		return s.endMessage()
	}
	b.wake()
	return nil
}

// wake tells who waits that something has come.
func (b *receiver) wake() {
	b.readable.Broadcast()
	if t := b.idle; t != nil {
		t.call(false)
	}
}

// queue copies p behind what is there.
func (b *receiver) queue(p []byte) {
	b.queued += int64(len(p))
	b.s.c.flow.queued += int64(len(p))
	for len(p) > 0 {
		if n := len(b.pieces); n > b.at {
			last := &b.pieces[n-1]
			if k := min(len(p), cap(*last)-len(*last)); k > 0 {
				*last = append(*last, p[:k]...)
				p = p[k:]
				continue
			}
		}
		b.pieces = append(b.pieces, b.piece(len(p)))
	}
}

// piece makes an empty piece: the stream's own where little has come.
func (b *receiver) piece(n int) []byte {
	if n <= smallPiece && b.small != nil {
		p := b.small
		b.small = nil
		return p
	}
	if n <= smallPiece && b.at == len(b.pieces) && b.lent == nil {
		return make([]byte, 0, smallPiece)
	}
	return b.s.c.w.Buffers.Get()[:0]
}

func (b *receiver) put(p []byte) {
	switch {
	case p == nil:
	case cap(p) == smallPiece:
		b.small = p[:0]
	default:
		b.s.c.w.Buffers.Put(p[:cap(p)])
	}
}

// Next returns the next piece.
func (b *receiver) Next(wait bool) ([]byte, error) {
	b.put(b.lent)
	b.lent = nil
	for b.at == len(b.pieces) {
		switch {
		case b.ended:
			b.tell()
			return nil, io.EOF
		case b.err != nil:
			return nil, b.err
		case !wait:
			return nil, nil
		}
		if err := b.readable.Wait(b.s.c.w); err != nil {
			return nil, err
		}
	}
	p := b.pieces[b.at]
	b.pieces[b.at] = nil
	if b.at++; b.at == len(b.pieces) {
		b.pieces, b.at = b.pieces[:0], 0
	}
	b.lent = p
	n := int64(len(p))
	b.queued -= n
	b.s.c.taken(n)
	b.s.c.credit(n)
	b.credit(n)
	return p, nil
}

// tell hands out the trailers.
func (b *receiver) tell() {
	if h := &b.s.trailer; !b.told && h.trailer && b.trailer != nil {
		*b.trailer, h.fields = h.fields, *b.trailer
	}
	b.told = true
}

// credit gives n bytes back to the window of the stream.
func (b *receiver) credit(n int64) {
	c := b.s.c
	if b.credited += n; b.credited >= b.target/2 && !b.ended && b.s.kept {
		b.grow()
		c.putWord(frameUpdate, b.s.id, uint32(b.credited))
		b.window += b.credited
		b.credited = 0
	}
}

// grow widens the window of a stream whose reader keeps up, as long as all streams together leave half of the connection's to others.
func (b *receiver) grow() {
	c := b.s.c
	if !c.limited(&b.last) || b.queued > 0 {
		return
	}
	most := min(int64(c.o.StreamWindow), c.flow.target/int64(2*max(1, len(c.streams))))
	more := max(0, min(b.target, most-b.target))
	b.target += more
	b.credited += more
}

// drop gives back what nobody has read.
func (b *receiver) drop() {
	b.put(b.lent)
	for _, p := range b.pieces[b.at:] {
		b.put(p)
	}
	if b.queued > 0 {
		b.s.c.flow.queued -= b.queued
		b.s.c.credit(b.queued)
	}
}
