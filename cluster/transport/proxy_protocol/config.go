package proxyprotocol

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ppv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

type config struct {
	version int
	pass    [256]bool // TLVs of the downstream connection that go on, by type
	added   []stream.TLV
}

func parse(p *ppv3.ProxyProtocolUpstreamTransport) (*config, error) {
	c := &config{version: 1}
	if p.GetAllowUnspecifiedAddress() {
		return nil, errors.New("allow_unspecified_address: not implemented, in Envoy neither")
	}
	h := p.GetConfig()
	if h.GetVersion() == corev3.ProxyProtocolConfig_V2 {
		c.version = 2
	}
	if t := h.GetPassThroughTlvs(); t != nil {
		for i := range c.pass {
			c.pass[i] = t.GetMatchType() == corev3.ProxyProtocolPassThroughTLVs_INCLUDE_ALL
		}
		for _, k := range t.GetTlvType() {
			c.pass[byte(k)] = true
		}
	}
	for i, t := range h.GetAddedTlvs() {
		switch {
		case t.GetType() > 255:
			return nil, fmt.Errorf("config.added_tlvs[%d].type: %d is more than 255", i, t.GetType())
		case t.GetFormatString() != nil:
			return nil, fmt.Errorf("config.added_tlvs[%d].format_string: is not supported here; tcp_proxy's proxy_protocol_tlvs has it", i)
		case len(t.GetValue()) == 0:
			return nil, fmt.Errorf("config.added_tlvs[%d].value: is required", i)
		}
		c.added = append(c.added, stream.TLV{Type: byte(t.GetType()), Value: t.GetValue()})
	}
	return c, nil
}

func within(err error) error { return fmt.Errorf("transport_socket: %w", err) }
