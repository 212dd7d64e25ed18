package http2

import (
	"io"
	"strconv"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// sender is the sending half of a stream.
type sender struct {
	window   int64 // what we may send; negative when the peer has made it smaller
	open     fiber.Cond
	body     stream.Body
	rest     []byte // of the piece that body has handed out
	trailer  *header.Map
	left     int64 // of the body, if its length is promised
	promised bool
	began    bool
	ended    bool
	at       int    // where the last DATA frame stands in the outbox
	number   uint64 // of that buffer
	hasAt    bool
	hold     bool // a tunnel follows the head
}

// Respond sends the head of a response, an interim one (1xx) too, and makes its body ready for Run. head says that the request was
// HEAD, whose response has no body.
func (s *Stream) Respond(r *stream.Response, head bool) error {
	if err := s.writable(); err != nil {
		return err
	}
	c, body := s.c, r.Body
	interim := r.Status < 200
	if head || r.Status == 204 || r.Status == 304 || interim {
		body = nil
	}
	if !interim {
		s.tx.begin(body, &r.Trailer)
		s.tx.promise(&r.Header, body != nil)
	}
	c.Opened += opened(c.server && !interim)
	s.sendHead(&r.Header, body == nil && !interim && !s.tx.hold, 16, func(b []byte) []byte {
		b = c.enc.status(b, r.Status)
		return c.enc.fields(b, &r.Header)
	})
	return nil
}

func opened(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// Request sends the head of a request and makes its body ready for Run. protocol makes an extended CONNECT of it (RFC 8441).
func (s *Stream) Request(q *stream.Request, protocol string) error {
	c := s.c
	if err := s.enter(); err != nil {
		return err
	}
	s.tx.begin(q.Body, &q.Trailer)
	s.tx.promise(&q.Header, q.Body != nil)
	s.bodiless = q.Method == "HEAD"
	most := len(q.Method) + len(q.Scheme) + len(q.Authority) + len(q.Path) + len(protocol) + 64
	s.sendHead(&q.Header, q.Body == nil && !s.tx.hold, most, func(b []byte) []byte {
		e := &c.enc
		method := q.Method
		if protocol != "" {
			method = "CONNECT"
		}
		b = e.pseudo(b, staticMethod, method)
		if method != "CONNECT" || protocol != "" {
			b = e.pseudo(b, staticScheme, q.Scheme)
			b = e.pseudo(b, staticPath, q.Path)
		}
		if protocol != "" {
			b = e.field(b, header.Other, ":protocol", protocol)
		}
		b = e.pseudo(b, staticAuthority, q.Authority)
		return e.fields(b, &q.Header)
	})
	return nil
}

// enter gives a client's stream its ID: in the order in which heads are sent.
func (s *Stream) enter() error {
	c := s.c
	if err := s.writable(); err != nil {
		return err
	}
	switch {
	case c.err != nil:
		return c.err
	case c.Draining(), c.next > maxID:
		return ErrGoAway
	}
	s.tx.window = c.peer.window
	s.keep(c.next)
	c.next += 2
	c.Opened++
	return nil
}

// writable waits until a head may be sent.
func (s *Stream) writable() error {
	if err := s.c.heads(); err != nil {
		return err
	}
	return s.lost()
}

// lost is why nothing can be sent any more.
func (s *Stream) lost() error {
	switch {
	case s.err != nil:
		return s.err
	case s.c.closed || s.c.ending:
		return s.c.err
	}
	return nil
}

// begin begins the body of a message.
func (t *sender) begin(body stream.Body, trailer *header.Map) {
	t.body, t.trailer, t.began, t.ended, t.rest = body, trailer, true, false, nil
}

// promise notes the length that the head promises.
func (t *sender) promise(h *header.Map, body bool) {
	t.promised = false
	v, ok := h.Find(header.ContentLength)
	if !ok || !body {
		return
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		n = -1
	}
	t.left, t.promised = n, true
}

// sendHead appends a header block; most is the room for what is not in h.
func (s *Stream) sendHead(h *header.Map, end bool, most int, fill func(b []byte) []byte) {
	n := s.c.headers(s.id, end, h.Bytes()+16*h.Len()+most, fill)
	s.HeadOut += int64(n)
	s.WireOut += int64(n)
	s.tx.hasAt = false
	if end {
		s.endSend()
	}
}

func (s *Stream) endSend() {
	s.tx.ended, s.tx.body, s.tx.rest = true, nil, nil
	s.settle()
}

// Run sends the body until the end of the message; if !wait, until it would have to wait: for the body, for a window, or for its turn
// on the connection. done says whether the message is out.
func (s *Stream) Run(wait bool) (done bool, err error) {
	t := &s.tx
	for !t.ended {
		if err := s.lost(); err != nil {
			return false, err
		}
		if len(t.rest) == 0 {
			if done, err := s.pull(wait); done || err != nil || len(t.rest) == 0 {
				return done, err
			}
		}
		ready, err := s.turn(wait)
		if err != nil || !ready {
			return false, err
		}
		s.data()
	}
	return true, nil
}

// pull asks the body for its next piece, or sends the end of the message. Neither: it would have to wait.
func (s *Stream) pull(wait bool) (done bool, err error) {
	t := &s.tx
	for len(t.rest) == 0 {
		p, err := t.body.Next(false)
		if p == nil && err == nil {
			if !wait {
				return false, nil
			}
			p, err = t.body.Next(true)
		}
		switch {
		case err == io.EOF && (!t.promised || t.left == 0):
			if err := s.lost(); err != nil {
				return false, err
			}
			s.finish()
			return true, nil
		case err == io.EOF, err == nil && t.promised && int64(len(p)) > t.left:
			err = ErrBodyLength
		}
		if err != nil {
			s.BodyFailed = true
			return false, err
		}
		t.rest = p
	}
	return false, nil
}

// turn waits until a DATA frame may be sent.
func (s *Stream) turn(wait bool) (ready bool, err error) {
	c, mine := s.c, false
	for {
		if err := s.lost(); err != nil {
			c.pass(mine)
			return false, err
		}
		switch {
		case s.tx.window <= 0:
			c.pass(mine)
			mine = false
			if !wait {
				return false, nil
			}
			err = s.pend(&s.tx.open)
		case !c.full() && (mine || c.out.granted == 0 && !c.out.room.Waiting()):
			return true, nil
		case !wait:
			return false, nil
		default:
			if err = s.pend(&c.out.room); err == nil {
				mine = true
				c.out.granted = max(0, c.out.granted-1)
			}
		}
		if err != nil {
			return false, err
		}
	}
}

// pend waits with a piece that the peer does not take.
func (s *Stream) pend(until *fiber.Cond) error {
	c, n := s.c, int64(len(s.tx.rest))
	c.o.Stats.PendingSend.Add(n)
	if c.out.writing {
		c.show()
	}
	err := until.Wait(c.w)
	c.o.Stats.PendingSend.Add(-n)
	return err
}

// pass hands a turn that was not used to the next one.
func (c *Conn) pass(mine bool) {
	if mine {
		c.grant()
	}
}

// data appends one DATA frame of what is left of the piece.
func (s *Stream) data() {
	t, c := &s.tx, s.c
	n := int(min(int64(len(t.rest)), int64(c.peer.maxFrame), t.window, c.flow.send))
	c.frame(frameData, 0, s.id, n, n)
	t.at, t.number, t.hasAt = len(c.out.b)-frameHead, c.out.number, true
	c.out.b = append(c.out.b, t.rest[:n]...)
	t.rest = t.rest[n:]
	t.window -= int64(n)
	t.left -= int64(n)
	c.flow.send -= int64(n)
	c.guard.dataSent++
	s.Sent += int64(n)
	s.WireOut += int64(n) + frameHead
	c.grant()
}

// finish sends the end of the message: trailers, the flag of the last DATA frame if that is still here, or an empty one.
func (s *Stream) finish() {
	t, c := &s.tx, s.c
	switch {
	case t.trailer != nil && t.trailer.Len() > 0:
		s.sendHead(t.trailer, true, 0, func(b []byte) []byte { return c.enc.fields(b, t.trailer) })
		return
	case t.hasAt && t.number == c.out.number && t.at+frameHead <= len(c.out.b):
		c.out.b[t.at+4] |= flagEndStream
	default:
		c.frame(frameData, flagEndStream, s.id, 0, 0)
		c.guard.dataSent++
		s.WireOut += frameHead
	}
	s.endSend()
}

// Open makes a stream of a client, which begins with its Request and ends with Release.
func (c *Conn) Open() *Stream {
	if k := c.o.Keepalive; k.Idle > 0 && c.w.Now() >= c.probe.last.Add(k.Idle) {
		c.ping()
	}
	return c.take(0)
}

// Release ends a client's stream; one that has not come to its end is reset.
func (s *Stream) Release() {
	s.Reset(Cancel)
	s.free()
}

const (
	staticAuthority = 1
	staticMethod    = 2
	staticPath      = 4
	staticScheme    = 6
	staticStatus    = 8
)

// status appends the status of a response.
func (e *encoder) status(b []byte, status int) []byte {
	if status < 100 || status > 599 {
		return e.pseudo(b, staticStatus, strconv.Itoa(status))
	}
	return e.pseudo(b, staticStatus, statusText[status-100])
}

var statusText = func() (t [500]string) {
	for i := range t {
		t[i] = strconv.Itoa(100 + i)
	}
	return t
}()
