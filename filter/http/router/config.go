package router

import (
	"errors"
	"fmt"

	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
)

// settings is what the message says, with Envoy's defaults filled in.
type settings struct {
	dynamicStats    bool
	logStart        bool     // upstream_log_options.flush_upstream_log_on_upstream_stream
	suppress        bool     // suppress_envoy_headers
	strict          []string // strict_check_headers, in lower case
	respectExpected bool
	quietGRPC       bool // suppress_grpc_request_failure_code_stats
}

// parse reads p. It is pure.
func parse(p *routerv3.Router) (settings, error) {
	s := settings{
		dynamicStats: true, suppress: p.GetSuppressEnvoyHeaders(), strict: p.GetStrictCheckHeaders(),
		respectExpected: p.GetRespectExpectedRqTimeout(), quietGRPC: p.GetSuppressGrpcRequestFailureCodeStats(),
	}
	if p.GetDynamicStats() != nil {
		s.dynamicStats = p.GetDynamicStats().GetValue()
	}
	if len(p.GetUpstreamHttpFilters()) > 0 {
		return s, errors.New("upstream_http_filters: upstream HTTP filters are not supported")
	}
	if p.GetUpstreamLogOptions().GetUpstreamLogFlushInterval() != nil {
		return s, errors.New("upstream_log_options.upstream_log_flush_interval: is not supported")
	}
	s.logStart = p.GetUpstreamLogOptions().GetFlushUpstreamLogOnUpstreamStream()
	return s, nil
}

func upstreamLogError(err error) error { return fmt.Errorf("upstream_log%w", err) }
