package http1

import (
	"bytes"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// The connection reads into slabs of its worker. The head stays where it was read, since its strings point there; the body
// is read behind it as long as there is room, then into a slab of its own, and its pieces are lent out without a copy.

const (
	roomEnough = 4 << 10 // behind a head, so that the body needs no other slab
	lineLimit  = 8 << 10 // of chunked framing, extensions included
	overread   = 1 << 10 // asked for beyond a body, so that a short read tells that the socket is drained
)

// rebase makes the head slab hold what is left of the input, at its beginning.
func (c *Conn) rebase() {
	left := c.cur[c.r:c.n]
	if c.head == nil || len(c.head) > c.w.Buffers.Size && len(left) <= c.w.Buffers.Size {
		old := c.head
		inHead := c.inHead()
		c.head = c.w.Buffers.Get()
		n := copy(c.head, left)
		if inHead {
			c.cur = nil
		}
		c.releaseBody()
		c.put(old)
		c.cur, c.r, c.n, c.pin = c.head, 0, n, 0
		return
	}
	for len(c.head) < len(left) {
		c.head = make([]byte, 2*len(c.head)) // a big piece of the next messages came with the last one
	}
	n := copy(c.head, left)
	c.releaseBody()
	c.cur, c.r, c.n, c.pin = c.head, 0, n, 0
}

func (c *Conn) inHead() bool { return len(c.cur) > 0 && len(c.head) > 0 && &c.cur[0] == &c.head[0] }

func (c *Conn) put(b []byte) {
	switch len(b) {
	case c.w.Buffers.Size:
		c.w.Buffers.Put(b)
	case c.w.Bulk.Size:
		c.w.Bulk.Put(b)
	}
}

// releaseBody gives back a slab of the body's own.
func (c *Conn) releaseBody() {
	if len(c.cur) > 0 && !c.inHead() {
		c.put(c.cur)
	}
	c.cur, c.r, c.n = c.head, c.pin, c.pin
}

// grow moves the input not consumed, and the head if it is there, into a bigger slab.
func (c *Conn) grow() {
	size := c.w.Bulk.Size
	var b []byte
	if len(c.cur) < size {
		b = c.w.Bulk.Get()
	} else {
		b = make([]byte, 2*len(c.cur))
	}
	c.n = copy(b, c.cur[c.r:c.n])
	c.r = 0
	c.put(c.cur)
	c.cur = b
}

// fill reads more of a body behind what is left. want is how much of the body is known to follow, 0 if that is not known.
func (c *Conn) fill(want int64, wait bool) error {
	if c.r == c.n {
		if !c.Net.Readable() {
			if !wait {
				return fiber.ErrWouldWait
			}
			c.releaseBody() // nothing is lent while it waits, but the head
			if err := c.Net.WaitReadable(); err != nil {
				return err
			}
		}
		c.place(want)
	} else if c.n == len(c.cur) {
		c.shift()
	}
	room := c.cur[c.n:]
	if want > 0 && int64(len(room)) > want+overread {
		room = room[:want+overread]
	}
	read := c.Net.Read
	if !wait {
		read = c.Net.TryRead
	}
	n, err := read(room)
	c.n += n
	return err
}

// place chooses where the next piece goes, none being left.
func (c *Conn) place(want int64) {
	bulk := len(c.cur) == c.w.Bulk.Size && !c.inHead()
	if want > int64(c.w.Buffers.Size) {
		if !bulk {
			c.releaseBody()
			c.cur = c.w.Bulk.Get()
		}
		c.r, c.n = 0, 0
		return
	}
	if bulk {
		c.releaseBody()
	}
	if c.inHead() {
		if room := len(c.head) - c.pin; room >= roomEnough || want > 0 && int64(room) > want {
			c.r, c.n = c.pin, c.pin
			return
		}
		c.cur = c.w.Buffers.Get()
	}
	c.r, c.n = 0, 0
}

// shift makes room behind what is left.
func (c *Conn) shift() {
	left := c.cur[c.r:c.n]
	switch {
	case c.inHead():
		b := c.w.Buffers.Get()
		if len(left) >= len(b) {
			c.w.Buffers.Put(b)
			b = make([]byte, 2*len(left))
		}
		c.n, c.r, c.cur = copy(b, left), 0, b
	case c.r > 0:
		c.n, c.r = copy(c.cur, left), 0
	default:
		c.grow()
	}
}

// headEnds says whether an empty line stands in b; from is how much of b has been looked at.
func headEnds(b []byte, from int) bool {
	for i := max(from-3, 0); ; {
		j := bytes.IndexByte(b[i:], '\n')
		if j < 0 {
			return false
		}
		i += j + 1
		if i < len(b) && (b[i] == '\n' || b[i] == '\r' && i+1 < len(b) && b[i+1] == '\n') {
			return true
		}
	}
}
