package filter

import (
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Accepted is a connection between its accept and its filter chain.
type Accepted struct {
	fiber.Conn

	Worker *fiber.Worker
	Info   *stream.Conn
	// TransportProtocol is what an inspector found: "tls", "raw_buffer" or empty.
	TransportProtocol string
	// ApplicationProtocols are what an inspector found: ALPN names, or "http/1.0", "http/1.1", "h2c".
	ApplicationProtocols []string

	failure error
}

// Peek shows what the client has sent, at least so many bytes, and leaves it where it is. Filters that stop because of its error need not
// say so: the listener asks Failure.
func (a *Accepted) Peek(least int) ([]byte, error) {
	b, err := a.Conn.Peek(least)
	if err != nil {
		a.failure = err
	}
	return b, err
}

// Failure is the last error of Peek: the limit of the listener filters, io.EOF, or that of the connection. Nil if there was none.
func (a *Accepted) Failure() error { return a.failure }

// ListenerFilter looks at a connection before its filter chain is chosen. It may wait; it peeks (Accepted.Peek) and consumes only
// what belongs to it alone, such as a PROXY protocol header.
type ListenerFilter interface{ OnAccept(a *Accepted) Status }

// Conn is a downstream connection as network filters see it.
type Conn struct {
	fiber.Conn

	Worker *fiber.Worker
	Info   *stream.Conn
	// Stream is what is known of the connection as a whole, for access logs; nil unless somebody logs it. Record makes it.
	Stream *stream.Stream
	// Drop is set by a terminal that leaves the connection to the loop (OnIdle): the listener calls it, on the worker, when the
	// connection must end, such as at the end of the drain time. Nil: the connection is closed, which a fiber that reads from it sees.
	Drop func()
	// Drain is set by a terminal that keeps connections between exchanges: the listener calls it, on the worker, when the process is
	// about to end. A connection with nothing in flight closes; any other goes on, and is told to close with its next response.
	Drain func()
	// Ended is called by the terminal, once, when it has closed the connection.
	Ended func()

	ends []func()
}

// OnEnd has f called, on the worker, when the connection has ended: by network filters that hold something for it.
func (c *Conn) OnEnd(f func()) { c.ends = append(c.ends, f) }

// RunEnds calls what OnEnd was given, the latest first. The listener calls it, from Ended.
func (c *Conn) RunEnds() {
	for len(c.ends) > 0 {
		f := c.ends[len(c.ends)-1]
		c.ends = c.ends[:len(c.ends)-1]
		f()
	}
}

// Record returns c.Stream, which it makes first if nobody did: a terminal that has access loggers of its own.
func (c *Conn) Record() *stream.Stream {
	if c.Stream == nil {
		c.Stream = &stream.Stream{}
		c.Stream.Reset(c.Worker, c.Info)
		c.Stream.Info.Start = c.Info.Start
	}
	return c.Stream
}

// DownstreamTransport is the downstream side of a transport socket (envoy.config.core.v3.TransportSocket of a filter chain).
type DownstreamTransport interface {
	// Accept makes of the accepted connection what network filters see; it may wait, as for a handshake, and fills in a.Info.
	// Its error ends the connection; Info.TransportFailure says why.
	Accept(a *Accepted) (fiber.Conn, error)
}

// Network filters run in order before the terminal filter; they may wait, which holds up this connection alone.
type Network interface{ OnConn(c *Conn) Status }

// Wrapper is a filter that must see the bytes: what it returns takes the place of the connection.
type Wrapper interface{ Wrap(c *Conn) fiber.Conn }

// Terminal takes the connection over: from now on it is the terminal's to close, and Ended to call. Open may be called on the
// loop, outside of a fiber, so it must not wait: it starts a fiber, or gives the connection to the loop with OnIdle.
type Terminal interface{ Open(c *Conn) }
