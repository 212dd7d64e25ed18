package filter

import (
	"strconv"

	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// A filter implements the hooks it needs. It is one value for all streams of all workers: what belongs to a stream is in a Slot.

// RequestHook sees the head; the body is pulled, wrapped or buffered by whoever wants it.
type RequestHook interface{ OnRequest(s *Stream) Status }

// ResponseHook sees each response, local replies too, in reverse order.
type ResponseHook interface{ OnResponse(s *Stream) Status }

// EndHook is called once, last and always, also when the stream was cancelled; it cannot wait.
type EndHook interface{ OnEnd(s *Stream) }

// HTTPTerminal leaves a response in the stream, whose body the connection manager then pulls.
type HTTPTerminal interface{ Serve(s *Stream) }

// Stream is one request and its response as HTTP filters see them. It is pooled by its worker.
type Stream struct {
	stream.Stream
	Conn  *Conn
	Route *route.Route // nil: none matched
	Chain *Chain

	reply stream.Bytes
	local bool
	slots []any
}

// Begin makes s ready for its next request on c.
func (s *Stream) Begin(c *Conn, chain *Chain) {
	s.Stream.Reset(c.Worker, c.Info)
	s.Conn, s.Chain, s.Route, s.local = c, chain, nil, false
	for len(s.slots) < chain.Slots {
		s.slots = append(s.slots, nil)
	}
}

// LocalReply makes the response ourselves: `return s.LocalReply(403, "rbac_access_denied", "RBAC: access denied")`.
func (s *Stream) LocalReply(status int, details, body string) Status {
	r := &s.Response
	r.Header.Reset()
	r.Trailer.Reset()
	r.Status, r.Body, s.Info.Details, s.local = status, nil, details, true
	if body != "" {
		s.reply = stream.Bytes{B: append(s.reply.B[:0], body...)}
		r.Body = &s.reply
		r.Header.Add("content-length", strconv.Itoa(len(body)))
		r.Header.Add("content-type", "text/plain")
	}
	return Stop
}

// Local says whether the response is our own.
func (s *Stream) Local() bool { return s.local }

// Slot is the place of a filter's state in each stream. The T is kept with the pooled stream: it is allocated once, not per request.
type Slot[T any] struct{ i int }

// NewSlot reserves a slot in the chain that env builds.
func NewSlot[T any](env Env) Slot[T] {
	i := *env.Slots
	*env.Slots++
	return Slot[T]{i}
}

// Get returns the state of s. It is as the last stream left it: OnRequest (or Serve) resets what matters.
func (sl Slot[T]) Get(s *Stream) *T {
	if v, ok := s.slots[sl.i].(*T); ok {
		return v
	}
	v := new(T)
	s.slots[sl.i] = v
	return v
}

// Chain is a compiled filter chain: each hook's list holds only those that implement it.
type Chain struct {
	Slots     int
	requests  []RequestHook
	responses []ResponseHook
	ends      []EndHook
	terminal  HTTPTerminal
}

// Compile sorts filters, in configuration order, into the lists. The last one must be the terminal.
func Compile(filters []any, slots int) (*Chain, bool) {
	c := &Chain{Slots: slots}
	for i, f := range filters {
		if h, ok := f.(RequestHook); ok {
			c.requests = append(c.requests, h)
		}
		if h, ok := filters[len(filters)-1-i].(ResponseHook); ok {
			c.responses = append(c.responses, h)
		}
		if h, ok := f.(EndHook); ok {
			c.ends = append(c.ends, h)
		}
		if h, ok := f.(HTTPTerminal); ok {
			if i != len(filters)-1 {
				return nil, false
			}
			c.terminal = h
		}
	}
	return c, c.terminal != nil
}

// Serve takes s from its request to a response whose body is not yet pulled.
func (c *Chain) Serve(s *Stream) {
	for _, h := range c.requests {
		if h.OnRequest(s) == Stop {
			c.respond(s)
			return
		}
	}
	c.terminal.Serve(s)
	c.respond(s)
}

// respond runs the response hooks; a local reply from one of them goes out as it is, as in Envoy.
func (c *Chain) respond(s *Stream) {
	for _, h := range c.responses {
		if h.OnResponse(s) == Stop {
			return
		}
	}
}

// End runs the end hooks.
func (c *Chain) End(s *Stream) {
	for _, h := range c.ends {
		h.OnEnd(s)
	}
}
