// Package stream is what a codec, a filter and the router mean by a request and a response.
package stream

import (
	"unsafe"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/header"
)

// Body is pulled. Nobody pulling is the back-pressure.
type Body interface {
	// Next returns the next piece, which is valid until the following call, and io.EOF after the last one; the trailers
	// are in the message by then. With wait unset it returns nil, nil if it would have to wait: whoever has collected
	// something to send asks this way first, and sends before it waits.
	Next(wait bool) ([]byte, error)
}

// Request is what a client asks. Strings parsed from the wire live until the stream ends.
type Request struct {
	Method, Path, Authority, Scheme string
	Header                          header.Map
	Body                            Body // nil: the head ends the message
	Trailer                         header.Map
}

// Response is what it gets.
type Response struct {
	Status  int
	Header  header.Map
	Body    Body // nil: the head ends the message
	Trailer header.Map
}

// Stream is one request and its response with all that is known of them. It is what loggers and formatters read; filters see it
// inside of filter.Stream. It is pooled by its worker.
type Stream struct {
	Request  Request
	Response Response
	Info     Info
	Worker   *fiber.Worker

	arena []byte
}

// Text joins the parts in the stream's arena; the string lives until the stream ends.
func (s *Stream) Text(parts ...string) string {
	from := len(s.arena)
	for _, p := range parts {
		s.arena = append(s.arena, p...)
	}
	return s.since(from)
}

// Append lets f append to the arena and returns what it appended as a string that lives until the stream ends.
func (s *Stream) Append(f func(b []byte, s *Stream) []byte) string {
	from := len(s.arena)
	s.arena = f(s.arena, s)
	return s.since(from)
}

func (s *Stream) since(from int) string {
	t := s.arena[from:]
	return unsafe.String(unsafe.SliceData(t), len(t))
}

// Reset makes s ready for its next request; heads and arena keep their memory.
func (s *Stream) Reset(w *fiber.Worker, c *Conn) {
	s.Worker = w
	s.arena = s.arena[:0]
	s.Info = Info{Conn: c, Start: w.Now()}
	s.Response.Status, s.Response.Body = 0, nil
	s.Response.Header.Reset()
	s.Response.Trailer.Reset()
}
