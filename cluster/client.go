package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"

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
	network, address := "tcp", h.Address.AddrPort.String()
	if h.Address.Path != "" {
		network, address = "unix", h.Address.Path
	}
	socket := c.sockets.choose(h.Metadata, nil)
	plain, ok := socket.(PlainSocket)
	if _, raw := socket.(rawBuffer); !ok && !raw {
		return nil, fmt.Errorf("cluster '%s': the transport socket does not serve clients of the proxy's own", c.Name)
	}
	limit := c.config.connectTimeout
	return func(ctx context.Context) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		c.Stats.CxTotal.Inc()
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil && ok {
			conn, err = shake(ctx, plain, conn, h.Hostname)
		}
		if err != nil {
			c.Stats.CxConnectFail.Inc()
			h.Stats.CxConnectFail.Add(1)
			return nil, err
		}
		c.Stats.CxActive.Inc()
		return &clientConn{Conn: conn, c: c}, nil
	}, nil
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
