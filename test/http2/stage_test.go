package http2

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/proxy"
	"github.com/outrigger-proxy/outrigger/test/harness"
)

const listenerText = `
  - name: {{name}}
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - {{transport}}
      filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {{name}}
          delayed_close_timeout: 0.2s
          codec_type: {{codec}}
          http_protocol_options: {enable_trailers: true}
          proxy_100_continue: true
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - {match: {prefix: /direct}, direct_response: {status: 200, body: {inline_string: "0123456789"}}}
              - {match: {prefix: /1}, route: {cluster: one, prefix_rewrite: "/", timeout: 20s}}
              - {match: {prefix: /}, route: {cluster: two, timeout: 20s}}
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}`

const clusterText = `
  - name: {{name}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{{version}}: {{{options}}}}
    circuit_breakers: {thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}]}
    load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: "{{port}}"}}}}]}]}`

// stage is a proxy between clients and a server of both versions of HTTP. Its clients speak to it in clear and in TLS.
type stage struct {
	*harness.Proxy

	clear, h2c, tls string // addresses
}

// each runs f on both engines, in front of a server with h.
func each(t *testing.T, h http.HandlerFunc, f func(t *testing.T, s *stage)) {
	t.Helper()
	for name, engine := range fibertest.Engines() {
		t.Run(name, func(t *testing.T) { f(t, start(t, engine, harness.Port(harness.Host(t, h)))) })
	}
}

// start starts a proxy in front of a host at a port.
func start(t *testing.T, engine proxy.Engine, port string) *stage {
	t.Helper()
	p := harness.Start(t, configText(t, port), harness.On(engine))
	return &stage{p, p.Address("clear"), p.Address("h2c"), p.Address("tls")}
}

func configText(t *testing.T, port string) string {
	t.Helper()
	cert := pkitest.Authority(t, "ca").Issue(t, pkitest.Leaf{DNS: []string{"e.test"}})
	secure := `transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: {alpn_protocols: [h2, http/1.1], tls_certificates: [` +
		harness.Identity(t, cert) + `]}}}`
	fill := func(text string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(text) }
	return harness.Admin + "static_resources:\n  listeners:" +
		fill(listenerText, "{{name}}", "clear", "{{codec}}", "AUTO", "{{transport}}", "name: clear") +
		fill(listenerText, "{{name}}", "h2c", "{{codec}}", "HTTP2", "{{transport}}", "name: clear") +
		fill(listenerText, "{{name}}", "tls", "{{codec}}", "AUTO", "{{transport}}", secure) +
		"\n  clusters:" + fill(clusterText, "{{name}}", "one", "{{version}}", "http_protocol_options", "{{options}}", "enable_trailers: true", "{{port}}", port) +
		fill(clusterText, "{{name}}", "two", "{{version}}", "http2_protocol_options", "{{options}}", "", "{{port}}", port) + "\n"
}

// client speaks one version of HTTP to the proxy.
func client(t *testing.T, protocol string) *http.Client {
	t.Helper()
	p := &http.Protocols{}
	switch protocol {
	case "h1":
		p.SetHTTP1(true)
	case "h2c":
		p.SetUnencryptedHTTP2(true)
	default:
		p.SetHTTP2(true)
	}
	tr := &http.Transport{Protocols: p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// url is where a protocol is spoken.
func (s *stage) url(protocol, path string) string {
	if protocol == "h2" || protocol == "https" {
		return "https://" + s.tls + path
	}
	return "http://" + s.clear + path
}
