// Package proxyprotocol is envoy.transport_sockets.upstream_proxy_protocol
// (type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport): it tells a host who the
// client is, in a PROXY protocol header before everything else, and leaves the rest to another transport socket.
package proxyprotocol

import (
	ppv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

type socket struct {
	*config

	inner cluster.TransportSocket
}

// Negotiates says whether the socket inside agrees on a protocol (ALPN).
func (s *socket) Negotiates() bool {
	n, ok := s.inner.(interface{ Negotiates() bool })
	return ok && n.Negotiates()
}

// New builds it.
func New(p *ppv3.ProxyProtocolUpstreamTransport, env cluster.TransportEnv) (cluster.TransportSocket, error) {
	c, err := parse(p)
	if err != nil {
		return nil, err
	}
	inner, err := env.Inner(p.GetTransportSocket())
	if err != nil {
		return nil, within(err)
	}
	return &socket{c, inner}, nil
}

// Header notes what the header of a connection for this client says.
func (s *socket) Header(t pool.Transport, downstream *stream.Conn) pool.Transport {
	t.Source, t.Destination = downstream.Remote, downstream.Local
	var passed []stream.TLV
	if o, ok := downstream.State[stream.ProxyProtocolState].(*stream.ProxyProtocol); ok {
		t.Source, t.Destination, passed = o.Remote, o.Local, o.TLVs
	}
	if s.version == 2 {
		t.TLVs = s.extensions(passed)
	}
	return t
}

// Client sends the header.
func (s *socket) Client(w *fiber.Worker, c fiber.Conn, i *pool.Info) (fiber.Conn, error) {
	if _, err := c.Write(s.header(i)); err != nil {
		return nil, err
	}
	return s.inner.Client(w, c, i)
}

// header is for the client that the connection is made for; without one it speaks for the proxy itself.
func (s *socket) header(i *pool.Info) []byte {
	t := &i.Transport
	switch {
	case s.version == 2 && !t.Source.IsValid():
		return local2()
	case s.version == 2:
		return header2(t.Source.AddrPort, t.Destination.AddrPort, t.TLVs)
	case !t.Source.IsValid():
		return header1(i.Local.AddrPort, i.Remote.AddrPort)
	}
	return header1(t.Source.AddrPort, t.Destination.AddrPort)
}

// Close ends what the inner socket follows.
func (s *socket) Close() {
	if c, ok := s.inner.(interface{ Close() }); ok {
		c.Close()
	}
}
