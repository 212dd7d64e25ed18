package hcm

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// seen is what one pass over the fields of a request has found.
type seen struct {
	forwardedFor   string
	forwardedProto string
	requestID      string
	userAgent      string
	referer        string
	expect         string
	referers       int
	hasFor         bool
	hasProto       bool
	hasPort        bool
	hasID          bool
	hasAgent       bool
	envoy          bool // there are x-envoy- fields
	certificate    bool // there is x-forwarded-client-cert
	forceTrace     bool
	via            bool
	client         bool // x-forwarded-for says who the client is, at the edge
}

// sweep goes over the fields once: it takes out what ends at this hop and notes what preparation asks for.
func (x *exchange) sweep(keepUpgrade bool) {
	x.seen = seen{}
	x.Request.Header.RemoveFunc(func(f *header.Field) bool { return !x.note(f, keepUpgrade) })
}

// note looks at one field and says whether it stays.
func (x *exchange) note(f *header.Field, keepUpgrade bool) bool {
	n := &x.seen
	switch f.Name {
	case "connection", "upgrade":
		return keepUpgrade
	case "keep-alive", "proxy-connection", "transfer-encoding", "x-envoy-internal":
		return false
	case "te":
		ok := wantsTrailers(f.Value)
		f.Value = "trailers"
		return ok
	case "x-forwarded-for":
		n.forwardedFor, n.hasFor = f.Value, true
	case "x-forwarded-proto":
		n.forwardedProto, n.hasProto = f.Value, true
	case "x-forwarded-port":
		n.hasPort = true
	case "x-request-id":
		n.requestID, n.hasID = f.Value, true
	case "user-agent":
		n.userAgent, n.hasAgent = f.Value, true
	case "referer":
		n.referer, n.referers = f.Value, n.referers+1
	case "expect":
		n.expect = f.Value
	case "x-forwarded-client-cert":
		n.certificate = true
	case "via":
		n.via = true
	default:
		n.envoy = n.envoy || strings.HasPrefix(f.Name, "x-envoy-")
		n.forceTrace = n.forceTrace || f.Name == "x-envoy-force-trace"
	}
	return true
}

// wantsTrailers says whether "trailers" is one of a comma separated list (TE).
func wantsTrailers(list string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(item) == "trailers" {
			return true
		}
	}
	return false
}

// prepare makes the request what filters and upstreams may see. It returns Stop when it has answered by itself.
func (x *exchange) prepare() filter.Status {
	if x.sane() == filter.Stop || x.normalize() == filter.Stop {
		return filter.Stop
	}
	for _, m := range x.cfg.mutations {
		if !m.Mutate(&x.Stream.Stream) {
			break
		}
	}
	x.sweep(x.asked != "")
	x.mendReferer()
	x.overwriteScheme()
	edge, status := x.forward()
	if status == filter.Stop {
		return filter.Stop
	}
	x.identify(edge)
	x.requestID(edge)
	x.certificate()
	return filter.Continue
}

// sane refuses what no filter should have to look at.
func (x *exchange) sane() filter.Status {
	q := &x.Request
	if x.h2 == nil && !x.d.codec.HasHost {
		return x.LocalReply(400, "missing_host_header", "")
	}
	if q.Method == "QUERY" && !q.Header.Has("content-type") {
		return x.LocalReply(400, "query_missing_content_type", "") // RFC 9110 gives GET no body, its successor must say what it is
	}
	if q.Path != "" && q.Path[0] != '/' {
		x.m.stats.RqNonRelative.Inc()
		return x.LocalReply(404, "absolute_path_rejected", "")
	}
	if q.Path == "" && q.Method != "CONNECT" {
		return x.LocalReply(404, "missing_path_rejected", "")
	}
	return filter.Continue
}

// overwriteScheme makes the scheme what scheme_header_transformation says, for whoever looks at x-forwarded-proto too.
func (x *exchange) overwriteScheme() {
	s := x.cfg.request.scheme
	if s == "" {
		return
	}
	x.Request.Scheme = s
	x.Request.Header.Set("x-forwarded-proto", s)
	x.seen.forwardedProto, x.seen.hasProto = s, true
}

