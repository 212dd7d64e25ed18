package transport

import (
	"crypto/tls"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// conn is a TLS connection as a fiber.Conn. It reads from crypto/tls without waiting, and waits for the socket below.
// While idle it holds no fiber and no buffer; what tls.Conn keeps is taken from it after a second (room.go).
type conn struct {
	// set at construction
	wire wire
	tls  *tls.Conn
	// owned by the worker
	peek     []byte // slab; peek[r:n] was decrypted and is not consumed
	r, n     int
	err      error // came after it
	limit    fiber.Time
	idle     func(expired bool)
	wake     func(expired bool) // idleInput, made once
	drained  bool               // nothing can be read before something comes from below
	starting bool               // a fiber for idle is on its way
	closed   bool
	broom    fiber.Timer // sweep
	tidying  bool        // it is armed
}

func newConn(w *fiber.Worker, raw fiber.Conn) *conn {
	return &conn{wire: wire{raw: raw, w: w}}
}

// handshake runs on the connection's fiber.
func (c *conn) handshake() error {
	c.wire.shaking = true
	err := c.tls.Handshake()
	c.wire.shaking = false
	if err != nil {
		_ = c.wire.reply() // the alert
		return err
	}
	return c.wire.flush()
}

// input reads without waiting; fiber.ErrWouldWait when there is nothing.
func (c *conn) input(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.tls.Read(p)
	if len(c.wire.out) > 0 {
		if e := c.wire.reply(); e != nil && n == 0 {
			return 0, e
		}
	}
	if n > 0 {
		c.drained = false
		return n, nil // an error beside it, such as the end, comes again
	}
	if c.drained = err == errAgain; c.drained {
		err = fiber.ErrWouldWait
	}
	return 0, err
}

func (c *conn) TryRead(p []byte) (int, error) {
	switch {
	case c.closed:
		return 0, fiber.ErrClosed
	case c.n > c.r:
		n := copy(p, c.peek[c.r:c.n])
		c.Discard(n)
		return n, nil
	case c.err != nil:
		return 0, c.err
	}
	return c.input(p)
}

func (c *conn) Read(p []byte) (int, error) {
	for {
		n, err := c.TryRead(p)
		if err != fiber.ErrWouldWait {
			return n, err
		}
		if err := c.wire.raw.WaitReadable(); err != nil {
			return 0, err
		}
	}
}

// maxWrite is how much is encrypted at a time: three records of 16 KiB and one that is a little smaller, with what TLS adds, fill a
// slab of 64 KiB, and go out in one system call. Records on their own cost 1.3 times the time per GB.
const maxWrite = 64<<10 - 256

func (c *conn) Write(p []byte) (int, error) {
	for done := 0; ; {
		if c.closed {
			return done, fiber.ErrClosed
		}
		n, err := c.tls.Write(p[done:min(done+maxWrite, len(p))])
		if err == nil {
			err = c.wire.flush()
		}
		done += n
		if err != nil || done == len(p) {
			return done, err
		}
	}
}

// TryWrite takes a record at a time, and none while the one before is not sent.
func (c *conn) TryWrite(p []byte) (int, error) {
	const record = 16 << 10
	for done := 0; ; {
		switch {
		case c.closed:
			return done, fiber.ErrClosed
		case done == len(p):
			return done, nil
		}
		if err := c.wire.reply(); err != nil {
			return done, err
		}
		if len(c.wire.out) > 0 || c.wire.flushing {
			return done, fiber.ErrWouldWait
		}
		n, err := c.tls.Write(p[done:min(done+record, len(p))])
		done += n
		if err != nil {
			return done, err
		}
		if err := c.wire.reply(); err != nil {
			return done, err
		}
	}
}

// Readable looks whether there is something to read for the application: records may hold none.
func (c *conn) Readable() bool {
	switch {
	case c.closed || c.n > c.r || c.err != nil:
		return true
	case c.drained && !c.wire.raw.Readable():
		return false
	}
	c.fill()
	return c.n > c.r || c.err != nil
}

func (c *conn) WaitReadable() error {
	for !c.Readable() {
		if err := c.wire.raw.WaitReadable(); err != nil {
			return err
		}
	}
	if c.closed {
		return fiber.ErrClosed
	}
	return nil
}

// fill decrypts into the slab, and says whether that brought something.
func (c *conn) fill() bool {
	if c.err != nil {
		return false
	}
	if !c.room() {
		return false
	}
	n, err := c.input(c.peek[c.n:])
	c.n += n
	if err != fiber.ErrWouldWait {
		c.err = err
	}
	if c.n == c.r {
		c.release()
	}
	return n > 0 || c.err != nil
}

// room makes room behind what is there.
func (c *conn) room() bool {
	w := c.wire.w
	switch {
	case c.peek == nil:
		c.peek = w.Buffers.Get()
	case c.n < len(c.peek):
	case c.r > 0:
		c.r, c.n = 0, copy(c.peek, c.peek[c.r:c.n])
	case len(c.peek) >= fiber.MaxPeek:
		return false
	default:
		b := w.Bulk.Get()
		copy(b, c.peek[:c.n])
		w.Buffers.Put(c.peek)
		c.peek = b
	}
	return true
}

func (c *conn) Peek(least int) ([]byte, error) {
	for {
		switch {
		case c.closed:
			return nil, fiber.ErrClosed
		case (!c.drained || c.wire.raw.Readable()) && c.fill():
			continue
		case c.n-c.r >= least:
			return c.peek[c.r:c.n], nil
		case c.err != nil:
			return c.peek[c.r:c.n], c.err
		case least > fiber.MaxPeek:
			return c.peek[c.r:c.n], fiber.ErrPeekTooLong
		}
		if err := c.wire.raw.WaitReadable(); err != nil {
			return c.peek[c.r:c.n], err
		}
	}
}

func (c *conn) Discard(n int) {
	if c.r = min(c.r+n, c.n); c.r == c.n {
		c.release()
	}
}

// release gives the slab back.
func (c *conn) release() {
	c.r, c.n = 0, 0
	c.wire.put(c.peek)
	c.peek = nil
}

func (c *conn) OnIdle(limit fiber.Time, next func(bool)) {
	if c.closed {
		return
	}
	c.idle, c.limit = next, limit
	if next == nil {
		c.wire.raw.OnIdle(0, nil)
		return
	}
	if c.Readable() {
		c.start()
		return
	}
	c.rest()
}

// rest waits for input from below.
func (c *conn) rest() {
	if c.wake == nil {
		c.wake = c.idleInput
	}
	c.wire.raw.OnIdle(c.limit, c.wake)
	c.tidy()
}

// idleInput runs on a fiber when something has come from below, which need not be for the application, or the limit has passed.
func (c *conn) idleInput(expired bool) {
	next := c.idle
	switch {
	case next == nil:
	case expired || c.Readable():
		c.idle = nil
		next(expired && !c.Readable())
	default:
		c.rest()
	}
}

// start runs idle on a fiber when its turn comes; the connection may be taken back until then.
func (c *conn) start() {
	if c.starting {
		return
	}
	c.starting = true
	c.wire.w.Go(func() { // ends with next
		c.starting = false
		switch next := c.idle; {
		case next == nil:
		case c.Readable():
			c.idle = nil
			next(false)
		default: // taken back, read, and given again
			c.rest()
		}
	})
}

func (c *conn) Guard(f *fiber.Fiber) { c.wire.raw.Guard(f) }

// CloseWrite sends close_notify: the peer reads the end, and may go on writing. The socket is not shut down, as in Envoy.
func (c *conn) CloseWrite() error {
	if c.closed {
		return fiber.ErrClosed
	}
	if err := c.tls.CloseWrite(); err != nil {
		return err
	}
	return c.wire.reply()
}

// Close says close_notify, without waiting for it to be sent.
func (c *conn) Close() error {
	if c.closed {
		return nil
	}
	_ = c.tls.Close()
	_ = c.wire.reply()
	c.shut()
	return c.wire.raw.Close()
}

func (c *conn) Abort() {
	if !c.closed {
		c.shut()
		c.wire.raw.Abort()
	}
}

func (c *conn) shut() {
	c.closed, c.idle = true, nil
	if c.tidying {
		c.broom.Stop(c.wire.w)
	}
	c.release()
	c.wire.drop()
}

func (c *conn) Local() fiber.Address               { return c.wire.raw.Local() }
func (c *conn) Remote() fiber.Address              { return c.wire.raw.Remote() }
func (c *conn) Control(f func(fd int) error) error { return c.wire.raw.Control(f) }
