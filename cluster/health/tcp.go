package health

import (
	"fmt"
	"io"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// tcpConfig is a TcpHealthCheck: a connection, and perhaps bytes that go and bytes that come.
type tcpConfig struct {
	send    []byte
	receive [][]byte
	proxy   bool // a PROXY header goes first
	v1      bool // of version 1
}

func parseTCP(p *corev3.HealthCheck_TcpHealthCheck) (*tcpConfig, error) {
	send, err := payload(p.GetSend())
	if err != nil {
		return nil, fmt.Errorf("send.%w", err)
	}
	receive, err := payloads(p.GetReceive())
	if err != nil {
		return nil, err
	}
	c := &tcpConfig{send: send, receive: receive}
	if o := p.GetProxyProtocolConfig(); o != nil {
		c.proxy, c.v1 = true, o.GetVersion() == corev3.ProxyProtocolConfig_V1
	}
	return c, nil
}

type tcpProbe struct {
	// set at construction
	*tcpConfig

	reuse bool
	// owned by the worker
	net fiber.Conn
	got []byte
}

func (p *tcpProbe) close() {
	if p.net != nil {
		p.net.Abort()
		p.net = nil
	}
}

func (p *tcpProbe) ask(s *Session, to pool.Target) verdict {
	err := p.exchange(s, to)
	if err != nil || !p.reuse || len(p.receive) == 0 {
		p.close()
	}
	if err != nil {
		return network(err)
	}
	if p.net != nil {
		p.net.OnIdle(0, func(bool) { // the host has ended it: that is a failure, too
			p.close()
			s.idleFailure()
		})
	}
	return verdict{}
}

func (p *tcpProbe) exchange(s *Session, to pool.Target) (err error) {
	out := p.send
	if p.net != nil {
		p.net.OnIdle(0, nil)
	} else {
		if p.net, err = s.c.env.Dial(s.worker, to, &pool.Info{Transport: pool.Transport{ALPN: s.c.config.alpn}}); err != nil {
			return err
		}
		if p.proxy {
			out = append(p.header(), out...)
		}
	}
	if len(out) > 0 {
		if _, err := p.net.Write(out); err != nil {
			return err
		}
	}
	for p.got = p.got[:0]; !contains(p.got, p.receive); {
		if err := p.more(); err != nil {
			return err
		}
	}
	return nil
}

// mostReceived bounds what is kept of an answer that does not match.
const mostReceived = 1 << 20

func (p *tcpProbe) more() error {
	var b [4 << 10]byte
	n, err := p.net.Read(b[:])
	p.got = append(p.got, b[:n]...)
	if len(p.got) > mostReceived {
		return io.ErrShortBuffer
	}
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// header is a PROXY header: of version 1 with the addresses of the connection, of version 2 with the command LOCAL.
func (p *tcpProbe) header() []byte {
	if !p.v1 {
		return []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
	}
	from, to := p.net.Local(), p.net.Remote()
	if !from.IsValid() || !to.IsValid() {
		return []byte("PROXY UNKNOWN\r\n")
	}
	family := "TCP6"
	if from.Addr().Unmap().Is4() {
		family = "TCP4"
	}
	return fmt.Appendf(nil, "PROXY %s %s %s %d %d\r\n", family, from.Addr().Unmap(), to.Addr().Unmap(), from.Port(), to.Port())
}
