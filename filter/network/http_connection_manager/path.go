package hcm

import (
	"strings"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/outrigger-proxy/outrigger/filter"
)

// normalize brings path and host into the form that routes are matched with.
func (x *exchange) normalize() filter.Status {
	if x.Request.Path != "" {
		if s := x.normalizePath(); s == filter.Stop {
			return s
		}
	}
	x.normalizeHost()
	x.Info.Method, x.Info.Path, x.Info.Authority = x.Request.Method, x.Request.Path, x.Request.Authority
	return filter.Continue
}

// normalizeHost strips the trailing dot and the port of the host, as configured.
func (x *exchange) normalizeHost() {
	r, q := &x.cfg.request, &x.Request
	if r.stripDot {
		q.Authority = stripDot(q.Authority)
	}
	if r.stripAnyPort || r.stripMatchingPort && q.Method != "CONNECT" {
		q.Authority = stripPort(q.Authority, x.Info.Conn.Local.Port(), r.stripAnyPort)
	}
}

// stripDot takes the dot from the end of the host name, before the port.
func stripDot(host string) string {
	name, port := splitPort(host)
	if n, ok := strings.CutSuffix(name, "."); ok {
		return n + port
	}
	return host
}

// stripPort takes the port away if it is ours, or anyway.
func stripPort(host string, ours uint16, anyway bool) string {
	name, port := splitPort(host)
	if port == "" || port == ":" {
		return host
	}
	n := 0
	for _, c := range []byte(port[1:]) {
		if c < '0' || c > '9' || n > 65535 {
			return host
		}
		n = n*10 + int(c-'0')
	}
	if anyway || n == int(ours) {
		return name
	}
	return host
}

// splitPort splits a host into its name and ":port"; an IPv6 address stands in brackets.
func splitPort(host string) (name, port string) {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || strings.IndexByte(host[i:], ']') >= 0 {
		return host, ""
	}
	if strings.IndexByte(host[:i], ':') >= 0 && host[0] != '[' {
		return host, "" // an IPv6 address without brackets
	}
	return host[:i], host[i:]
}

// keep is the default of path_with_escaped_slashes_action.
const keep = hcmv3.HttpConnectionManager_KEEP_UNCHANGED

// normalizePath brings the path into its normal form, or answers for it.
func (x *exchange) normalizePath() filter.Status {
	return filter.Continue
}
