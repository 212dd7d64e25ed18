package http2

import (
	"io"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Stream is one exchange. It is pooled by its worker: whoever has it must not touch it once it is at its end, which for a server's
// stream is when Serve returns, and for a client's Release.
type Stream struct {
	// Sent counts the bytes of the body that was sent; HeadOut those of its header blocks, WireOut all with their frames.
	Sent, HeadOut, WireOut int64
	// HeadIn, BodyIn and WireIn count what was received.
	HeadIn, BodyIn, WireIn int64
	// BodyFailed says that the error of Run came from reading the body, not from the connection.
	BodyFailed bool
	// User is whatever the connection's handler wants to keep with the stream.
	User any

	c        *Conn
	id       uint32
	run      func() // of a server's stream, made once
	task     fiber.Task
	rx       receiver
	tx       sender
	heads    []*head // heads[read:got] have come and were not read yet; the strings of all live as long as the stream
	got      int
	read     int
	trailer  head
	gotHead  bool  // client: the final response has come
	bodiless bool  // client: the response has no body whatever its head says
	kept     bool  // in the books of the connection
	bad      error // server: the head is none
	tunneled bool  // somebody may still be writing to it when it is at its end
	err      error
}

// take makes a stream.
func (c *Conn) take(id uint32) *Stream {
	var s *Stream
	if n := len(c.pool.free); n > 0 {
		s = c.pool.free[n-1]
		c.pool.free = c.pool.free[:n-1]
	} else {
		s = &Stream{}
		s.run = s.serve
	}
	s.c = c
	s.rx.begin(s)
	s.tx = sender{window: c.peer.window}
	if id != 0 {
		s.keep(id)
	}
	return s
}

// keep enters the stream into the books of its connection.
func (s *Stream) keep(id uint32) {
	s.id, s.kept = id, true
	s.c.streams[id] = s
	s.c.o.Stats.StreamsActive.Inc()
}

// forget takes it out.
func (c *Conn) forget(s *Stream) {
	if s.kept {
		s.kept = false
		delete(c.streams, s.id)
		c.o.Stats.StreamsActive.Dec()
	}
}

func (s *Stream) newHead() *head {
	if s.got == len(s.heads) {
		s.heads = append(s.heads, &head{})
	}
	s.got++
	return s.heads[s.got-1]
}

const (
	keepHeads = 2        // with a pooled stream
	keepArena = 16 << 10 // with each of them
)

// free gives the stream back.
func (s *Stream) free() {
	c := s.c
	s.rx.drop()
	for _, h := range s.heads {
		h.recycle()
	}
	s.trailer.recycle()
	s.trailer.trailer = false
	if s.tunneled {
		s.over(ErrGone)
		s.rx.pieces, s.rx.at, s.rx.lent, s.rx.queued = nil, 0, nil, 0
		c.handler.Changed()
		return
	}
	clear(s.heads[min(len(s.heads), keepHeads):])
	*s = Stream{
		run: s.run, task: s.task, heads: s.heads[:min(len(s.heads), keepHeads)], trailer: s.trailer,
		rx: receiver{small: s.rx.small, pieces: s.rx.pieces[:0]},
	}
	c.pool.free = append(c.pool.free, s)
	c.handler.Changed()
}

// serve is the fiber of a server's stream.
func (s *Stream) serve() {
	s.c.fibers--
	defer s.served()
	s.c.handler.Serve(s)
}

// served ends a stream whose handler is done.
func (s *Stream) served() {
	switch {
	case !s.kept:
	case !s.tx.ended:
		s.Reset(InternalError)
	case !s.rx.ended:
		s.Reset(NoError) // RFC 9113, 8.1: the rest of the request is not wanted
	default:
		s.c.forget(s)
	}
	s.free()
}

// ID is the stream's identifier.
func (s *Stream) ID() uint32 { return s.id }

// Conn is the stream's connection.
func (s *Stream) Conn() *Conn { return s.c }

// Reset ends the stream, if it has not ended; the peer is told why.
func (s *Stream) Reset(code Code) {
	if !s.kept {
		return
	}
	c := s.c
	c.forget(s)
	c.guard.noteReset(s.id)
	c.o.Stats.TxReset.Inc()
	c.putWord(frameReset, s.id, uint32(code))
	s.over(resetBy(code, false))
}

// Err is why the stream has ended early.
func (s *Stream) Err() error { return s.err }

// ended is the early end of the stream for a reason that does not lie here: whoever serves it is cancelled.
func (s *Stream) ended(err error) {
	whole := s.rx.ended
	s.over(err)
	if s.c.server {
		s.task.Cancel(err)
	} else if whole {
		s.rx.err = nil // the response came as a whole: RST_STREAM(NO_ERROR) behind it says that no more of the request is wanted
	}
}

func (s *Stream) over(err error) {
	if s.err == nil {
		s.err = err
	}
	if !s.rx.ended {
		s.rx.err = err
	}
	s.rx.wake()
	s.tx.open.Broadcast()
}

// Live says whether the stream has not ended, in one way or another.
func (s *Stream) Live() bool { return s.kept }

// Ended says whether the message that the peer sends has come as a whole.
func (s *Stream) Ended() bool { return s.rx.ended }

// endMessage is END_STREAM of the peer.
func (s *Stream) endMessage() *Error {
	if s.rx.length >= 0 && s.rx.length != s.BodyIn {
		s.c.o.Stats.MessagingError.Inc()
		return s.c.resetStream(s, ProtocolError)
	}
	s.endReceive()
	return nil
}

func (s *Stream) endReceive() {
	s.rx.ended = true
	s.rx.wake()
	s.settle()
}

// settle takes a client's stream out of the books when both messages are at their end. A server's goes when its fiber is done.
func (s *Stream) settle() {
	if s.rx.ended && s.tx.ended && s.kept && !s.c.server {
		s.c.forget(s)
		s.c.handler.Changed()
	}
}

func (s *Stream) wireIn(n int) {
	s.HeadIn += int64(n)
	s.WireIn += int64(n)
}

// next waits for a head.
func (s *Stream) next() (*head, error) {
	for s.read == s.got {
		if s.rx.err != nil {
			return nil, s.rx.err
		}
		if s.rx.ended {
			return nil, io.ErrUnexpectedEOF
		}
		if err := s.rx.readable.Wait(s.c.w); err != nil {
			return nil, err
		}
	}
	s.read++
	return s.heads[s.read-1], nil
}

// ReadRequest hands out the head of the request, which has come. protocol is that of an extended CONNECT, empty otherwise. A head that
// was refused is an *Error; the peer has been told.
func (s *Stream) ReadRequest(q *stream.Request) (protocol string, err error) {
	if s.bad != nil {
		return "", s.bad
	}
	h, err := s.next()
	if err != nil {
		return "", err
	}
	q.Method, q.Path, q.Authority, q.Scheme = h.method, h.path, h.authority, h.scheme
	q.Header, h.fields = h.fields, q.Header
	q.Trailer.Reset()
	s.rx.trailer = &q.Trailer
	if q.Body = nil; !h.end {
		q.Body = &s.rx
	}
	return h.protocol, nil
}

// ReadResponse waits for the next head, interim ones (1xx) too.
func (s *Stream) ReadResponse(r *stream.Response) error {
	h, err := s.next()
	if err != nil {
		return err
	}
	r.Status = h.status
	r.Header, h.fields = h.fields, r.Header
	r.Trailer.Reset()
	s.rx.trailer = &r.Trailer
	if r.Body = nil; !h.end && h.status >= 200 {
		r.Body = &s.rx
	}
	return nil
}
