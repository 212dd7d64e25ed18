// Package xff is envoy.http.original_ip_detection.xff (type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig):
// it takes the address of the client from x-forwarded-for, behind a number of trusted hops or behind trusted networks.
package xff

import (
	"net/netip"
	"strings"

	xffv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/xff/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Detection is the extension.
type Detection struct{ settings }

// New builds it.
func New(p *xffv3.XffConfig, _ filter.Env) (filter.IPDetection, error) {
	s, err := parse(p)
	return &Detection{s}, err
}

// Detect finds the address.
func (d *Detection) Detect(q *stream.Request, remote netip.AddrPort) filter.Detected {
	f := filter.Detected{SkipXFFAppend: d.skipAppend}
	list, ok := q.Header.Find(header.ForwardedFor)
	switch {
	case !ok:
	case d.networks == nil:
		f.Address, f.Trusted = behindHops(list, d.hops)
	case d.trusts(remote.Addr()):
		f.Address, f.Trusted = d.behindNetworks(list)
	}
	return f
}

func (d *Detection) trusts(a netip.Addr) bool {
	a = a.Unmap()
	for _, n := range d.networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// behindHops skips the addresses that trusted hops have appended; only says that there is a single address.
func behindHops(list string, hops int) (a netip.Addr, only bool) {
	rest, last := list, ""
	for i := 0; i <= hops; i++ {
		if rest == "" {
			return netip.Addr{}, false
		}
		rest, last = cut(rest)
	}
	a, err := netip.ParseAddr(last)
	return a, err == nil && rest == "" && hops == 0
}

// behindNetworks finds the last address that is not trusted, or the first one if all are.
func (d *Detection) behindNetworks(list string) (a netip.Addr, only bool) {
	for n := 0; list != ""; n++ {
		var last string
		list, last = cut(list)
		next, err := netip.ParseAddr(last)
		if err != nil {
			return netip.Addr{}, false
		}
		if a = next; !d.trusts(a) {
			return a, n == 0 && list == ""
		}
	}
	return a, false
}

// cut takes the last item off a comma separated list.
func cut(list string) (rest, last string) {
	i := strings.LastIndexByte(list, ',')
	if i < 0 {
		return "", strings.TrimSpace(list)
	}
	return list[:i], strings.TrimSpace(list[i+1:])
}
