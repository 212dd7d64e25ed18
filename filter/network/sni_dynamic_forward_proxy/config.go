package snidynamicforwardproxy

import forwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3"

type config struct {
	port        uint16
	saveAddress bool
}

func parse(p *forwardv3.FilterConfig) *config {
	return &config{port: uint16(p.GetPortValue()), saveAddress: p.GetSaveUpstreamAddress()}
}
