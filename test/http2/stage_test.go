package http2

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/filter/all"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/listener"
	"github.com/outrigger-proxy/outrigger/proxy"
	"github.com/outrigger-proxy/outrigger/proxy/bootstrap"
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
	proxy           *proxy.Proxy
	clear, h2c, tls string // addresses
}

// each runs f on both engines, in front of a server with h.
func each(t *testing.T, h http.Handler, f func(t *testing.T, s *stage)) {
	t.Helper()
	for name, engine := range fibertest.Engines() {
		t.Run(name, func(t *testing.T) { f(t, start(t, engine, serve(t, h))) })
	}
}

// start starts a proxy in front of a host at a port.
func start(t *testing.T, engine func(int) (*fiber.Worker, error), port string) *stage {
	t.Helper()
	text := configText(t, port)
	r, err := bootstrap.Load(bootstrap.Source{YAML: text})
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{}
	s.proxy, err = proxy.New(r.Bootstrap, proxy.Options{
		Flags:      &adminv3.CommandLineOptions{Concurrency: 1, DrainTime: durationpb.New(time.Second)},
		Extensions: all.Extensions(), Logs: log.Discard(), Engine: engine,
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { s.proxy.Run(); close(ended) }() // ends with Quit
	t.Cleanup(func() { s.proxy.Quit(); <-ended })
	<-s.proxy.Live()
	s.proxy.Control.Do(func() {
		s.proxy.Listeners.Each(func(v listener.View) {
			switch a := v.Addresses[0].String(); v.Name {
			case "clear":
				s.clear = a
			case "h2c":
				s.h2c = a
			case "tls":
				s.tls = a
			}
		})
	})
	return s
}

func configText(t *testing.T, port string) string {
	t.Helper()
	cert := pkitest.Authority(t, "ca").Issue(t, pkitest.Leaf{DNS: []string{"e.test"}})
	quote := func(pem string) string { return "{inline_string: " + strconv.Quote(pem) + "}" }
	secure := `transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: {alpn_protocols: [h2, http/1.1], tls_certificates: [{certificate_chain: ` +
		quote(cert.Chain()) + `, private_key: ` + quote(cert.KeyPEM(t)) + `}]}}}`
	fill := func(text string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(text) }
	return "static_resources:\n  listeners:" +
		fill(listenerText, "{{name}}", "clear", "{{codec}}", "AUTO", "{{transport}}", "name: clear") +
		fill(listenerText, "{{name}}", "h2c", "{{codec}}", "HTTP2", "{{transport}}", "name: clear") +
		fill(listenerText, "{{name}}", "tls", "{{codec}}", "AUTO", "{{transport}}", secure) +
		"\n  clusters:" + fill(clusterText, "{{name}}", "one", "{{version}}", "http_protocol_options", "{{options}}", "enable_trailers: true", "{{port}}", port) +
		fill(clusterText, "{{name}}", "two", "{{version}}", "http2_protocol_options", "{{options}}", "", "{{port}}", port) + "\n"
}

// serve starts a server that speaks both versions of HTTP in clear, and returns its port.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := server(h)
	ended := make(chan struct{})
	go func() { // ends with Close
		defer close(ended)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { _ = s.Close(); <-ended })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// server speaks both versions of HTTP.
func server(h http.Handler) *http.Server {
	both := &http.Protocols{}
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: h, Protocols: both, ReadHeaderTimeout: time.Minute}
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
