package health

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
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
	*tcpConfig
	wire
}

func (p *tcpProbe) ask(s *Session, to pool.Target) verdict {
	err := p.exchange(s, to)
	p.rest(s, err == nil && len(p.receive) > 0)
	if err != nil {
		return network(err)
	}
	return verdict{}
}

func (p *tcpProbe) exchange(s *Session, to pool.Target) error {
	fresh, err := p.connect(s, to)
	if err != nil {
		return err
	}
	out := p.send
	if p.proxy && fresh {
		out = append(p.header(), out...)
	}
	if len(out) > 0 {
		if _, err := p.net.Write(out); err != nil {
			return err
		}
	}
	for !contains(p.got, p.receive) {
		if err := p.more(); err != nil {
			return err
		}
	}
	return nil
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
