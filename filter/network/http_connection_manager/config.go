package hcm

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	uuidv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/urlpath"
)

// settings is what the message says, with Envoy's defaults filled in. A duration of 0 is "none".
type settings struct {
	statPrefix string
	route      *routev3.RouteConfiguration
	rds        *hcmv3.Rds // nil: route is all
	filters    []*hcmv3.HttpFilter
	upgrades   []*hcmv3.HttpConnectionManager_UpgradeConfig
	logs       []*accesslogv3.AccessLog
	replies    *hcmv3.LocalReplyConfig
	detection  []*corev3.TypedExtensionConfig
	mutations  []*corev3.TypedExtensionConfig

	connection connectionSettings
	request    requestSettings
	response   responseSettings
	codec      codecSettings

	idle              time.Duration // of a stream
	requestTimeout    time.Duration
	headersTimeout    time.Duration
	maxStreamDuration time.Duration
	logFlush          time.Duration // interval of periodic logs
	logNewRequest     bool
	logTunnel         bool
}

// connectionSettings rule the life of a connection.
type connectionSettings struct {
	idle            time.Duration
	maxDuration     time.Duration
	durationJitter  float64 // percent
	safeMaxDuration bool    // http1_safe_max_connection_duration
	drain           time.Duration
	drainJitter     float64
	delayedClose    time.Duration
	maxRequests     uint32
	streamError     bool // override_stream_error_on_invalid_http_message: a 400 of our own keeps the connection
}

// requestSettings rule what is done to the head of a request.
type requestSettings struct {
	useRemoteAddress   bool
	trustedHops        int
	skipXFFAppend      bool
	appendPort         bool
	internalUnix       bool
	internalConfigured bool
	internalRanges     []netip.Prefix
	httpsPorts         []uint32
	httpPorts          []uint32
	userAgent          bool
	via                string
	generateID         bool
	preserveID         bool
	packTrace          bool
	mappedIPv4         bool
	path               urlpath.Options
	stripMatchingPort  bool
	stripAnyPort       bool
	stripDot           bool
	proxyContinue      bool
	scheme             string // overwrite
	matchScheme        bool
	certificate        *certificateRule
}

// responseSettings rule what is done to the head of a response.
type responseSettings struct {
	serverName  string
	server      hcmv3.HttpConnectionManager_ServerHeaderTransformation
	alwaysSetID bool
	status      *proxyStatus // nil: responses do not say why they failed
}

// codecSettings rule the codec.
type codecSettings struct {
	kind         hcmv3.HttpConnectionManager_CodecType
	http1        *corev3.Http1ProtocolOptions
	http2        *corev3.Http2ProtocolOptions
	streamErrors *wrapperspb.BoolValue
	maxKB        uint32
	maxHeaders   uint32
	underscores  corev3.HttpProtocolOptions_HeadersWithUnderscoresAction
	linger       time.Duration
}

// parse reads p. It is pure.
func parse(p *hcmv3.HttpConnectionManager) (*settings, error) {
	s := &settings{
		statPrefix: p.GetStatPrefix(), filters: p.GetHttpFilters(), upgrades: p.GetUpgradeConfigs(), logs: p.GetAccessLog(),
		replies: p.GetLocalReplyConfig(), detection: p.GetOriginalIpDetectionExtensions(), mutations: p.GetEarlyHeaderMutationExtensions(),
	}
	if err := refuse(p); err != nil {
		return nil, err
	}
	if err := route.CheckTracing(p.GetTracing()); err != nil {
		return nil, fmt.Errorf("tracing.%w", err)
	}
	s.route, s.rds = p.GetRouteConfig(), p.GetRds()
	s.timeouts(p)
	s.connection = parseConnection(p)
	s.response = parseResponse(p)
	s.codec = parseCodec(p)
	return s, s.parseRequest(p)
}

