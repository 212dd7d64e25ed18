package proxyprotocol

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ppv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"

	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &ppv3.ProxyProtocolUpstreamTransport{}, &corev3.ProxyProtocolConfig{}, &corev3.ProxyProtocolPassThroughTLVs{}, &corev3.TlvEntry{}, &corev3.PerHostConfig{})
}
