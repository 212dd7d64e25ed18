package xff

import (
	"errors"
	"fmt"
	"net/netip"

	xffv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/xff/v3"
)

type settings struct {
	hops       int
	networks   []netip.Prefix // nil: hops count
	skipAppend bool
}

// parse reads p. It is pure.
func parse(p *xffv3.XffConfig) (settings, error) {
	s := settings{hops: int(p.GetXffNumTrustedHops()), skipAppend: true}
	if p.GetSkipXffAppend() != nil {
		s.skipAppend = p.GetSkipXffAppend().GetValue()
	}
	if p.GetXffTrustedCidrs() != nil && s.hops > 0 {
		return s, errors.New("Cannot set both xff_num_trusted_hops and xff_trusted_cidrs")
	}
	for i, c := range p.GetXffTrustedCidrs().GetCidrs() {
		a, err := netip.ParseAddr(c.GetAddressPrefix())
		if err != nil {
			return s, fmt.Errorf("xff_trusted_cidrs.cidrs[%d].address_prefix: %w", i, err)
		}
		n, err := a.Prefix(min(int(c.GetPrefixLen().GetValue()), a.BitLen()))
		if err != nil {
			return s, fmt.Errorf("xff_trusted_cidrs.cidrs[%d]: %w", i, err)
		}
		s.networks = append(s.networks, n)
	}
	return s, nil
}
