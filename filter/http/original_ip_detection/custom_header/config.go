package customheader

import (
	"strings"

	customv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/custom_header/v3"
)

type settings struct {
	header  string // lower case
	trusted bool
	reject  int // status of the refusal of requests without the header; 0: they go on
}

// parse reads p. It is pure. A status of a refusal that is no error becomes 403, as in Envoy.
func parse(p *customv3.CustomHeaderConfig) settings {
	s := settings{header: strings.ToLower(p.GetHeaderName()), trusted: p.GetAllowExtensionToSetAddressAsTrusted()}
	if r := p.GetRejectWithStatus(); r != nil {
		if s.reject = int(r.GetCode()); s.reject < 400 {
			s.reject = 403
		}
	}
	return s
}