// refuse names what this proxy does not do.
func refuse(p *hcmv3.HttpConnectionManager) error {
	switch {
	case p.GetCodecType() == hcmv3.HttpConnectionManager_HTTP3:
		return errors.New("codec_type: HTTP3 is not supported")
	case p.GetRds() != nil && p.GetRds().GetRouteConfigName() == "":
		return errors.New("rds.route_config_name: is required: resource locators are not supported")
	case p.GetScopedRoutes() != nil:
		return errors.New("scoped_routes: is not supported")
	case p.GetRouteConfig() == nil && p.GetRds() == nil:
		return errors.New("route_specifier: one of rds, route_config and scoped_routes is needed")
	case p.GetTracing().GetProvider() != nil:
		return errors.New("tracing.provider: tracers are not supported")
	case p.GetTypedHeaderValidationConfig() != nil:
		return errors.New("typed_header_validation_config: header validators are not supported")
	case p.GetCommonHttpProtocolOptions().GetMaxResponseHeadersKb() != nil:
		return errors.New("common_http_protocol_options.max_response_headers_kb: cannot be set on http_connection_manager")
	case p.GetAccessLogOptions() != nil && p.GetAccessLogFlushInterval() != nil:
		return errors.New("access_log_options: only one of access_log_flush_interval or access_log_options can be specified")
	case p.GetAccessLogOptions() != nil && p.GetFlushAccessLogOnNewRequest():
		return errors.New("access_log_options: only one of flush_access_log_on_new_request or access_log_options can be specified")
	case p.GetRecordRouteResolutionStats():
		return errors.New("record_route_resolution_stats: is not supported")
	case p.GetSetCurrentClientCertDetails().GetFormat() != 0:
		return errors.New("set_current_client_cert_details.format: is not supported")
	}
	return nil
}

func (s *settings) timeouts(p *hcmv3.HttpConnectionManager) {
	s.idle = duration(p.GetStreamIdleTimeout(), 5*time.Minute)
	s.requestTimeout = duration(p.GetRequestTimeout(), 0)
	s.headersTimeout = duration(p.GetRequestHeadersTimeout(), 0)
	s.maxStreamDuration = duration(p.GetCommonHttpProtocolOptions().GetMaxStreamDuration(), 0)
	o := p.GetAccessLogOptions()
	s.logFlush = duration(o.GetAccessLogFlushInterval(), duration(p.GetAccessLogFlushInterval(), 0))
	s.logNewRequest = o.GetFlushAccessLogOnNewRequest() || p.GetFlushAccessLogOnNewRequest()
	s.logTunnel = o.GetFlushLogOnTunnelSuccessfullyEstablished()
}

func parseConnection(p *hcmv3.HttpConnectionManager) connectionSettings {
	c := p.GetCommonHttpProtocolOptions()
	return connectionSettings{
		idle:            duration(c.GetIdleTimeout(), time.Hour),
		maxDuration:     duration(c.GetMaxConnectionDuration(), 0),
		durationJitter:  percent(c.GetMaxConnectionDurationJitter()),
		safeMaxDuration: p.GetHttp1SafeMaxConnectionDuration(),
		drain:           duration(p.GetDrainTimeout(), 5*time.Second),
		drainJitter:     percent(p.GetDrainTimeoutJitter()),
		delayedClose:    duration(p.GetDelayedCloseTimeout(), time.Second),
		maxRequests:     c.GetMaxRequestsPerConnection().GetValue(),
		streamError:     boolean(p.GetHttpProtocolOptions().GetOverrideStreamErrorOnInvalidHttpMessage(), p.GetStreamErrorOnInvalidHttpMessage().GetValue()),
	}
}

func parseResponse(p *hcmv3.HttpConnectionManager) responseSettings {
	r := responseSettings{
		serverName: p.GetServerName(), server: p.GetServerHeaderTransformation(),
		alwaysSetID: p.GetAlwaysSetRequestIdInResponse(),
	}
	if r.serverName == "" {
		r.serverName = "envoy"
	}
	return r
}

func parseCodec(p *hcmv3.HttpConnectionManager) codecSettings {
	c := p.GetCommonHttpProtocolOptions()
	return codecSettings{
		http1: p.GetHttpProtocolOptions(), maxKB: number(p.GetMaxRequestHeadersKb(), 60), maxHeaders: number(c.GetMaxHeadersCount(), 100),
		underscores: c.GetHeadersWithUnderscoresAction(), kind: p.GetCodecType(), http2: p.GetHttp2ProtocolOptions(),
		streamErrors: p.GetStreamErrorOnInvalidHttpMessage(), linger: duration(p.GetDelayedCloseTimeout(), time.Second),
	}
}

