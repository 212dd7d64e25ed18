package http1

import (
	"bytes"
	"io"
	"math"
	"syscall"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/header"
)

type bodyState uint8

const (
	bodyEnd bodyState = iota
	bodyLength
	bodyUntilClose
	chunkSize
	chunkData
	chunkDataEnd
	bodyTrailer
	bodyFailed
)

// body is the body of the message that a Conn reads. It is a stream.Body.
type body struct {
	c       *Conn
	state   bodyState
	left    int64 // of the body, or of the chunk
	trailer *header.Map
	err     error // bodyFailed
}

func (b *body) reset(trailer *header.Map) {
	b.state, b.trailer, b.err = bodyEnd, trailer, nil
}

func (b *body) start(f *framing) {
	b.left = f.length
	switch {
	case f.chunked:
		b.state, b.left = chunkSize, 0
	case f.length >= 0:
		b.state = bodyLength
	default:
		b.state = bodyUntilClose
	}
}

// Next returns the next piece. An error of the message is final: it comes again.
func (b *body) Next(wait bool) ([]byte, error) {
	c := b.c
	if c.Continue != nil {
		if err := b.sendContinue(); err != nil {
			return nil, b.fail(err)
		}
	}
	for {
		var err error
		switch b.state {
		case bodyEnd:
			return nil, io.EOF
		case bodyFailed:
			return nil, b.err
		case chunkSize, chunkDataEnd:
			err = b.chunkLine(wait)
		case bodyTrailer:
			err = b.readTrailer(wait)
		default:
			if c.r == c.n {
				err = c.fill(b.left, wait)
			}
			if err == nil {
				return b.take(c.cur[c.r:c.n]), nil
			}
			if err == io.EOF && b.state == bodyUntilClose {
				b.state = bodyEnd
				return nil, io.EOF
			}
		}
		if err == fiber.ErrWouldWait {
			return nil, nil
		}
		if err != nil {
			return nil, b.fail(err)
		}
	}
}

func (b *body) sendContinue() error {
	f := b.c.Continue
	if b.c.Continue = nil; b.state == bodyEnd || b.c.Buffered() || b.c.BodyBytes > 0 {
		return nil
	}
	return f()
}

// fail keeps an error that is the message's or the connection's. One that ended the wait of a fiber (its limit, its cancellation) is
// not kept: another attempt may go on with the body.
func (b *body) fail(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	switch err.(type) {
	case *Error, syscall.Errno:
	default:
		if err != io.ErrUnexpectedEOF {
			return err
		}
	}
	b.c.discard()
	b.state, b.err = bodyFailed, err
	return err
}

func (b *body) take(p []byte) []byte {
	if b.state != bodyUntilClose {
		if int64(len(p)) > b.left {
			p = p[:b.left]
		}
		if b.left -= int64(len(p)); b.left == 0 {
			if b.state == chunkData {
				b.state = chunkDataEnd
			} else {
				b.state = bodyEnd
			}
		}
	}
	b.c.r += len(p)
	b.c.BodyBytes += int64(len(p))
	b.c.WireBytes += int64(len(p))
	return p
}

// chunkLine reads the line that begins a chunk, or the empty one behind its data.
func (b *body) chunkLine(wait bool) error {
	line, err := b.c.line(wait)
	if err != nil {
		return err
	}
	if b.state == chunkDataEnd {
		if len(line) != 0 {
			return ErrProtocol
		}
		b.state = chunkSize
		return nil
	}
	n, ok := chunkLength(line)
	if !ok {
		return ErrProtocol
	}
	if b.left, b.state = n, chunkData; n == 0 {
		b.state = bodyTrailer
	}
	return nil
}

// chunkLength parses the size and looks over the extensions, which are dropped (RFC 9112, 7.1.1): no line break may hide
// in them, nor may they begin without a semicolon.
func chunkLength(line []byte) (n int64, ok bool) {
	i := 0
	for ; i < len(line); i++ {
		d := unhex[line[i]]
		if d < 0 {
			break
		}
		if n > math.MaxInt64>>4 {
			return 0, false
		}
		n = n<<4 | int64(d)
	}
	if i == 0 {
		return 0, false
	}
	for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
		i++
	}
	return n, i == len(line) || line[i] == ';' && control(line, i) == len(line)
}

var unhex = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i := range 10 {
		t['0'+i] = int8(i)
	}
	for i := range 6 {
		t['a'+i], t['A'+i] = int8(10+i), int8(10+i)
	}
	return t
}()

// line returns a line of the chunked framing without its end, which is CR LF: elsewhere a lone LF is taken as in Envoy,
// but between chunks parsers have disagreed about it.
func (c *Conn) line(wait bool) ([]byte, error) {
	for from := 0; ; {
		if i := bytes.IndexByte(c.cur[c.r+from:c.n], '\n'); i >= 0 {
			l := c.cur[c.r : c.r+from+i]
			c.r += len(l) + 1
			c.WireBytes += int64(len(l) + 1)
			if len(l) == 0 || l[len(l)-1] != '\r' || len(l) > lineLimit {
				return nil, ErrProtocol
			}
			return l[:len(l)-1], nil
		}
		if from = c.n - c.r; from > lineLimit {
			return nil, ErrProtocol
		}
		if from > 0 && c.body.state == chunkDataEnd && c.cur[c.r] != '\r' {
			return nil, ErrProtocol // do not wait for the end of what is no end of a chunk
		}
		if err := c.fill(0, wait); err != nil {
			return nil, err
		}
	}
}

// readTrailer reads the trailer section as a whole. Its strings alias the slab, which stays until the next message.
func (b *body) readTrailer(wait bool) error {
	c := b.c
	for {
		if in := c.cur[c.r:c.n]; len(in) > 0 && (in[0] == '\n' || len(in) > 1 && in[0] == '\r' && in[1] == '\n' || headEnds(in, 0)) {
			return b.gotTrailer(in)
		} else if len(in) > c.parse.o.HeadLimit {
			return ErrTooLarge
		}
		if err := c.fill(0, wait); err != nil {
			return err
		}
	}
}

func (b *body) gotTrailer(in []byte) error {
	c := b.c
	p := &c.parse
	p.beginTrailer(b.trailer)
	used, err := p.fields(in, 0)
	if err != nil {
		return err
	}
	if used > c.parse.o.HeadLimit {
		b.trailer.Reset()
		return ErrTooLarge
	}
	c.r += used
	c.WireBytes += int64(used)
	if b.state = bodyEnd; !c.parse.o.Trailers {
		b.trailer.Reset()
		return nil
	}
	c.HeadBytes += p.size()
	return nil
}
