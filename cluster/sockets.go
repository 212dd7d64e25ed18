package cluster

import (
	"fmt"
	"reflect"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// sockets are the transport sockets of a cluster: the usual one, and those for hosts whose metadata say so (transport_socket_matches).
type sockets struct {
	usual   TransportSocket
	matches []socketMatch
}

type socketMatch struct {
	want   map[string]any
	socket TransportSocket
	count  *stats.Counter
}

// matchNamespace is where the metadata of a host say which transport socket is for it.
const matchNamespace = "envoy.transport_socket_match"

func (m *Manager) sockets(of *Cluster) (s *sockets, err error) {
	s = &sockets{}
	if s.usual, err = m.transport(of, of.Proto.GetTransportSocket()); err != nil {
		return nil, fmt.Errorf("transport_socket: %w", err)
	}
	for i, c := range of.Proto.GetTransportSocketMatches() {
		given := c.GetTransportSocket()
		if given == nil {
			given = &corev3.TransportSocket{} // which is not found
		}
		built, err := m.transport(of, given)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("transport_socket_matches[%d].transport_socket: %w", i, err)
		}
		s.matches = append(s.matches, socketMatch{c.GetMatch().AsMap(), built, of.Codes.Sub(c.GetName()).Counter("total_match_count")})
	}
	return s, nil
}

// forHost is the socket for a host, and changed as its metadata say.
func (s *sockets) forHost(e *discovery.Endpoint, g *discovery.Group) TransportSocket {
	t := s.choose(e.Metadata, g.Metadata)
	if h, ok := t.(HostSocket); ok && len(e.Typed) > 0 {
		return h.ForHost(e.Typed)
	}
	return t
}

// choose finds the socket for a host: by its own metadata, then by those of its locality.
func (s *sockets) choose(host, locality stream.Metadata) TransportSocket {
	for _, m := range []stream.Metadata{host, locality} {
		have := m[matchNamespace]
		if have == nil {
			continue
		}
		for i := range s.matches {
			if s.matches[i].meets(have) {
				s.matches[i].count.Inc()
				return s.matches[i].socket
			}
		}
	}
	for i := range s.matches {
		if len(s.matches[i].want) == 0 {
			s.matches[i].count.Inc()
			return s.matches[i].socket
		}
	}
	return s.usual
}

func (m *socketMatch) meets(have map[string]any) bool {
	for k, v := range m.want {
		if !reflect.DeepEqual(have[k], v) {
			return false
		}
	}
	return true
}

// header is what the sockets tell hosts of the downstream connection; nil: nothing.
func (s *sockets) header() func(pool.Transport, *stream.Conn) pool.Transport {
	var all []HeaderSocket
	for _, t := range s.all() {
		if h, ok := t.(HeaderSocket); ok {
			all = append(all, h)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return func(t pool.Transport, c *stream.Conn) pool.Transport {
		for _, h := range all {
			t = h.Header(t, c)
		}
		return t
	}
}

// negotiates says whether each of them agrees with its host on a protocol (ALPN).
func (s *sockets) negotiates() bool {
	for _, t := range s.all() {
		if n, ok := t.(interface{ Negotiates() bool }); !ok || !n.Negotiates() {
			return false
		}
	}
	return true
}

func (s *sockets) all() []TransportSocket {
	l := []TransportSocket{s.usual}
	for i := range s.matches {
		l = append(l, s.matches[i].socket)
	}
	return l
}

func (s *sockets) close() {
	for _, t := range s.all() {
		if c, ok := t.(interface{ Close() }); ok {
			c.Close()
		}
	}
}
