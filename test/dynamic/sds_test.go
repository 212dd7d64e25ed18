package dynamic

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/outrigger-proxy/outrigger/internal/subscription"
	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/test/harness"
	"github.com/outrigger-proxy/outrigger/xdsclient/xdstest"
)

func certificate(t *testing.T, name string, c *pkitest.Certificate) *tlsv3.Secret {
	inline := func(s string) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: s}}
	}
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inline(c.Chain()), PrivateKey: inline(c.KeyPEM(t)),
	}}}
}

// shown is the name in the certificate of a listener.
func shown(t *testing.T, s *harness.Proxy, listener string) string {
	t.Helper()
	c, err := tls.Dial("tcp", s.Address(listener), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().PeerCertificates[0].DNSNames[0]
}

func TestSecrets(t *testing.T) {
	for _, api := range []string{"GRPC", "DELTA_GRPC"} {
		for name, from := range map[string]string{
			"ads": "ads: {}",
			"own": "api_config_source: {api_type: " + api + ", transport_api_version: V3, set_node_on_first_message_only: true, grpc_services: [{envoy_grpc: {cluster_name: sds}}]}",
		} {
			t.Run(api+"/"+name, func(t *testing.T) { secrets(t, api, from) })
		}
	}
}

func secrets(t *testing.T, api, from string) {
	path := filepath.Join(t.TempDir(), "sds")
	server := xdstest.Unix(t, path)
	ca := pkitest.Authority(t, "ca")
	s := harness.Begin(t, fmt.Sprintf(`
node: {id: me, cluster: here}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
dynamic_resources: {ads_config: {api_type: %s, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: sds}}]}}
static_resources:
  clusters:
  - {name: sds, type: STATIC, connect_timeout: 1s, load_assignment: {cluster_name: sds, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: %q}}}}]}]}}
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters: [{name: hcm, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: in, route_config: {}, %s}}]
      transport_socket: {name: tls, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: {tls_certificate_sds_secret_configs: [{name: cert, sds_config: {%s, initial_fetch_timeout: 0s, resource_api_version: V3}}]}}}
`, api, path, router, from))
	server.Wait(0, "request for the secret", func(e *xdstest.Event) bool {
		return e.Type == subscription.Secrets().URL && len(e.Names) == 1 && e.Names[0] == "cert"
	})
	if dump := s.Page("/init_dump"); !strings.Contains(dump, "Listener in") {
		t.Errorf("the start does not wait for the listener: %s", dump)
	}
	server.Set(subscription.Secrets(), certificate(t, "cert", ca.Issue(t, pkitest.Leaf{DNS: []string{"one"}})))
	s.WaitLive()
	if got := shown(t, s, "in"); got != "one" {
		t.Errorf("shows the certificate %s", got)
	}
	kept := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer kept.CloseIdleConnections()
	url := "https://" + s.Address("in") + "/"
	harness.Get(t, kept, url)
	server.Set(subscription.Secrets(), certificate(t, "cert", ca.Issue(t, pkitest.Leaf{DNS: []string{"two"}})))
	server.WaitAck(subscription.Secrets())
	if got := shown(t, s, "in"); got != "two" {
		t.Errorf("shows the certificate %s", got)
	}
	bad := certificate(t, "cert", ca)
	bad.GetTlsCertificate().PrivateKey = bad.GetTlsCertificate().GetCertificateChain()
	server.Set(subscription.Secrets(), bad)
	if reason := server.WaitNack(subscription.Secrets()); !strings.Contains(reason, "cert: ") {
		t.Errorf("the reason is %q", reason)
	}
	if got := shown(t, s, "in"); got != "two" {
		t.Errorf("shows the certificate %s", got)
	}
	harness.Get(t, kept, url)
	for stat, want := range map[string]int{"sds.cert.update_success": 2, "sds.cert.update_rejected": 1, "http.in.downstream_cx_total": 4} {
		s.WaitStat(stat, want)
	}
}

// TestClusterWaitsForItsSecret: a cluster of the control plane takes part once its certificate is there.
func TestClusterWaitsForItsSecret(t *testing.T) {
	server := xdstest.New(t)
	ca := pkitest.Authority(t, "ca")
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, pkitest.Leaf{DNS: []string{"up"}}).TLS()}, ClientAuth: tls.RequireAnyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.TLS.PeerCertificates[0].DNSNames[0])
	})}
	go func() { _ = h.Serve(l) }() // ends with the test
	t.Cleanup(func() { _ = h.Close() })
	c := edsCluster(t, "svc")
	c.TransportSocket = read(t, &corev3.TransportSocket{}, `{name: tls, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext,
common_tls_context: {tls_certificate_sds_secret_configs: [{name: me, sds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}}]}}}`)
	server.Set(subscription.Clusters(), c)
	server.Set(subscription.Endpoints(), endpoints(t, "svc", uint32(l.Addr().(*net.TCPAddr).Port)))
	server.Set(subscription.Listeners(), rdsListener(t, "in", "r"))
	server.Set(subscription.Routes(), routes(t, "r", "svc"))
	s := harness.Begin(t, adsBootstrap(server, "DELTA_GRPC"))
	s.Wait("warming", func() bool { return len(s.Dump("dynamic_warming_clusters")) == 1 })
	server.Set(subscription.Secrets(), certificate(t, "me", ca.Issue(t, pkitest.Leaf{DNS: []string{"proxy"}})))
	s.WaitLive()
	if got := s.Get("in", "/"); got != "200 proxy" {
		t.Errorf("got %s", got)
	}
}
