package listener

import (
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/sockopt"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &listenerv3.Listener{}, &listenerv3.AdditionalAddress{}, &listenerv3.FilterChain{}, &listenerv3.FilterChainMatch{},
		&listenerv3.Filter{}, &listenerv3.ListenerFilter{}, &listenerv3.ListenerFilterChainMatchPredicate{}, &corev3.SocketAddress{}, &corev3.Pipe{},
		&corev3.SocketOption{}, &corev3.TcpKeepalive{})
}

const where = "name: l\naddress: {socket_address: {address: 127.0.0.1, port_value: 80}}\nfilter_chains: [{}]\n"

func TestDefaults(t *testing.T) {
	c, err := parse(read(t, where))
	if err != nil {
		t.Fatal(err)
	}
	if !c.bind || !c.reusePort || c.handOff || c.exact || c.backlog != 4096 || c.perEvent != 0 || c.bufferSize != 1<<20 || c.filtersTimeout != 15*time.Second ||
		c.continueOnTimeout || c.statPrefix != "127.0.0.1:80" || len(c.endpoints) != 1 || len(c.endpoints[0].options) != 0 {
		t.Errorf("%+v", c)
	}
}

func TestFieldsAreRead(t *testing.T) {
	for _, c := range []struct {
		text string
		ok   func(*config) bool
	}{
		{"bind_to_port: false", func(c *config) bool { return !c.bind }},
		{"deprecated_v1: {bind_to_port: false}", func(c *config) bool { return !c.bind }},
		{"use_original_dst: true", func(c *config) bool { return c.handOff }},
		{"enable_reuse_port: false", func(c *config) bool { return !c.reusePort }},
		{"tcp_backlog_size: 7", func(c *config) bool { return c.backlog == 7 }},
		{"max_connections_to_accept_per_socket_event: 3", func(c *config) bool { return c.perEvent == 3 }},
		{"per_connection_buffer_limit_bytes: 9", func(c *config) bool { return c.bufferSize == 9 }},
		{"listener_filters_timeout: 0s", func(c *config) bool { return c.filtersTimeout == 0 }},
		{"continue_on_listener_filters_timeout: true", func(c *config) bool { return c.continueOnTimeout }},
		{"ignore_global_conn_limit: true", func(c *config) bool { return c.ignoreGlobalLimit }},
		{"drain_type: MODIFY_ONLY", func(c *config) bool { return c.modifyOnly }},
		{"stat_prefix: p", func(c *config) bool { return c.statPrefix == "p" }},
		{"traffic_direction: INBOUND", func(c *config) bool { return c.direction == corev3.TrafficDirection_INBOUND }},
		{"metadata: {filter_metadata: {a: {b: 1}}}", func(c *config) bool { return c.metadata["a"]["b"] == 1.0 }},
		{"connection_balance_config: {exact_balance: {}}", func(c *config) bool { return c.exact }},
		{"transparent: true", func(c *config) bool { return len(c.endpoints[0].options) == 2 }},
		{"freebind: true", func(c *config) bool { return len(c.endpoints[0].options) == 2 }},
		{"tcp_fast_open_queue_length: 5", func(c *config) bool { return c.endpoints[0].options.Has(sockopt.Listening) }},
		{"tcp_keepalive: {keepalive_time: 5}", func(c *config) bool { return len(c.endpoints[0].options) == 2 }},
		{"socket_options: [{level: 1, name: 2, int_value: 3, state: STATE_BOUND}]", func(c *config) bool { return c.endpoints[0].options.Has(sockopt.Bound) }},
		{`additional_addresses: [{address: {socket_address: {address: "::", port_value: 1, ipv4_compat: true}}}]`, func(c *config) bool {
			return c.endpoints[1].v4Too && c.endpoints[1].String() == "[::]:1"
		}},
		{
			"socket_options: [{level: 1, name: 2, int_value: 3}]\nadditional_addresses: [{address: {pipe: {path: /x, mode: 384}}, socket_options: {}}]",
			func(c *config) bool {
				return len(c.endpoints[0].options) == 1 && len(c.endpoints[1].options) == 0 && c.endpoints[1].Path == "/x" && c.endpoints[1].mode == 0o600
			},
		},
	} {
		got, err := parse(read(t, where+c.text))
		if err != nil || !c.ok(got) {
			t.Errorf("%s: %+v %v", c.text, got, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	const rest = "\nfilter_chains: [{}]"
	for text, want := range map[string]string{
		where + "udp_listener_config: {}":                                           "udp_listener_config: UDP listeners are not supported",
		where + "api_listener: {}":                                                  "api_listener: API listeners are not supported",
		where + "internal_listener: {}":                                             "internal_listener: internal listeners are not supported",
		where + "fcds_config: {}":                                                   "fcds_config: filter chain discovery is not supported",
		where + "stats_matcher: {reject_all: true}":                                 "stats_matcher: is not supported",
		where + "enable_mptcp: true":                                                "enable_mptcp: multipath TCP is not supported",
		where + "per_connection_buffer_high_watermark_timeout: 1s":                  "per_connection_buffer_high_watermark_timeout: there are no watermarks",
		where + "connection_balance_config: {extend_balance: {name: x}}":            "connection_balance_config.extend_balance: is not supported",
		where + "connection_balance_config: {cpu_locality_balance: {}}":             "connection_balance_config.cpu_locality_balance: is not supported",
		where + "listener_filters_timeout: -1s":                                     "listener_filters_timeout: is negative",
		where + "socket_options: [{level: 1}]":                                      "socket_options[0].value: is required",
		where + "additional_addresses: [{address: {socket_address: {address: x}}}]": "additional_addresses[0].address.socket_address.address: malformed IP address: x",
		"address: {socket_address: {address: 127.0.0.1}}":                           "filter_chains: no filter chains specified",
		"address: {socket_address: {address: 127.0.0.1, named_port: http}}" + rest:  "address.socket_address.named_port: IP resolver",
		"address: {socket_address: {address: 127.0.0.1, protocol: UDP}}" + rest:     "address.socket_address.protocol: UDP listeners",
		"address: {socket_address: {address: 127.0.0.1, resolver_name: x}}" + rest:  "address.socket_address.resolver_name: unknown address resolver: x",
		"address: {pipe: {path: '@x', mode: 1}}" + rest:                             "address.pipe.mode: Cannot set mode for Abstract AF_UNIX sockets",
		"address: {pipe: {path: '/" + strings.Repeat("x", 120) + "'}}" + rest:       "address.pipe.path: Path",
		"address: {envoy_internal_address: {server_listener_name: x}}" + rest:       "address.envoy_internal_address: internal listeners are not supported",
		"name: x" + rest: "address.address: is required",
	} {
		if _, err := parse(read(t, text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(uint32(80), "127.0.0.1", "*.com", uint32(8))
	f.Add(uint32(0), "::", "", uint32(200))
	f.Fuzz(func(t *testing.T, port uint32, address, name string, length uint32) {
		p := read(t, "filter_chains: [{filter_chain_match: {server_names: [x], prefix_ranges: [{address_prefix: x, prefix_len: 1}]}}]\naddress: {socket_address: {port_value: 1}}")
		a := p.GetAddress().GetSocketAddress()
		a.Address, a.PortSpecifier = address, &corev3.SocketAddress_PortValue{PortValue: port}
		m := p.GetFilterChains()[0].GetFilterChainMatch()
		m.ServerNames[0], m.PrefixRanges[0].AddressPrefix, m.PrefixRanges[0].PrefixLen.Value = name, address, length
		if _, err := parse(p); err != nil {
			return
		}
		tr, err := compileMatches(p.GetFilterChains(), []*chain{{}}, nil)
		if err == nil {
			tr.find(seen{sni: name}.accepted())
		}
	})
}
