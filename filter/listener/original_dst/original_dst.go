// Package originaldst is envoy.filters.listener.original_dst
// (type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst): it finds where a connection was going before
// iptables redirected it here, and makes that its local address.
//
// A connection that came by TPROXY has that address already. One that was not redirected keeps its own.
package originaldst

import (
	"net/netip"

	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/sockopt"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// inspector has no configuration and no state.
type inspector struct{}

// New builds it.
func New(*originaldstv3.OriginalDst, filter.Env) (filter.ListenerFilter, error) {
	return inspector{}, nil
}

// OnAccept asks the kernel; it never waits.
func (inspector) OnAccept(a *filter.Accepted) filter.Status {
	if !a.Info.DirectRemote.IsValid() {
		return filter.Continue // a unix socket has no such thing
	}
	v6 := a.Info.DirectRemote.Addr().Unmap().Is6()
	var to netip.AddrPort
	err := a.Control(func(fd int) error {
		if ip, port, ok := sockopt.OriginalDst(fd, v6); ok {
			to = netip.AddrPortFrom(netip.AddrFrom16(ip).Unmap(), port)
		} else if sockopt.IsTransparent(fd, v6) {
			to = a.Info.DirectLocal.AddrPort
		}
		return nil
	})
	if err == nil && to.IsValid() {
		a.Info.Local, a.Info.LocalRestored = stream.Address{AddrPort: to}, true
	}
	return filter.Continue
}
