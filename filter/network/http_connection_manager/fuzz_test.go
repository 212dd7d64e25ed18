package hcm

import (
	"testing"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
)

// Whatever the bytes, a message that the protos accept is taken or refused, and nothing panics.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"{stat_prefix: a, route_config: {}, http_filters: []}",
		"{stat_prefix: a, rds: {route_config_name: x, config_source: {ads: {}}}}",
		"{stat_prefix: a, route_config: {}, internal_address_config: {cidr_ranges: [{address_prefix: '::1', prefix_len: 200}]}}",
		"{stat_prefix: a, route_config: {}, proxy_status_config: {literal_proxy_name: x}, http_protocol_options: {header_key_format: {proper_case_words: {}}, ignore_http_11_upgrade: [{safe_regex: {regex: '('}}]}}",
		"{stat_prefix: a, route_config: {}, strip_any_host_port: true, upgrade_configs: [{upgrade_type: CONNECT}], max_request_headers_kb: 96, stream_idle_timeout: 0s}",
	} {
		p := &hcmv3.HttpConnectionManager{}
		if _, err := protofile.Parse([]byte(text), protofile.YAML, p); err != nil {
			f.Fatal(text, err)
		}
		b, err := proto.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &hcmv3.HttpConnectionManager{}
		if proto.Unmarshal(b, p) != nil || p.ValidateAll() != nil {
			return
		}
		s, err := parse(p)
		if err != nil {
			return
		}
		if s.response.serverName == "" || s.statPrefix == "" {
			t.Errorf("%+v", s)
		}
		_, _ = s.codec.options(&codecStats{})
		_ = newProxyStatus(p.GetProxyStatusConfig(), s.response.serverName, "node")
	})
}
