package hcm

import (
	"net"
	"net/netip"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// localAddress is the first IPv4 address of this machine that is not loopback: what Envoy says of itself in x-forwarded-for when
// its peer is on the same machine. 127.0.0.1 if there is none.
func localAddress() string {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return "127.0.0.1"
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	return "127.0.0.1"
}

// lastForwarded returns the address in x-forwarded-for that skip trusted proxies have come after; single says that it is the only one.
func lastForwarded(value string, skip int) (a netip.Addr, single bool) {
	rest := value
	for range skip {
		i := strings.LastIndexByte(rest, ',')
		if i < 0 {
			return a, false
		}
		rest = rest[:i]
	}
	last := rest
	if i := strings.LastIndexByte(rest, ','); i >= 0 {
		last = rest[i+1:]
	}
	a, err := netip.ParseAddr(strings.TrimSpace(last))
	if err != nil {
		return netip.Addr{}, false
	}
	return a.WithZone(""), strings.IndexByte(value, ',') < 0
}

// isInternal says whether an address is one of ours.
func (r *requestSettings) isInternal(a netip.Addr) bool {
	a = a.Unmap()
	if r.internalConfigured {
		for _, p := range r.internalRanges {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	return false
}

// remote is the address of the peer as headers show it.
func remote(a stream.Address, mapped bool) (netip.Addr, bool) {
	ip := a.Addr()
	if !ip.IsValid() {
		return ip, false
	}
	if mapped && ip.Is4() {
		return netip.AddrFrom16(ip.As16()), true
	}
	return ip, true
}
