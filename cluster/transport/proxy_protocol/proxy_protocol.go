// Package proxyprotocol is envoy.transport_sockets.upstream_proxy_protocol
// (type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport): it tells a host who the
// client is, in a PROXY protocol header before everything else, and leaves the rest to another transport socket.
package proxyprotocol

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ppv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	"google.golang.org/protobuf/types/known/anypb"

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

// hostKey is where a host's typed_filter_metadata have TLVs of its own.
const hostKey = "envoy.transport_sockets.proxy_protocol"

// hosted is the socket for a host with TLVs of its own.
type hosted struct {
	*socket

	tlvs string // as they are written
}

// ForHost adds the TLVs of a host. Version 1 has none, and metadata of another type are passed over, as in Envoy.
func (s *socket) ForHost(typed map[string]*anypb.Any) cluster.TransportSocket {
	p := &corev3.PerHostConfig{}
	if a := typed[hostKey]; s.version != 2 || a == nil || a.UnmarshalTo(p) != nil {
		return s
	}
	var tlvs []byte
	for _, t := range p.GetAddedTlvs() {
		tlvs = appendTLV(tlvs, stream.TLV{Type: byte(t.GetType()), Value: t.GetValue()})
	}
	return hosted{s, string(tlvs)}
}

// Client sends the header.
func (h hosted) Client(w *fiber.Worker, c fiber.Conn, i *pool.Info) (fiber.Conn, error) {
	return h.client(w, c, i, h.tlvs)
}

// Client sends the header.
func (s *socket) Client(w *fiber.Worker, c fiber.Conn, i *pool.Info) (fiber.Conn, error) {
	return s.client(w, c, i, "")
}

func (s *socket) client(w *fiber.Worker, c fiber.Conn, i *pool.Info, own string) (fiber.Conn, error) {
	if _, err := c.Write(s.header(i, own)); err != nil {
		return nil, err
	}
	return s.inner.Client(w, c, i)
}

// header is for the client that the connection is made for; without one it speaks for the proxy itself. own are the TLVs of the host.
func (s *socket) header(i *pool.Info, own string) []byte {
	t := &i.Transport
	switch {
	case s.version == 2 && !t.Source.IsValid():
		return local2()
	case s.version == 2:
		return header2(t.Source.AddrPort, t.Destination.AddrPort, overlay(own, t.TLVs))
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
