package cluster

import (
	"fmt"
	"math/rand/v2"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	codecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	casev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/header_formatters/preserve_case/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/tcp/v3"

	"github.com/outrigger-proxy/outrigger/cluster/outlier"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/hashpolicy"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
)

// httpOptions are those of HTTP upstreams.
type httpOptions struct {
	idle, maxDuration time.Duration
	jitter            float64       // percent of maxDuration
	maxStream         time.Duration // 0: none
	maxRequests       uint32
	http1             http1.Options
	sni               AutoSNI
	http2             http2.Options
	protocol          pool.Protocol
}

func (h *httpOptions) connectionDuration() time.Duration {
	if h.maxDuration > 0 && h.jitter > 0 {
		return h.maxDuration + time.Duration(rand.Float64()*h.jitter/100*float64(h.maxDuration))
	}
	return h.maxDuration
}

// parseHTTP reads typed_extension_protocol_options, or the fields that it took the place of.
func (o *config) parseHTTP(c *clusterv3.Cluster) error {
	o.http = httpOptions{sni: o.http.sni, idle: time.Hour, maxRequests: c.GetMaxRequestsPerConnection().GetValue(), http1: http1.UpstreamDefaults(), http2: http2.UpstreamDefaults()}
	o.tcpIdle = 10 * time.Minute
	common, one, two := c.GetCommonHttpProtocolOptions(), c.GetHttpProtocolOptions(), c.GetHttp2ProtocolOptions()
	switch {
	case c.GetProtocolSelection() == clusterv3.Cluster_USE_DOWNSTREAM_PROTOCOL:
		o.http.protocol = pool.Downstream
	case one != nil && two != nil && len(c.GetTypedExtensionProtocolOptions()) == 0:
		return refused("http2_protocol_options", "both HTTP/1 and HTTP/2 options may only be configured with non-default protocol_selection values")
	case two != nil:
		o.http.protocol = pool.HTTP2
	}
	o.http.autoSNI(c.GetUpstreamHttpProtocolOptions())
	at := ""
	for name, a := range c.GetTypedExtensionProtocolOptions() {
		path := fmt.Sprintf("typed_extension_protocol_options[%s]", name)
		if name != string(a.MessageName()) {
			return fmt.Errorf("%s: Didn't find a registered network or http filter or protocol options implementation for name: '%s'", path, name)
		}
		m, _, err := protofile.Unpack(a)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		switch p := m.(type) {
		case *httpv3.HttpProtocolOptions:
			if err := explicit(p); err != nil {
				return fmt.Errorf("%s.%w", path, err)
			}
			if o.lb.hashPolicy, err = hashpolicy.Compile(p.GetHashPolicy()); err != nil {
				return fmt.Errorf("%s.hash_policy%w", path, err)
			}
			o.http.sni = AutoSNI{}
			o.http.autoSNI(p.GetUpstreamHttpProtocolOptions())
			at, common = path+".", p.GetCommonHttpProtocolOptions()
			o.http.protocol, one, two = versions(p)
			if o.errors, err = outlier.ParseErrors(p.GetOutlierDetection().GetErrorMatcher()); err != nil {
				return fmt.Errorf("%s.outlier_detection.error_matcher.%w", path, err)
			}
		case *tcpv3.TcpProtocolOptions:
			o.tcpIdle = duration(p.GetIdleTimeout(), o.tcpIdle)
		default:
			return fmt.Errorf("%s: Didn't find a registered network or http filter or protocol options implementation for name: '%s'", path, name)
		}
	}
	if err := o.checkForward(); err != nil {
		return err
	}
	if err := o.http.common(common); err != nil {
		return fmt.Errorf("%scommon_http_protocol_options.%w", at, err)
	}
	if err := o.http.one(one); err != nil {
		return fmt.Errorf("%shttp_protocol_options.%w", at, err)
	}
	var err error
	if o.http.http2, err = http2.Parse(two, o.http.http2); err != nil {
		return fmt.Errorf("%shttp2_protocol_options.%w", at, err)
	}
	return nil
}

// versions are the options of both versions of HTTP, and which of them is spoken.
func versions(p *httpv3.HttpProtocolOptions) (pool.Protocol, *corev3.Http1ProtocolOptions, *corev3.Http2ProtocolOptions) {
	if d := p.GetUseDownstreamProtocolConfig(); d != nil {
		return pool.Downstream, d.GetHttpProtocolOptions(), d.GetHttp2ProtocolOptions()
	}
	if a := p.GetAutoConfig(); a != nil {
		return pool.Auto, a.GetHttpProtocolOptions(), a.GetHttp2ProtocolOptions()
	}
	e := p.GetExplicitHttpConfig()
	if two := e.GetHttp2ProtocolOptions(); two != nil {
		return pool.HTTP2, nil, two
	}
	return pool.HTTP1, e.GetHttpProtocolOptions(), nil
}