func (s *settings) parseRequest(p *hcmv3.HttpConnectionManager) error {
	r := &s.request
	*r = requestSettings{
		useRemoteAddress: p.GetUseRemoteAddress().GetValue(), trustedHops: int(p.GetXffNumTrustedHops()), skipXFFAppend: p.GetSkipXffAppend(),
		appendPort: p.GetAppendXForwardedPort(), internalConfigured: p.GetInternalAddressConfig() != nil, internalUnix: p.GetInternalAddressConfig().GetUnixSockets(),
		httpsPorts: p.GetForwardProtoConfig().GetHttpsDestinationPorts(), httpPorts: p.GetForwardProtoConfig().GetHttpDestinationPorts(),
		userAgent: p.GetAddUserAgent().GetValue(), via: p.GetVia(), generateID: boolean(p.GetGenerateRequestId(), true), preserveID: p.GetPreserveExternalRequestId(),
		packTrace: true, mappedIPv4: p.GetRepresentIpv4RemoteAddressAsIpv4MappedIpv6(), path: pathOptions(p),
		stripMatchingPort: p.GetStripMatchingHostPort(),
		stripAnyPort:      p.GetStripAnyHostPort(), stripDot: p.GetStripTrailingHostDot(), proxyContinue: p.GetProxy_100Continue(),
		matchScheme: p.GetSchemeHeaderTransformation().GetMatchUpstream(), scheme: p.GetSchemeHeaderTransformation().GetSchemeToOverwrite(),
	}
	for i, c := range p.GetInternalAddressConfig().GetCidrRanges() {
		x, err := prefix(c)
		if err != nil {
			return fmt.Errorf("internal_address_config.cidr_ranges[%d]: %w", i, err)
		}
		r.internalRanges = append(r.internalRanges, x)
	}
	if r.stripMatchingPort && r.stripAnyPort {
		return errors.New("Error: Only one of `strip_matching_host_port` or `strip_any_host_port` can be set.")
	}
	if len(s.detection) > 0 && (r.useRemoteAddress || r.trustedHops > 0) {
		return errors.New("original_ip_detection_extensions: original IP detection extensions and use_remote_address or xff_num_trusted_hops may not be mixed")
	}
	return r.parseID(p.GetRequestIdExtension())
}

// parseID reads request_id_extension: the uuid extension, which is the default too.
func (r *requestSettings) parseID(e *hcmv3.RequestIDExtension) error {
	if e.GetTypedConfig() == nil {
		return nil
	}
	u := &uuidv3.UuidRequestIdConfig{}
	if !e.GetTypedConfig().MessageIs(u) {
		return fmt.Errorf("request_id_extension: didn't find a registered implementation for type URL '%s'", e.GetTypedConfig().GetTypeUrl())
	}
	if err := e.GetTypedConfig().UnmarshalTo(u); err != nil {
		return fmt.Errorf("request_id_extension: %w", err)
	}
	r.packTrace = boolean(u.GetPackTraceReason(), true)
	return nil
}

func prefix(c *corev3.CidrRange) (netip.Prefix, error) {
	a, err := netip.ParseAddr(c.GetAddressPrefix())
	if err != nil {
		return netip.Prefix{}, err
	}
	return a.Prefix(min(int(c.GetPrefixLen().GetValue()), a.BitLen()))
}

func duration(d *durationpb.Duration, absent time.Duration) time.Duration {
	if d == nil {
		return absent
	}
	return d.AsDuration()
}

func number(v *wrapperspb.UInt32Value, absent uint32) uint32 {
	if v == nil {
		return absent
	}
	return v.GetValue()
}

func boolean(v *wrapperspb.BoolValue, absent bool) bool {
	if v == nil {
		return absent
	}
	return v.GetValue()
}

func percent(p *typev3.Percent) float64 { return p.GetValue() }
