// Package interop lets gRPC's own interoperability client and server, those of grpc-go, talk through the proxy.
package interop

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/filter/all"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/proxy"
	"github.com/outrigger-proxy/outrigger/proxy/bootstrap"
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
				s.proxy(t, engine)
				f(t, s)
			})
		}
	}
}

func newStage(t *testing.T, secure bool, routes string) *stage {
	t.Helper()
	dir, err := os.MkdirTemp("", "g") // the paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &stage{dir: dir, secure: secure, ca: pkitest.Authority(t, "all"), routes: routes}
	s.server = s.ca.Issue(t, pkitest.Leaf{DNS: []string{"grpc.test"}})
	return s
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// serve runs the server; a nil service is that of the interoperability tests.
func (s *stage) serve(t *testing.T, service testgrpc.TestServiceServer) {
	t.Helper()
	l, err := net.Listen("unix", s.path("up"))
	if err != nil {
		t.Fatal(err)
	}
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

// proxy runs the proxy.
func (s *stage) proxy(t *testing.T, engine proxy.Engine) {
	t.Helper()
	r, err := bootstrap.Load(bootstrap.Source{YAML: s.config(t)})
	if err != nil {
		t.Fatal(err)
	}
	p, err := proxy.New(r.Bootstrap, proxy.Options{
		Flags:      &adminv3.CommandLineOptions{Concurrency: 1, DrainTime: durationpb.New(time.Second)},
		Extensions: all.Extensions(), Logs: log.Discard(), Engine: engine,
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { p.Run(); close(ended) }() // ends with Quit
	t.Cleanup(func() { p.Quit(); <-ended })
	<-p.Live()
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
			`tls_certificates: [{certificate_chain: {inline_string: %q}, private_key: {inline_string: %q}}]}}}`, types, s.server.Chain(), s.server.KeyPEM(t))
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
