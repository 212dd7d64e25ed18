package grpcweb

import (
	"encoding/base64"
	"io"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/header"
)

// encoder is the body of a response on its way to the client: the trailers become a frame of their own, and for a client that wants text
// each frame becomes base64.
type encoder struct {
	s      *filter.Stream
	c      *call
	src    filter.Body
	text   bool
	done   bool
	frames grpc.Scanner
	rest   [3]byte // of a frame, too short to be written as base64
	have   int     // bytes of rest
	out    []byte
}

// Next returns the next piece, or the trailers behind the last one.
func (e *encoder) Next(wait bool) ([]byte, error) {
	for !e.done {
		p, err := e.src.Next(wait)
		switch {
		case err == io.EOF:
			return e.end()
		case err != nil || len(p) == 0 || !e.text:
			return p, err
		}
		if e.encode(p); len(e.out) > 0 {
			return e.out, nil
		}
	}
	return nil, io.EOF
}

// encode appends p, which may be parts of several frames, to e.out.
func (e *encoder) encode(p []byte) {
	e.out = e.out[:0]
	for len(p) > 0 {
		part := e.frames.Scan(p)
		p = p[len(part.Bytes):]
		e.append(part.Bytes)
		if part.Ends {
			e.out = base64.StdEncoding.AppendEncode(e.out, e.rest[:e.have])
			e.have = 0
		}
	}
}

// append encodes all of p but the one or two bytes that would need padding.
func (e *encoder) append(p []byte) {
	if e.have > 0 {
		n := copy(e.rest[e.have:], p)
		e.have += n
		p = p[n:]
		if e.have < len(e.rest) {
			return
		}
		e.out = base64.StdEncoding.AppendEncode(e.out, e.rest[:])
	}
	whole := len(p) / 3 * 3
	e.out = base64.StdEncoding.AppendEncode(e.out, p[:whole])
	e.have = copy(e.rest[:], p[whole:])
}

// end writes the trailers into a frame.
func (e *encoder) end() ([]byte, error) {
	e.done = true
	t := &e.s.Response.Trailer
	if t.Len() == 0 {
		return nil, io.EOF
	}
	e.c.count(t)
	b := &e.c.message
	*b = appendTrailers((*b)[:0], t)
	t.Reset()
	if !e.text {
		return *b, nil
	}
	e.out = base64.StdEncoding.AppendEncode(e.out[:0], *b)
	return e.out, nil
}

// appendTrailers appends the frame of trailers.
func appendTrailers(b []byte, t *header.Map) []byte {
	b = grpc.AppendHead(b, grpc.Trailers, t.Bytes()+len(":\r\n")*t.Len())
	for _, f := range t.All() {
		b = append(b, f.Name...)
		b = append(b, ':')
		b = append(b, f.Value...)
		b = append(b, '\r', '\n')
	}
	return b
}
