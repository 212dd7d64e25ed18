package transport

import (
	"errors"
	"net"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// wire is the net.Conn that crypto/tls works on. What crypto/tls writes is collected and sent by flush, outside of the locks of
// tls.Conn: a fiber that parked while it holds one would hang its worker, and records that are sent together cost one system call.
// After the handshake reads do not wait either; tls.Conn keeps what it has of a record when it is told to come again.
type wire struct {
	// set at construction
	raw fiber.Conn
	w   *fiber.Worker
	// owned by the worker
	out      []byte // records that are not sent yet; in a slab of the worker where they fit
	flushing bool   // a fiber is in flush
	session  session
	shaking  bool // the handshake is under way: reads wait
	dropped  bool // the connection is closed
}

// again is what a read has instead of waiting. crypto/tls goes on after errors that are temporary.
type again struct{}

func (again) Error() string   { return "would wait" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }

var errAgain net.Error = again{}

func (c *wire) Read(p []byte) (int, error) {
	if c.shaking {
		if err := c.flush(); err != nil {
			return 0, err
		}
		return c.raw.Read(p)
	}
	n, err := c.raw.TryRead(p)
	if err == fiber.ErrWouldWait {
		err = errAgain
	}
	return n, err
}

// Write collects p.
func (c *wire) Write(p []byte) (int, error) {
	if c.dropped {
		return 0, fiber.ErrClosed
	}
	if room := cap(c.out) - len(c.out); room < len(p) {
		c.grow(len(p))
	}
	c.out = append(c.out, p...)
	return len(p), nil
}

// grow moves what is collected to a slab that holds n more bytes.
func (c *wire) grow(n int) {
	var next []byte
	switch total := len(c.out) + n; {
	case total <= c.w.Buffers.Size:
		next = c.w.Buffers.Get()[:0]
	case total <= c.w.Bulk.Size:
		next = c.w.Bulk.Get()[:0]
	default:
		next = make([]byte, 0, 2*total|odd)
	}
	next = append(next, c.out...)
	c.put(c.out)
	c.out = next
}

// odd makes the capacity of a buffer unlike that of any slab.
const odd = 1

// put gives a slab back.
func (c *wire) put(b []byte) {
	switch cap(b) {
	case c.w.Buffers.Size:
		c.w.Buffers.Put(b)
	case c.w.Bulk.Size:
		c.w.Bulk.Put(b)
	}
}

// flush sends what is collected, and what another fiber adds meanwhile. If the wait ends before, the rest stays for the next flush.
func (c *wire) flush() error {
	if c.flushing {
		return nil
	}
	c.flushing = true
	var err error
	for len(c.out) > 0 && err == nil {
		b := c.out
		c.out = nil
		var n int
		n, err = c.raw.Write(b)
		c.took(b, n)
	}
	c.flushing = false
	return err
}

// took puts back the rest of b, of which n bytes are sent.
func (c *wire) took(b []byte, n int) {
	if n < len(b) && !c.dropped {
		rest := append(make([]byte, 0, (len(b)-n+len(c.out))|odd), b[n:]...)
		rest = append(rest, c.out...)
		c.put(c.out)
		c.out = rest
	}
	c.put(b)
}

// maxReplies bounds what may wait to be sent to a peer that asks, by key updates or by alerts, and does not read the answers.
const maxReplies = 256 << 10

var errReplies = errors.New("the peer does not read what it asks for")

// reply sends what reading has made crypto/tls write, as far as that goes without waiting.
func (c *wire) reply() error {
	if c.flushing || len(c.out) == 0 {
		if len(c.out) > maxReplies {
			return errReplies
		}
		return nil
	}
	b := c.out
	c.out = nil
	n, err := c.raw.TryWrite(b)
	c.took(b, n)
	if err == fiber.ErrWouldWait {
		err = nil
	}
	if len(c.out) > maxReplies {
		return errReplies
	}
	return err
}

// drop gives up what is not sent.
func (c *wire) drop() {
	c.put(c.out)
	c.out, c.dropped = nil, true
}

// Close is called by tls.Conn after its close_notify; the connection itself is closed by whoever sent that.
func (c *wire) Close() error { return nil }

func (c *wire) LocalAddr() net.Addr              { return address{c.raw.Local()} }
func (c *wire) RemoteAddr() net.Addr             { return address{c.raw.Remote()} }
func (c *wire) SetDeadline(time.Time) error      { return nil } // limits belong to fibers
func (c *wire) SetReadDeadline(time.Time) error  { return nil }
func (c *wire) SetWriteDeadline(time.Time) error { return nil }

// address is a fiber.Address for package net.
type address struct{ fiber.Address }

func (address) Network() string { return "tcp" }