// forward finds the address of the client, appends ours to x-forwarded-for and says whether the request came in at the edge.
func (x *exchange) forward() (edge bool, status filter.Status) {
	r, info := &x.cfg.request, x.Info.Conn
	var client netip.Addr
	var trusted bool
	if r.useRemoteAddress {
		client, trusted = x.atEdge()
	} else if client, trusted, status = x.detect(); status == filter.Stop {
		return false, filter.Stop
	}
	x.setScheme()
	internal := trusted && (client.IsValid() && r.isInternal(client) || !client.IsValid() && r.internalUnix && info.Remote.Path != "")
	if client.IsValid() && (!r.useRemoteAddress || x.seen.client) {
		x.peer = *info // the connection as this stream sees it
		x.peer.Remote = stream.Address{AddrPort: netip.AddrPortFrom(client, 0)}
		x.Info.Conn = &x.peer
	}
	edge = !internal && r.useRemoteAddress
	h := &x.Request.Header
	if internal {
		h.Add("x-envoy-internal", "true")
		x.Info.Internal = true
	} else {
		x.cleanInternal(edge)
	}
	if edge {
		if a := x.Info.Conn.Remote.Addr(); a.IsValid() {
			h.Set("x-envoy-external-address", x.addressText(a))
		}
	}
	return edge, filter.Continue
}

// atEdge trusts the peer's address alone, or hops before it.
func (x *exchange) atEdge() (client netip.Addr, trusted bool) {
	r, n, info, h := &x.cfg.request, &x.seen, x.Info.Conn, &x.Request.Header
	trusted = !n.hasFor
	if r.trustedHops > 0 && n.hasFor {
		client, _ = lastForwarded(n.forwardedFor, r.trustedHops-1)
	}
	n.client = client.IsValid()
	peer, isIP := remote(info.Remote, r.mappedIPv4)
	if !n.client {
		client = info.Remote.Addr()
	}
	if !r.skipXFFAppend && isIP {
		x.appendForwarded(peer)
	}
	if r.trustedHops == 0 || !n.hasProto {
		h.Set("x-forwarded-proto", x.transportScheme())
		n.forwardedProto = x.transportScheme()
	}
	if r.appendPort && (r.trustedHops == 0 || !n.hasPort) {
		h.Set("x-forwarded-port", x.number(int(info.Local.Port())))
	}
	return client, trusted
}

// appendForwarded appends a to x-forwarded-for, or this machine's address when the peer runs here too.
func (x *exchange) appendForwarded(peer netip.Addr) {
	a := x.cfg.local
	if !peer.Unmap().IsLoopback() {
		a = x.addressText(peer)
	}
	if x.seen.forwardedFor != "" {
		a = x.Text(x.seen.forwardedFor, ",", a)
	}
	x.Request.Header.Set("x-forwarded-for", a)
}

// detect believes what stands in the head, as the extensions read it; without them, as xff_num_trusted_hops says.
func (x *exchange) detect() (client netip.Addr, trusted bool, status filter.Status) {
	n, h := &x.seen, &x.Request.Header
	for _, d := range x.cfg.detectors {
		f := d.Detect(&x.Request, x.Info.Conn.Remote.AddrPort)
		if f.Reject != 0 {
			x.m.stats.RqRejectedIP.Inc()
			return client, false, x.LocalReply(f.Reject, "rejecting_because_detection_failed", "")
		}
		if peer, ok := remote(x.Info.Conn.Remote, false); ok && !f.SkipXFFAppend {
			x.appendForwarded(peer)
		}
		if f.Address.IsValid() {
			client, trusted = f.Address, f.Trusted
			break
		}
	}
	if len(x.cfg.detectors) == 0 && n.hasFor {
		client, trusted = lastForwarded(n.forwardedFor, x.cfg.request.trustedHops)
		trusted = trusted && x.cfg.request.trustedHops == 0
	}
	if !n.hasProto {
		h.Add("x-forwarded-proto", x.transportScheme())
		n.forwardedProto = x.transportScheme()
	}
	if x.cfg.request.appendPort && !n.hasPort {
		h.Set("x-forwarded-port", x.number(int(x.Info.Conn.Local.Port())))
	}
	return client, trusted, filter.Continue
}

