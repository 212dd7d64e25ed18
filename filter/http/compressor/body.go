package compressor

import (
	"io"

	"github.com/outrigger-proxy/outrigger/filter"
)

// encoder compresses what is written to it.
type encoder interface {
	io.WriteCloser
	Flush() error
	Reset(w io.Writer)
}

// output collects what an encoder has made.
type output struct{ b []byte }

// Write appends.
func (o *output) Write(p []byte) (int, error) {
	o.b = append(o.b, p...)
	return len(p), nil
}

// body is a response on its way to the client, compressed.
type body struct {
	f       *Filter // nil: not in use
	worker  int
	src     filter.Body
	enc     encoder
	out     output
	written bool // something is in the encoder that the client has not got
	done    bool
}

// piece is how much is collected before it goes out.
const piece = 16 << 10

func (b *body) begin(f *Filter, worker int, src filter.Body) {
	b.f, b.worker, b.src, b.done, b.written = f, worker, src, false, false
	b.out.b = b.out.b[:0]
	if n := len(f.free[worker]); n > 0 {
		b.enc, f.free[worker] = f.free[worker][n-1], f.free[worker][:n-1]
	} else {
		b.enc = f.library.make()
	}
	b.enc.Reset(&b.out)
}

// end gives the encoder back.
func (b *body) end() {
	if b.f == nil {
		return
	}
	b.enc.Reset(io.Discard)
	b.f.free[b.worker] = append(b.f.free[b.worker], b.enc)
	b.f, b.enc, b.src = nil, nil, nil
	if cap(b.out.b) > 4*piece {
		b.out.b = nil
	}
}

// Next compresses what has come. What the client could have already is not held back: it is flushed before anybody waits.
func (b *body) Next(wait bool) ([]byte, error) {
	b.out.b = b.out.b[:0]
	for !b.done {
		p, err := b.src.Next(wait && !b.written)
		switch {
		case err == io.EOF:
			b.done = true
			if err := b.enc.Close(); err != nil {
				return nil, err
			}
			return b.give()
		case err != nil:
			return nil, err
		case len(p) == 0 && !b.written:
			return nil, nil
		case len(p) == 0:
			if err := b.enc.Flush(); err != nil {
				return nil, err
			}
			b.written = false
			return b.give()
		}
		b.f.stats.Uncompressed.Add(uint64(len(p)))
		b.written = true
		if _, err := b.enc.Write(p); err != nil {
			return nil, err
		}
		if len(b.out.b) >= piece {
			return b.give()
		}
	}
	return nil, io.EOF
}

// give returns what is there; nothing at the end is the end.
func (b *body) give() ([]byte, error) {
	b.f.stats.Bytes.Add(uint64(len(b.out.b)))
	if len(b.out.b) == 0 && b.done {
		return nil, io.EOF
	}
	return b.out.b, nil
}
