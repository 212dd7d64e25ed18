// Package interop lets gRPC's own interoperability client and server, those of grpc-go, talk through the proxy.
package interop

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"

	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/test/harness"
)

// stage is a proxy between gRPC clients and a gRPC server, on unix sockets.
type stage struct {
	dir    string
	secure bool
	ca     *pkitest.Certificate
	server *pkitest.Certificate
	routes string // YAML
}

// each runs f through the proxy on both engines, in clear text (h2c) and over TLS on both sides.
func each(t *testing.T, routes string, service testgrpc.TestServiceServer, f func(t *testing.T, s *stage)) {
	t.Helper()
	for name, engine := range fibertest.Engines() {
		for _, secure := range []bool{false, true} {
			way := map[bool]string{false: "h2c", true: "tls"}[secure]
			t.Run(name+"/"+way, func(t *testing.T) {
				s := newStage(t, secure, routes)
				s.serve(t, service)
				harness.Start(t, s.config(t), harness.On(engine))
				f(t, s)
			})
		}
	}
}

func newStage(t *testing.T, secure bool, routes string) *stage {
	t.Helper()
	s := &stage{dir: harness.Dir(t), secure: secure, ca: pkitest.Authority(t, "all"), routes: routes}
	s.server = s.ca.Issue(t, pkitest.Leaf{DNS: []string{"grpc.test"}})
	return s
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// serve runs the server; a nil service is that of the interoperability tests.
func (s *stage) serve(t *testing.T, service testgrpc.TestServiceServer) {
	t.Helper()
	l := harness.Listen(t, s.path("up"))
	options := []grpc.ServerOption{orca.CallMetricsServerOption(nil)}
	if s.secure {
		options = append(options, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{s.server.TLS()}})))
	}
	g := grpc.NewServer(options...)
	recorder := orca.NewServerMetricsRecorder()
	if err := orca.Register(g, orca.ServiceOptions{ServerMetricsProvider: recorder}); err != nil {
		t.Fatal(err)
	}
	if service == nil {
		service = interop.NewTestServer(interop.NewTestServerOptions{MetricsRecorder: recorder})
	}
	testgrpc.RegisterTestServiceServer(g, service)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = g.Serve(l) }() // ends with Stop
	t.Cleanup(func() { g.Stop(); <-ended })
}

const (
	types = "type.googleapis.com/envoy.extensions."
	both  = `
static_resources:
  listeners:
  - name: down
    address: {pipe: {path: %[1]q}}
    filter_chains:
    - transport_socket: %[2]s
      filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          http_filters:
          - {name: stats, typed_config: {"@type": ` + types + `filters.http.grpc_stats.v3.FilterConfig, stats_for_all_methods: true}}
          - {name: web, typed_config: {"@type": ` + types + `filters.http.grpc_web.v3.GrpcWeb}}
          - {name: bridge, typed_config: {"@type": ` + types + `filters.http.grpc_http1_bridge.v3.Config}}
          - {name: router, typed_config: {"@type": ` + types + `filters.http.router.v3.Router}}
          route_config: {virtual_hosts: [{name: v, domains: ["*"], routes: [%[3]s]}]}
  clusters:
  - name: up
    connect_timeout: 5s
    transport_socket: %[4]s
    load_assignment: {cluster_name: up, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: %[5]q}}}}]}]}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": ` + types + `upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
`
)

func (s *stage) config(t *testing.T) string {
	t.Helper()
	down := `{name: raw, typed_config: {"@type": ` + types + `transport_sockets.raw_buffer.v3.RawBuffer}}`
	up := down
	if s.secure {
		down = fmt.Sprintf(`{name: tls, typed_config: {"@type": %stransport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: {alpn_protocols: [h2], `+
			`tls_certificates: [%s]}}}`, types, harness.Identity(t, s.server))
		up = fmt.Sprintf(`{name: tls, typed_config: {"@type": %stransport_sockets.tls.v3.UpstreamTlsContext, sni: grpc.test, common_tls_context: {alpn_protocols: [h2], `+
			`validation_context: {trusted_ca: {inline_string: %q}}}}}`, types, s.ca.Chain())
	}
	return fmt.Sprintf(both, s.path("down"), down, s.routes, up, s.path("up"))
}

// options are those of a client.
func (s *stage) options() []grpc.DialOption {
	creds := insecure.NewCredentials()
	if s.secure {
		roots := x509.NewCertPool()
		roots.AddCert(s.ca.Cert)
		creds = credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "grpc.test"})
	}
	return []grpc.DialOption{grpc.WithTransportCredentials(creds)}
}

// dial makes a client of the proxy.
func (s *stage) dial(t *testing.T, more ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("unix://"+s.path("down"), append(s.options(), more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
