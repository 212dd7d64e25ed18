// Package echo is envoy.filters.network.echo (type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo): it sends back
// what it gets. It is a terminal filter. When the client has ended its side, and all is sent back, the connection is closed.
package echo

import (
	echov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/echo/v3"

	"github.com/outrigger-proxy/outrigger/filter"
)

type echo struct{}

// New builds it.
func New(*echov3.Echo, filter.Env) (any, error) { return echo{}, nil }

// Open gives the connection to the loop: it has a fiber and a buffer only while bytes are there.
func (echo) Open(c *filter.Conn) {
	s := &session{c: c}
	c.Drop = s.drop
	s.rest()
}

type session struct {
	c    *filter.Conn
	busy bool
}

func (s *session) rest() {
	s.busy = false
	s.c.OnIdle(0, s.pump)
}

// pump sends back what is there.
func (s *session) pump(bool) {
	s.busy = true
	b := s.c.Worker.Buffers.Get()
	err := s.copy(b)
	s.c.Worker.Buffers.Put(b)
	if err != nil {
		s.end()
		return
	}
	s.rest()
}

func (s *session) copy(b []byte) error {
	for s.c.Readable() {
		n, err := s.c.Read(b)
		if err != nil {
			return err
		}
		if _, err := s.c.Write(b[:n]); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) end() {
	_ = s.c.Close()
	s.c.Ended()
}

// drop is filter.Conn.Drop: a fiber that is at work sees that the connection is closed.
func (s *session) drop() {
	if s.busy {
		_ = s.c.Close()
		return
	}
	s.c.OnIdle(0, nil)
	s.end()
}
