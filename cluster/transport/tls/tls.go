// Package tls is the upstream side of envoy.transport_sockets.tls
// (type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext): hosts are spoken to in TLS. README.md has the
// differences from Envoy, fields.golden what becomes of each field, internal/transport the work.
package tls

import (
	"context"
	"net"
	"strings"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/transport"
)

type socket struct{ client *transport.Client }

// New builds it.
func New(p *tlsv3.UpstreamTlsContext, env cluster.TransportEnv) (cluster.TransportSocket, error) {
	c, err := transport.NewClient(p, transport.Env{Scope: env.Scope, Secrets: env.Secrets, Files: env.Files, Warm: env.Warm})
	if err != nil {
		return nil, err
	}
	return &socket{c}, nil
}

// Client shakes hands.
func (s *socket) Client(w *fiber.Worker, c fiber.Conn, i *pool.Info) (fiber.Conn, error) {
	wish := transport.Wish{Host: i.Hostname, SNI: i.Transport.SNI, FallbackALPN: i.Protocols}
	if i.Transport.SAN != "" {
		wish.SANs = []string{i.Transport.SAN}
	}
	if i.Transport.ALPN != "" {
		wish.ALPN = strings.Split(i.Transport.ALPN, ",")
	}
	i.ServerName = s.client.ServerName(&wish)
	secure, info, err := s.client.Connect(w, c, &wish)
	if info != nil {
		i.TLS = info
	}
	if err != nil {
		return nil, err
	}
	i.Handshake = w.Now()
	return secure, nil
}

// ClientConn shakes hands on an ordinary goroutine; it offers HTTP/2 unless the configuration says otherwise.
func (s *socket) ClientConn(ctx context.Context, c net.Conn, hostname string) (net.Conn, error) {
	return s.client.Dial(ctx, c, &transport.Wish{Host: hostname, FallbackALPN: []string{"h2"}})
}

// Negotiates says that a protocol is agreed on (ALPN).
func (s *socket) Negotiates() bool { return true }

// Close ends what follows secrets.
func (s *socket) Close() { s.client.Close() }
