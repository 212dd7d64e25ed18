package router

import (
	"net/netip"
	"strings"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// transport is what the request asks of TLS to its host: nothing, unless the cluster says that its host or another header does.
func (e *exchange) transport() (t pool.Transport) {
	if len(e.s.Conn.Info.State) > 0 {
		t.SNI, _ = e.s.Conn.Info.State[stream.ServerNameState].(string)
	}
	a := e.cluster.AutoSNI()
	if a == nil {
		return t
	}
	host := e.s.Request.Authority
	if a.Header != "" {
		if v, ok := e.s.Request.Header.Get(a.Header); ok && v != "" {
			host = v
		}
	}
	name, ip := hostOf(host)
	if a.Name && !ip {
		t.SNI = strings.Clone(name) // it outlives the head that it is a part of
	}
	if a.SAN {
		t.SAN = strings.Clone(name)
	}
	return t
}

// hostOf takes the port off an authority.
func hostOf(authority string) (name string, ip bool) {
	name = authority
	if strings.HasPrefix(name, "[") {
		name, _, _ = strings.Cut(name[1:], "]")
	} else if i := strings.LastIndexByte(name, ':'); i >= 0 && strings.IndexByte(name, ':') == i {
		name = name[:i]
	}
	_, err := netip.ParseAddr(name)
	return name, err == nil
}
