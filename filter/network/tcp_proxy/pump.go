package tcpproxy

import (
	"errors"
	"io"

	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/internal/tunnel"
)

// Moved is tunnel.Owner: it counts, and ends a session whose listener drains.
func (s *session) Moved(more bool) {
	s.settle()
	if more && s.p.draining && s.p.drain.Closing() {
		s.p.stats.DrainClose.Inc()
		s.end("")
	}
}

// Over is tunnel.Owner: the end of one side is passed on, and the session ends with the second; a reset ends it at once.
func (s *session) Over(h *tunnel.Half, err error) {
	if err != io.EOF {
		s.broken(h, err)
		return
	}
	if h == &s.pair.Up {
		s.upEnded = true
	} else {
		s.downEnded = true
		s.byHost = s.upEnded // whoever ends second ends the connection
	}
	if s.upEnded && s.downEnded {
		s.end("")
		return
	}
	if err := h.To.CloseWrite(); err != nil {
		s.broken(h, &tunnel.WriteError{Err: err})
	}
}

// Idle is tunnel.Owner.
func (s *session) Idle() {
	s.p.stats.IdleTimeout.Inc()
	s.end("tcp_session_idle_timeout")
}

// broken ends the session when one side was reset: the other one is reset too.
func (s *session) broken(h *tunnel.Half, err error) {
	fromDown := h == &s.pair.Up
	if _, ok := errors.AsType[*tunnel.WriteError](err); ok {
		fromDown = !fromDown
	}
	if fromDown {
		s.c.Info.CloseType = remoteReset
		s.end("")
		return
	}
	s.byHost = true
	s.flag(stream.UpstreamRemoteReset)
	s.c.Info.CloseType = localReset
	if s.c.Stream != nil {
		s.c.Stream.Info.Upstream.CloseType = remoteReset
	}
	s.end("")
}
