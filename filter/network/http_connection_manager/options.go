package hcm

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	preservev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/header_formatters/preserve_case/v3"

	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// codecStats are http1.*, of all downstream connections.
type codecStats struct {
	DroppedUnderscores  stats.Counter `stat:"dropped_headers_with_underscores"`
	RejectedUnderscores stats.Counter `stat:"requests_rejected_with_underscores_in_headers"`
	MetadataError       stats.Counter `stat:"metadata_not_supported_error"`
	ResponseFlood       stats.Counter `stat:"response_flood"`
}

// http2 makes those of the HTTP/2 codec.
func (c *codecSettings) options2(st *http2.Stats) (http2.Options, error) {
	o := http2.Defaults()
	o.Stats, o.HeadLimit, o.FieldLimit, o.Linger = st, int(c.maxKB)<<10, int(c.maxHeaders), c.linger
	switch c.underscores {
	case corev3.HttpProtocolOptions_REJECT_REQUEST:
		o.Underscores = http2.RejectUnderscores
	case corev3.HttpProtocolOptions_DROP_HEADER:
		o.Underscores = http2.DropUnderscores
	}
	o, err := http2.Parse(c.http2, o)
	if v := c.streamErrors; v != nil && c.http2.GetOverrideStreamErrorOnInvalidHttpMessage() == nil {
		o.StreamErrors = v.GetValue()
	}
	return o, err
}

// options makes the codec's options.
func (c *codecSettings) options(st *codecStats) (http1.Options, error) {
	o, p := http1.Defaults(), c.http1
	o.NoAbsoluteURL = !boolean(p.GetAllowAbsoluteUrl(), true)
	o.AcceptHTTP10, o.DefaultHost = p.GetAcceptHttp_10(), p.GetDefaultHostForHttp_10()
	o.Trailers, o.ChunkedLength, o.CustomMethods = p.GetEnableTrailers(), p.GetAllowChunkedLength(), p.GetAllowCustomMethods()
	o.HeadLimit, o.FieldLimit = int(c.maxKB)<<10, int(c.maxHeaders)
	switch c.underscores {
	case corev3.HttpProtocolOptions_REJECT_REQUEST:
		o.Underscores = http1.RejectUnderscores
	case corev3.HttpProtocolOptions_DROP_HEADER:
		o.Underscores = http1.DropUnderscores
	}
	o.OnUnderscore = func(dropped bool) {
		if dropped {
			st.DroppedUnderscores.Inc()
		} else {
			st.RejectedUnderscores.Inc()
		}
	}
	if list := p.GetIgnoreHttp_11Upgrade(); len(list) > 0 {
		m, err := match.CompileStrings(list)
		if err != nil {
			return o, fmt.Errorf("ignore_http_11_upgrade%w", err)
		}
		o.IgnoreUpgrade = func(protocol string) bool { return match.Any(m, protocol) }
	}
	return o, keyFormat(&o, p.GetHeaderKeyFormat())
}

// keyFormat reads header_key_format.
func keyFormat(o *http1.Options, f *corev3.Http1ProtocolOptions_HeaderKeyFormat) error {
	switch k := f.GetHeaderFormat().(type) {
	case nil:
	case *corev3.Http1ProtocolOptions_HeaderKeyFormat_ProperCaseWords_:
		o.Case = http1.ProperCase
	case *corev3.Http1ProtocolOptions_HeaderKeyFormat_StatefulFormatter:
		c := &preservev3.PreserveCaseFormatterConfig{}
		if !k.StatefulFormatter.GetTypedConfig().MessageIs(c) {
			return fmt.Errorf("header_key_format.stateful_formatter: didn't find a registered implementation for '%s' with type URL '%s'",
				k.StatefulFormatter.GetName(), k.StatefulFormatter.GetTypedConfig().GetTypeUrl())
		}
		if err := k.StatefulFormatter.GetTypedConfig().UnmarshalTo(c); err != nil {
			return fmt.Errorf("header_key_format.stateful_formatter: %w", err)
		}
		o.KeepCase, o.KeepReason = true, c.GetForwardReasonPhrase()
		if c.GetFormatterTypeOnEnvoyHeaders() == preservev3.PreserveCaseFormatterConfig_PROPER_CASE {
			o.OwnCase = http1.ProperCase
		}
	}
	return nil
}

func equalFold(a, b string) bool { return strings.EqualFold(a, b) }
