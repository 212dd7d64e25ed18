package router

import (
	"io"

	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// tape remembers a request body while it goes by, up to a limit, so that another attempt or a mirror can send it again.
type tape struct {
	src   stream.Body
	limit int
	kept  []byte
	ended bool
	lost  bool // more has gone by than may be kept
}

func (t *tape) reset(src stream.Body, limit int) { *t = tape{src: src, limit: limit, kept: t.kept[:0]} }

// whole returns the body if all of it is there.
func (t *tape) whole() ([]byte, bool) { return t.kept, t.ended && !t.lost }

// reader reads a tape from its beginning: what is remembered first, then what the source has. Only one reader may be at the end.
type reader struct {
	t        *tape
	pos      int
	from, to *header.Map // trailers: where they come from and whose they are to be
}

// Next returns the next piece.
func (r *reader) Next(wait bool) ([]byte, error) {
	t := r.t
	if r.pos < len(t.kept) {
		p := t.kept[r.pos:]
		r.pos = len(t.kept)
		return p, nil
	}
	if t.ended {
		return nil, r.end()
	}
	p, err := t.src.Next(wait)
	if err == io.EOF {
		t.ended = true
		return nil, r.end()
	}
	if err != nil || len(p) == 0 {
		return nil, err
	}
	if t.lost = t.lost || len(t.kept)+len(p) > t.limit; !t.lost {
		t.kept = append(t.kept, p...)
		r.pos = len(t.kept)
	}
	return p, nil
}

// end hands the trailers over.
func (r *reader) end() error {
	if r.to != r.from {
		*r.to = *r.from
	}
	return io.EOF
}
