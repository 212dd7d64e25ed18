package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"

	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

// PlainSocket is a TransportSocket that serves connections of the standard library too: those of the proxy's own clients.
type PlainSocket interface {
	// ClientConn shakes hands as the client, on an ordinary goroutine.
	ClientConn(ctx context.Context, c net.Conn, hostname string) (net.Conn, error)
}

// Dialer chooses a host for a client of the proxy's own, such as that of the control plane, and returns how to connect to it from an
// ordinary goroutine. Control loop only.
func (c *Cluster) Dialer() (func(context.Context) (net.Conn, error), error) {
	h := c.anyHost(lb.Request{Random: rand.Uint64()})
	if h == nil {
		c.Stats.CxNoneHealthy.Inc()
		return nil, fmt.Errorf("no healthy upstream in cluster '%s'", c.Name)
	}
	socket := c.sockets.choose(h.Metadata, nil)
	if _, ok := socket.(PlainSocket); !ok && socket != (rawBuffer{}) {
		return nil, fmt.Errorf("cluster '%s': %w", c.Name, errNotPlain)
	}
	limit := c.config.connectTimeout
	return func(ctx context.Context) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		c.Stats.CxTotal.Inc()
		conn, err := dialPlain(ctx, h.Address, socket, h.Hostname)
		if err != nil {
			c.Stats.CxConnectFail.Inc()
			h.Stats.CxConnectFail.Add(1)
			return nil, err
		}
		c.Stats.CxActive.Inc()
		return &clientConn{Conn: conn, c: c}, nil
	}, nil
}

var errNotPlain = errors.New("the transport socket does not serve clients of the proxy's own")

// dialPlain connects to an address on an ordinary goroutine; the socket is a PlainSocket, or bytes as they are.
func dialPlain(ctx context.Context, to stream.Address, socket any, hostname string) (net.Conn, error) {
	network, address := "tcp", to.AddrPort.String()
	if to.Path != "" {
		network, address = "unix", to.Path
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if s, ok := socket.(PlainSocket); ok && err == nil {
		return shake(ctx, s, conn, hostname)
	}
	return conn, err
}

func shake(ctx context.Context, s PlainSocket, c net.Conn, hostname string) (net.Conn, error) {
	secure, err := s.ClientConn(ctx, c, hostname)
	if err != nil {
		_ = c.Close()
	}
	return secure, err
}

// anyHost is a host of the first priority that has one which may be used.
func (c *Cluster) anyHost(r lb.Request) *Host {
	for _, p := range c.hosts.Load().priorities {
		for _, set := range p.sets {
			if n := uint64(len(set)); n > 0 {
				return set[r.Random%n]
			}
		}
	}
	return nil
}

// clientConn is a connection that the cluster counts.
type clientConn struct {
	net.Conn

	c    *Cluster
	once sync.Once
}

// Close closes it, once.
func (c *clientConn) Close() error {
	c.once.Do(func() {
		c.c.Stats.CxActive.Dec()
		c.c.Stats.CxDestroy.Inc()
	})
	return c.Conn.Close()
}
