package health

import (
	"io"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// version is how a client finds its version of HTTP.
type version struct {
	two  bool // HTTP/2, where nothing was agreed on
	alpn bool // what the connection has agreed on comes first
}

// client sends one request at a time over a connection to a host, which it keeps as long as that is good for another one.
type client struct {
	// set at construction
	version version
	reuse   bool
	// owned by the worker
	net     fiber.Conn // HTTP/1; nil: there is none
	h1      http1.Conn
	send    http1.Sender
	h2      *http2.Conn // HTTP/2; nil: there is none
	stream  *http2.Stream
	streams http2.Streams
	secure  bool
}

// connect makes a connection unless there is one.
func (c *client) connect(s *Session, to pool.Target) error {
	if c.rests() {
		return nil
	}
	c.close()
	i := &pool.Info{Transport: pool.Transport{ALPN: s.c.config.alpn}}
	if c.version.two {
		i.Protocols = []string{"h2"}
	}
	if c.version.alpn {
		i.Protocols = []string{"h2", "http/1.1"}
	}
	n, err := s.c.env.Dial(s.worker, to, i)
	if err != nil {
		return err
	}
	c.secure = i.TLS != nil
	two := c.version.two
	if c.version.alpn && i.TLS != nil && i.TLS.ALPN() != "" {
		two = i.TLS.ALPN() == "h2"
	}
	if two {
		c.h2 = &http2.Conn{}
		c.h2.Client(s.worker, n, s.c.env.HTTP2, c, &c.streams)
		return nil
	}
	c.net = n
	c.h1.Reset(s.worker, n)
	c.h1.Options = s.c.env.HTTP1
	return nil
}

// rests says whether the connection of the last request is good for another one, and takes it up.
func (c *client) rests() bool {
	switch {
	case c.h2 != nil:
		return c.h2.Limit() > 0
	case c.net != nil:
		c.net.OnIdle(0, nil)
		return !c.net.Readable()
	}
	return false
}

// do sends the request and returns with the head of its response.
func (c *client) do(w *fiber.Worker, q *stream.Request, r *stream.Response) error {
	if err := c.ask(w, q); err != nil {
		return err
	}
	kind := http1.KindOf(q)
	for {
		var err error
		if c.h2 != nil {
			err = c.stream.ReadResponse(r)
		} else {
			err = c.h1.ReadResponse(r, kind)
		}
		if err != nil || r.Status >= 200 {
			return err
		}
	}
}

func (c *client) ask(w *fiber.Worker, q *stream.Request) (err error) {
	if c.h2 == nil {
		c.send.Request(w, c.net, q, c.h1.Options)
		_, err = c.send.Run(true)
		return err
	}
	c.stream = c.h2.Open()
	if err = c.stream.Request(q, ""); err == nil {
		_, err = c.stream.Run(true)
	}
	return err
}

// each reads the body to its end.
func each(r *stream.Response, f func(p []byte)) error {
	for b := r.Body; b != nil; {
		p, err := b.Next(true)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		f(p)
	}
	return nil
}

// done ends the exchange; ok says that its response was read to its end.
func (c *client) done(ok bool) {
	if c.h2 != nil {
		if c.stream != nil {
			c.stream.Release()
			c.stream = nil
		}
		if c.h2 != nil && (!ok || !c.reuse || c.h2.PeerAway()) {
			c.close()
		}
		return
	}
	keep := ok && c.reuse && !c.h1.Close && c.h1.Drained() && !c.h1.Buffered()
	c.h1.Release()
	if !keep {
		c.close()
		return
	}
	c.net.OnIdle(0, func(bool) { c.close() })
}

// close ends the connection.
func (c *client) close() {
	if n := c.net; n != nil {
		c.net = nil
		n.Abort()
	}
	if h := c.h2; h != nil {
		c.h2 = nil
		h.Abort(nil)
	}
}

// Serve is nobody's: hosts open no streams.
func (c *client) Serve(*http2.Stream) {}

// Changed is of no interest.
func (c *client) Changed() {}

// Closed forgets the connection; an exchange that is under way fails by itself.
func (c *client) Closed(error) {
	if c.stream == nil {
		c.h2 = nil
	}
}
