// Package tls is the downstream side of envoy.transport_sockets.tls
// (type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext): clients speak TLS. README.md has the differences
// from Envoy, fields.golden what becomes of each field, internal/transport the work.
package tls

import (
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/transport"
)

type socket struct{ server *transport.Server }

// New builds it.
func New(p *tlsv3.DownstreamTlsContext, env filter.Env) (filter.DownstreamTransport, error) {
	s, err := transport.NewServer(p, transport.Env{Scope: env.Listener.Scope, Secrets: env.Secrets, Files: env.Files, Warm: env.Listener.Warm})
	if err != nil {
		return nil, err
	}
	return &socket{s}, nil
}

// Accept shakes hands.
func (s *socket) Accept(a *filter.Accepted) (fiber.Conn, error) {
	c, info, err := s.server.Accept(a.Worker, a.Conn)
	if info != nil {
		a.Info.TLS = info
		if n := info.ServerName(); n != "" {
			a.Info.ServerName = n
		}
	}
	if err != nil {
		a.Info.TransportFailure = err.Error()
		return nil, err
	}
	a.Info.Handshake = a.Worker.Now()
	return c, nil
}

// Close ends what follows secrets.
func (s *socket) Close() { s.server.Close() }
