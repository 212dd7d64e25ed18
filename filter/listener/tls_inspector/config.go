package tlsinspector

import (
	"fmt"

	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
)

type config struct {
	limit    int  // bytes of a ClientHello
	strict   bool // close_connection_on_client_hello_parsing_errors
	ja3, ja4 bool
}

// maxHello is the largest ClientHello that Envoy reads.
const maxHello = 16 << 10

func parse(p *tlsinspectorv3.TlsInspector) (*config, error) {
	c := &config{
		limit: maxHello, strict: p.GetCloseConnectionOnClientHelloParsingErrors(),
		ja3: p.GetEnableJa3Fingerprinting().GetValue(), ja4: p.GetEnableJa4Fingerprinting().GetValue(),
	}
	if v := p.GetMaxClientHelloSize(); v != nil {
		if v.GetValue() > maxHello || v.GetValue() == 0 {
			return nil, fmt.Errorf("max_client_hello_size: %d is not within 1 and %d", v.GetValue(), maxHello)
		}
		c.limit = int(v.GetValue())
	}
	return c, nil
}
