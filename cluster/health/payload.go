package health

import (
	"bytes"
	"encoding/hex"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// payload reads bytes that are written in hex, or as they are; nil: there are none.
func payload(p *corev3.HealthCheck_Payload) ([]byte, error) {
	switch k := p.GetPayload().(type) {
	case *corev3.HealthCheck_Payload_Text:
		b, err := hex.DecodeString(k.Text)
		if err != nil || len(b) == 0 {
			return nil, fmt.Errorf("text: invalid hex string '%s'", k.Text)
		}
		return b, nil
	case *corev3.HealthCheck_Payload_Binary:
		return k.Binary, nil
	}
	return nil, nil
}

func payloads(l []*corev3.HealthCheck_Payload) (all [][]byte, err error) {
	for i, p := range l {
		b, err := payload(p)
		if err != nil {
			return nil, fmt.Errorf("receive[%d].%w", i, err)
		}
		all = append(all, b)
	}
	return all, nil
}

// contains says whether b has all of the parts, in their order, with whatever between them.
func contains(b []byte, parts [][]byte) bool {
	for _, p := range parts {
		i := bytes.Index(b, p)
		if i < 0 {
			return false
		}
		b = b[i+len(p):]
	}
	return true
}
