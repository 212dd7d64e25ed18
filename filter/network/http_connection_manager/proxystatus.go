package hcm

import (
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// proxyStatus is proxy_status_config: responses that a failure has led to say so in a proxy-status field (RFC 9209).
type proxyStatus struct {
	name        string
	details     bool
	termination bool // in the details: why the connection was ended
	flags       bool // in the details
	recommended bool // the status of the response is the RFC's
}

// newProxyStatus reads p; nil if it is not there.
func newProxyStatus(p *hcmv3.HttpConnectionManager_ProxyStatusConfig, server, node string) *proxyStatus {
	if p == nil {
		return nil
	}
	s := &proxyStatus{
		name: server, details: !p.GetRemoveDetails(), termination: !p.GetRemoveConnectionTerminationDetails(),
		flags: !p.GetRemoveResponseFlags(), recommended: p.GetSetRecommendedResponseCode(),
	}
	if p.GetUseNodeId() {
		s.name = node
	}
	if n := p.GetLiteralProxyName(); n != "" {
		s.name = n
	}
	return s
}

// proxyError is an error type of RFC 9209, section 2.3, with the status that it recommends; 0: none.
type proxyError struct {
	flags  stream.Flags
	name   string
	status int
}

// proxyErrors say which flag means what; the first that a stream has counts.
var proxyErrors = [...]proxyError{
	{stream.FailedLocalHealthCheck | stream.NoHealthyUpstream, "destination_unavailable", 503},
	{stream.UpstreamRequestTimeout, "http_response_timeout", 504},
	{stream.LocalReset, "connection_timeout", 504},
	{stream.UpstreamRemoteReset, "connection_terminated", 502},
	{stream.UpstreamConnectionFailure, "connection_refused", 502},
	{stream.UpstreamConnectionTermination, "connection_terminated", 502},
	{stream.UpstreamOverflow, "connection_limit_reached", 503},
	{stream.NoRouteFound, "destination_not_found", 500},
	{stream.RateLimited | stream.RateLimitServiceError, "connection_limit_reached", 503},
	{stream.UpstreamRetryLimitExceeded, "destination_unavailable", 503},
	{stream.StreamIdleTimeout, "http_response_timeout", 504},
	{stream.InvalidEnvoyRequestHeaders | stream.DownstreamProtocolError, "http_request_error", 0},
	{stream.UpstreamMaxStreamDurationReached, "http_response_timeout", 504},
	{stream.NoFilterConfigFound, "proxy_configuration_error", 500},
	{stream.UpstreamProtocolError, "http_protocol_error", 502},
	{stream.NoClusterFound, "destination_unavailable", 503},
	{stream.DNSResolutionFailed, "dns_error", 502},
}

// errorOf finds what has gone wrong in a stream; nil: nothing that has a name.
func errorOf(i *stream.Info) *proxyError {
	for n := range proxyErrors {
		e := &proxyErrors[n]
		if i.Flags&e.flags == 0 {
			continue
		}
		if e.flags == stream.UpstreamRequestTimeout && i.Upstream.Connected == 0 {
			return &proxyError{e.flags, "connection_timeout", 504} // it did not come to a request
		}
		return e
	}
	return nil
}

// proxyStatus adds the field.
func (x *exchange) proxyStatus() {
	p := x.cfg.response.status
	if p == nil || x.refused {
		return
	}
	e := errorOf(&x.Info)
	if e == nil {
		return
	}
	x.Response.Header.Append("proxy-status", x.Append(func(b []byte, s *stream.Stream) []byte { return p.append(b, e, &s.Info) }))
	if p.recommended && e.status != 0 {
		x.Response.Status = e.status
	}
}

func (p *proxyStatus) append(b []byte, e *proxyError, i *stream.Info) []byte {
	b = append(b, p.name...)
	b = append(append(b, "; error="...), e.name...)
	if !p.details || i.Details == "" {
		return b
	}
	b = append(append(b, `; details="`...), i.Details...)
	if p.termination && i.ConnectionTermination != "" {
		b = append(append(b, "; "...), i.ConnectionTermination...)
	}
	if p.flags {
		b = i.AppendFlags(append(b, "; "...), stream.Flags.String)
	}
	return append(b, '"')
}