// explicit refuses what is not done yet.
func explicit(p *httpv3.HttpProtocolOptions) error {
	const three = "HTTP/3 upstreams are not supported yet"
	switch {
	case p.GetAutoConfig().GetHttp3ProtocolOptions() != nil:
		return refused("auto_config.http3_protocol_options", three)
	case p.GetAutoConfig().GetAlternateProtocolsCacheOptions() != nil:
		return refused("auto_config.alternate_protocols_cache_options", three)
	case p.GetUseDownstreamProtocolConfig().GetHttp3ProtocolOptions() != nil:
		return refused("use_downstream_protocol_config.http3_protocol_options", three)
	case p.GetExplicitHttpConfig().GetHttp3ProtocolOptions() != nil:
		return refused("explicit_http_config.http3_protocol_options", three)
	}
	for i, f := range p.GetHttpFilters() {
		if !f.GetTypedConfig().MessageIs(&codecv3.UpstreamCodec{}) || i != len(p.GetHttpFilters())-1 {
			return refused(fmt.Sprintf("http_filters[%d]", i), "upstream HTTP filters are not supported yet")
		}
	}
	later := "is not supported yet"
	switch {
	case p.GetHeaderValidationConfig() != nil:
		return refused("header_validation_config", later)
	case len(p.GetRequestMirrorPolicies()) > 0:
		return refused("request_mirror_policies", later)
	case p.GetRetryPolicy() != nil:
		return refused("retry_policy", later)
	}
	return nil
}

// AutoSNI says what of a request decides how its host is spoken to in TLS (UpstreamHttpProtocolOptions).
type AutoSNI struct {
	Name   bool   // its host is the SNI
	SAN    bool   // and must be in the certificate
	Header string // instead of the host, where it is not empty
}

func (h *httpOptions) autoSNI(p *corev3.UpstreamHttpProtocolOptions) {
	if p != nil {
		h.sni = AutoSNI{p.GetAutoSni(), p.GetAutoSanValidation(), p.GetOverrideAutoSniHeader()}
	}
}

func (h *httpOptions) common(p *corev3.HttpProtocolOptions) error {
	h.idle = duration(p.GetIdleTimeout(), h.idle)
	h.maxDuration, h.jitter = p.GetMaxConnectionDuration().AsDuration(), p.GetMaxConnectionDurationJitter().GetValue()
	h.maxStream = p.GetMaxStreamDuration().AsDuration()
	if n := p.GetMaxRequestsPerConnection(); n != nil {
		h.maxRequests = n.GetValue()
	}
	if n := p.GetMaxHeadersCount(); n != nil {
		h.http1.FieldLimit = int(n.GetValue())
		h.http2.FieldLimit = h.http1.FieldLimit
	}
	if n := p.GetMaxResponseHeadersKb(); n != nil {
		h.http1.HeadLimit = int(n.GetValue()) << 10
		h.http2.HeadLimit = h.http1.HeadLimit
	}
	return nil
}

// one reads the options of HTTP/1 that concern an upstream; the others are about requests.
func (h *httpOptions) one(p *corev3.Http1ProtocolOptions) error {
	h.http1.Trailers, h.http1.ChunkedLength = p.GetEnableTrailers(), p.GetAllowChunkedLength()
	h.http1.FullURL, h.http1.CustomMethods = p.GetSendFullyQualifiedUrl(), p.GetAllowCustomMethods()
	switch f := p.GetHeaderKeyFormat().GetHeaderFormat().(type) {
	case *corev3.Http1ProtocolOptions_HeaderKeyFormat_ProperCaseWords_:
		h.http1.Case = http1.ProperCase
	case *corev3.Http1ProtocolOptions_HeaderKeyFormat_StatefulFormatter:
		return h.formatter(f.StatefulFormatter)
	}
	return nil
}

func (h *httpOptions) formatter(t *corev3.TypedExtensionConfig) error {
	m, _, err := protofile.Unpack(t.GetTypedConfig())
	if err != nil {
		return fmt.Errorf("header_key_format.stateful_formatter: %w", err)
	}
	p, ok := m.(*casev3.PreserveCaseFormatterConfig)
	if !ok {
		return refused("header_key_format.stateful_formatter", fmt.Sprintf("didn't find a registered implementation for '%s' with type URL: '%s'", t.GetName(), t.GetTypedConfig().GetTypeUrl()))
	}
	h.http1.KeepCase, h.http1.KeepReason = true, p.GetForwardReasonPhrase()
	if p.GetFormatterTypeOnEnvoyHeaders() == casev3.PreserveCaseFormatterConfig_PROPER_CASE {
		h.http1.OwnCase = http1.ProperCase
	}
	return nil
}