// transportScheme is the scheme by which the client reached us.
func (x *exchange) transportScheme() string {
	info := x.Info.Conn
	for _, p := range x.cfg.request.httpsPorts {
		if p == uint32(info.Local.Port()) && info.Local != info.DirectLocal {
			return "https"
		}
	}
	for _, p := range x.cfg.request.httpPorts {
		if p == uint32(info.Local.Port()) && info.Local != info.DirectLocal {
			return "http"
		}
	}
	if info.TLS != nil {
		return "https"
	}
	return "http"
}

// setScheme fills in :scheme: as the request says, else as x-forwarded-proto, else as the transport.
func (x *exchange) setScheme() {
	q := &x.Request
	if q.Scheme == "" || !x.absolute {
		if p := x.seen.forwardedProto; strings.EqualFold(p, "http") || strings.EqualFold(p, "https") {
			q.Scheme = p
		} else {
			q.Scheme = x.transportScheme()
		}
	}
	if s := x.cfg.request.scheme; s != "" {
		q.Scheme = s
	}
	q.Scheme = strings.ToLower(q.Scheme)
	x.Info.Scheme = q.Scheme
}

// external are the fields that nobody but a trusted peer may set; edgeOnly, those that may pass between meshes.
func external(name string) bool {
	switch name {
	case "x-envoy-retriable-status-codes", "x-envoy-retriable-header-names", "x-envoy-retry-on", "x-envoy-retry-grpc-on", "x-envoy-max-retries",
		"x-envoy-upstream-alt-stat-name", "x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms",
		"x-envoy-upstream-rq-timeout-alt-response", "x-envoy-expected-rq-timeout-ms", "x-envoy-force-trace", "x-envoy-ip-tags",
		"x-envoy-original-url", "x-envoy-hedge-on-per-try-timeout":
		return true
	}
	return false
}

func edgeOnly(name string) bool {
	switch name {
	case "x-envoy-decorator-operation", "x-envoy-downstream-service-cluster", "x-envoy-downstream-service-node", "x-envoy-original-path",
		"x-envoy-original-host":
		return true
	}
	return false
}

// cleanInternal takes away what a request from outside may not say.
func (x *exchange) cleanInternal(edge bool) {
	h := &x.Request.Header
	for _, name := range x.Table.InternalOnlyHeaders {
		h.Del(name)
	}
	if !x.seen.envoy {
		return
	}
	x.seen.forceTrace = false
	h.RemoveFunc(func(f *header.Field) bool { return external(f.Name) || edge && edgeOnly(f.Name) })
}

// identify adds what says who has forwarded the request.
func (x *exchange) identify(bool) {
	h, c := &x.Request.Header, x.cfg
	if c.request.userAgent {
		h.Set("x-envoy-downstream-service-cluster", c.userAgent)
		if x.seen.userAgent == "" {
			h.Set("user-agent", c.userAgent)
		}
		if c.node != "" {
			h.Set("x-envoy-downstream-service-node", c.node)
		}
	}
	if c.request.via != "" {
		x.appendVia(h, c.request.via)
	}
}

// appendVia appends to via.
func (x *exchange) appendVia(h *header.Map, name string) {
	if v, ok := h.Get("via"); ok {
		name = x.Text(v, ", ", name)
	}
	h.Set("via", name)
}

// mendReferer drops a referer that is no reference to a page, or one of several.
func (x *exchange) mendReferer() {
	if n := x.seen.referers; n > 1 || n == 1 && !isReferer(x.seen.referer) {
		x.Request.Header.Del("referer")
	}
}

// addressText is an address as headers show it; it lives until the stream ends.
func (x *exchange) addressText(a netip.Addr) string {
	return x.Append(func(b []byte, _ *stream.Stream) []byte { return a.AppendTo(b) })
}

// number is n as text that lives until the stream ends.
func (x *exchange) number(n int) string {
	return x.Append(func(b []byte, _ *stream.Stream) []byte { return strconv.AppendInt(b, int64(n), 10) })
}
