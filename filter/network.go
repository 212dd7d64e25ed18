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
	// Restored says that Info.Local is no longer the address of the socket, so that use_original_dst may hand the connection over.
	Restored bool
}

// ListenerFilter looks at a connection before its filter chain is chosen. It may wait; it peeks (Accepted.Peek) and consumes only
// what belongs to it alone, such as a PROXY protocol header.
type ListenerFilter interface{ OnAccept(a *Accepted) Status }

// Conn is a downstream connection as network filters see it.
type Conn struct {
	fiber.Conn
	Worker *fiber.Worker
	Info   *stream.Conn
	// Ended is called by the terminal, once, when it has closed the connection.
	Ended func()
}

// Network filters run in order before the terminal filter; they may wait, which holds up this connection alone.
type Network interface{ OnConn(c *Conn) Status }

// Wrapper is a filter that must see the bytes: what it returns takes the place of the connection.
type Wrapper interface{ Wrap(c *Conn) fiber.Conn }

// Terminal takes the connection over: from now on it is the terminal's to close, and Ended to call. Open may be called on the
// loop, outside of a fiber, so it must not wait: it starts a fiber, or gives the connection to the loop with OnIdle.
type Terminal interface{ Open(c *Conn) }
