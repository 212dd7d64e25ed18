package http2

import (
	"io"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// Hold says, before Respond or Request, that the head does not end the message although it has no body: a tunnel follows.
func (s *Stream) Hold() { s.tx.hold = true }

// Tunnel returns the stream as a connection, after a CONNECT: what is written goes out in DATA frames.
func (s *Stream) Tunnel() fiber.Conn {
	s.tunneled = true
	return &tunnel{s: s}
}

// tunnel is a stream as a byte stream.
type tunnel struct {
	s    *Stream
	have []byte             // was pulled, and not read
	err  error              // that follows it
	next func(expired bool) // of OnIdle
	turn uint64             // of OnIdle: a stale call does nothing
	due  fiber.Timer
}

// pull gets more, if there is nothing.
func (t *tunnel) pull(wait bool) error {
	if len(t.have) > 0 || t.err != nil {
		return nil //nolint:nilerr // what was asked for is whether Read waits
	}
	p, err := t.s.rx.Next(wait)
	switch {
	case err == nil && p == nil:
		return fiber.ErrWouldWait
	case err != nil && err != io.EOF && t.s.rx.err == nil:
		return err // of the fiber that waited
	}
	t.have, t.err = p, err
	return nil
}

func (t *tunnel) read(p []byte, wait bool) (int, error) {
	if err := t.pull(wait); err != nil {
		return 0, err
	}
	if len(t.have) == 0 {
		return 0, t.err
	}
	n := copy(p, t.have)
	t.have = t.have[n:]
	return n, nil
}

func (t *tunnel) Read(p []byte) (int, error)    { return t.read(p, true) }
func (t *tunnel) TryRead(p []byte) (int, error) { return t.read(p, false) }
func (t *tunnel) Readable() bool                { return t.pull(false) == nil }
func (t *tunnel) WaitReadable() error           { return t.pull(true) }

func (t *tunnel) Write(p []byte) (int, error)    { return t.write(p, true) }
func (t *tunnel) TryWrite(p []byte) (int, error) { return t.write(p, false) }

func (t *tunnel) write(p []byte, wait bool) (n int, err error) {
	s := t.s
	if s.tx.ended {
		return 0, fiber.ErrClosed
	}
	s.tx.rest = p
	for len(s.tx.rest) > 0 {
		ready, err := s.turn(wait)
		if err == nil && !ready {
			err = fiber.ErrWouldWait
		}
		if err != nil {
			n = len(p) - len(s.tx.rest)
			s.tx.rest = nil
			return n, err
		}
		s.data()
	}
	return len(p), nil
}

func (t *tunnel) Peek(least int) ([]byte, error) {
	for len(t.have) < least {
		if err := t.pull(true); err != nil {
			return t.have, err
		}
		if t.err != nil {
			return t.have, t.err
		}
		had := append([]byte(nil), t.have...)
		p, err := t.s.rx.Next(true)
		t.have = had
		if t.have = append(t.have, p...); err != nil {
			t.err = err
		}
	}
	return t.have, nil
}

func (t *tunnel) Discard(n int) { t.have = t.have[n:] }

func (t *tunnel) OnIdle(limit fiber.Time, next func(expired bool)) {
	w := t.s.c.w
	t.turn++
	t.next, t.s.rx.idle = next, nil
	t.due.Stop(w)
	if next == nil {
		return
	}
	if t.Readable() {
		t.call(false)
		return
	}
	t.s.rx.idle = t
	if limit != 0 {
		t.due.Do = func() { t.call(true) }
		t.due.Set(w, limit)
	}
}

// call runs the function of OnIdle on a fiber.
func (t *tunnel) call(expired bool) {
	t.due.Stop(t.s.c.w)
	t.s.rx.idle = nil
	turn := t.turn
	t.s.c.w.Go(func() { // ends with next
		if t.turn == turn {
			t.turn++
			t.next(expired)
		}
	})
}

// Guard does nothing: the end of a stream cancels the fiber that serves it.
func (t *tunnel) Guard(*fiber.Fiber) {}

func (t *tunnel) CloseWrite() error {
	if err := t.s.lost(); err != nil {
		return err
	}
	if !t.s.tx.ended {
		t.s.tx.trailer = nil
		t.s.finish()
	}
	return nil
}

func (t *tunnel) Close() error {
	_ = t.CloseWrite()
	return nil
}

func (t *tunnel) Abort()                        { t.s.Reset(Cancel) }
func (t *tunnel) Local() fiber.Address          { return t.s.c.net.Local() }
func (t *tunnel) Remote() fiber.Address         { return t.s.c.net.Remote() }
func (t *tunnel) Control(func(int) error) error { return fiber.ErrNoSocket }
