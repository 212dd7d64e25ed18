package hcm

import (
	"strings"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/urlpath"
)

// pathOptions reads normalize_path, merge_slashes and path_with_escaped_slashes_action.
func pathOptions(p *hcmv3.HttpConnectionManager) urlpath.Options {
	o := urlpath.Options{Normalize: p.GetNormalizePath().GetValue(), MergeSlashes: p.GetMergeSlashes()}
	switch p.GetPathWithEscapedSlashesAction() {
	case hcmv3.HttpConnectionManager_REJECT_REQUEST:
		o.EscapedSlashes = urlpath.Reject
	case hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT:
		o.EscapedSlashes = urlpath.UnescapeAndRedirect
	case hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD:
		o.EscapedSlashes = urlpath.UnescapeAndForward
	}
	return o
}

// normalize brings path and host into the form that routes are matched with, or answers for them.
func (x *exchange) normalize() filter.Status {
	q, st := &x.Request, x.m.stats
	outcome := urlpath.Refuse
	if strings.IndexByte(q.Path, '#') < 0 { // a fragment is the client's own
		q.Path, outcome = x.cfg.request.path.Apply(q.Path)
	}
	if outcome == urlpath.Redirect && x.GRPC() {
		outcome = urlpath.Refuse // gRPC clients follow no redirects
	}
	switch outcome {
	case urlpath.Refuse:
		st.RqBadPath.Inc()
		return x.LocalReply(400, "path_normalization_failed", "")
	case urlpath.Redirect:
		st.RqRedirectedPath.Inc()
		x.LocalReply(307, "path_normalization_failed", "")
		x.Response.Header.Add("location", q.Path)
		return filter.Stop
	}
	x.normalizeHost()
	x.Info.Method, x.Info.Path, x.Info.Authority = q.Method, q.Path, q.Authority
	return filter.Continue
}

// normalizeHost strips the trailing dot and the port of the host, as configured.
func (x *exchange) normalizeHost() {
	r, q := &x.cfg.request, &x.Request
	if r.stripDot {
		q.Authority = urlpath.StripDot(q.Authority)
	}
	full := q.Authority
	switch {
	case r.stripAnyPort:
		q.Authority = urlpath.StripPort(full, 0)
	case r.stripMatchingPort:
		q.Authority = urlpath.StripPort(full, x.Info.Conn.Local.Port())
	}
	if q.Method == "CONNECT" {
		x.Port = full[len(q.Authority):]
	}
}
