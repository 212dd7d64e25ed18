package dynamic

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/internal/subscription"
	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/test/harness"
)

// secured is a TLS port in front of another.
func secured(t *testing.T, port uint32, c *pkitest.Certificate) uint32 {
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{c.TLS()}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { // ends with the test
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				_ = in.Close()
				continue
			}
			running.Go(func() { _, _ = io.Copy(out, in); _ = out.Close(); _ = in.Close() })
			running.Go(func() { _, _ = io.Copy(in, out); _ = out.Close(); _ = in.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	return uint32(l.Addr().(*net.TCPAddr).Port)
}

func TestControlPlaneOverTLS(t *testing.T) {
	one := upstream(t, "one")
	ca := pkitest.Authority(t, "ca")
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(pkitest.PEM(ca.Cert)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, service := range map[string]string{
		"envoy_grpc":  "envoy_grpc: {cluster_name: xds}",
		"google_grpc": "google_grpc: {target_uri: 'dns:///127.0.0.1:PORT', stat_prefix: xds, channel_credentials: {ssl_credentials: {root_certs: {filename: FILE}}}}",
	} {
		t.Run(name, func(t *testing.T) {
			server := mesh(t, one)
			port := secured(t, server.Port(), ca.Issue(t, pkitest.Leaf{DNS: []string{"istiod"}, IPS: []string{"127.0.0.1"}}))
			text := strings.ReplaceAll(adsBootstrap(server, "DELTA_GRPC"), "envoy_grpc: {cluster_name: xds}", service)
			text = strings.ReplaceAll(strings.ReplaceAll(text, "PORT", fmt.Sprint(port)), "FILE", file)
			text = strings.Replace(text, fmt.Sprintf("port_value: %d", server.Port()), fmt.Sprintf("port_value: %d", port), 1)
			text = strings.Replace(text, "{name: xds, ", fmt.Sprintf(`{name: xds, transport_socket: {name: tls, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext,
sni: istiod, common_tls_context: {validation_context: {trusted_ca: {filename: %q}, match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: istiod}}]}}}}, `, file), 1)
			s := harness.Start(t, text)
			if got := s.Get("in", "/"); got != "200 one" {
				t.Errorf("got %s", got)
			}
		})
	}
}

// TestREST: a service that is asked again and again.
func TestREST(t *testing.T) {
	var mu sync.Mutex
	resources := map[string]proto.Message{"clusters": edsCluster(t, "svc")}
	var asked []map[string]any
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		q := map[string]any{}
		_ = json.NewDecoder(r.Body).Decode(&q)
		asked = append(asked, q)
		kind := strings.TrimPrefix(r.URL.Path, "/v3/discovery:")
		a, err := anypb.New(resources[kind])
		if err != nil {
			t.Error(err)
		}
		b, err := protojson.Marshal(a)
		if err != nil {
			t.Error(err)
		}
		_, _ = fmt.Fprintf(w, `{"versionInfo": "%d", "resources": [%s], "typeUrl": %q}`, len(b), b, a.GetTypeUrl())
	}))
	defer h.Close()
	rest := "{api_config_source: {api_type: REST, transport_api_version: V3, cluster_names: [xds], refresh_delay: 0.02s}, resource_api_version: V3}"
	c := edsCluster(t, "svc")
	c.EdsClusterConfig.EdsConfig = nil
	one, two := upstream(t, "one"), upstream(t, "two")
	read(t, c, "{eds_cluster_config: {eds_config: %s}}", rest)
	resources["clusters"], resources["endpoints"] = c, endpoints(t, "svc", one)
	s := harness.Begin(t, fmt.Sprintf(`
node: {id: me, cluster: here}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
dynamic_resources: {cds_config: %s}
static_resources:
  clusters:
  - {name: xds, type: STATIC, connect_timeout: 1s, load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]}}
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains: [{filters: [{name: hcm, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: in, route_config: {validate_clusters: false, virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: svc}}]}]}, %s}}]}]
`, rest, h.Listener.Addr().(*net.TCPAddr).Port, router)).WaitLive()
	if got := s.Get("in", "/"); got != "200 one" {
		t.Errorf("got %s", got)
	}
	mu.Lock()
	resources["endpoints"] = endpoints(t, "svc", two)
	node, _ := asked[0]["node"].(map[string]any)
	if node["id"] != "me" {
		t.Errorf("the request is %v", asked[0])
	}
	mu.Unlock()
	s.Wait("the new endpoint", func() bool { return s.Get("in", "/") == "200 two" })
	if n := s.Stat("cluster_manager.cluster_modified"); n != 0 {
		t.Errorf("%d clusters were modified", n)
	}
}

// TestGarbage: a server that answers nonsense is asked again, and what works goes on.
func TestGarbage(t *testing.T) {
	server := mesh(t, upstream(t, "one"))
	s := harness.Start(t, adsBootstrap(server, "GRPC"))
	server.Put(subscription.Clusters(), "svc", &anypb.Any{TypeUrl: subscription.Clusters().URL, Value: bytes.Repeat([]byte{0xff}, 20)})
	server.WaitNack(subscription.Clusters())
	server.Put(subscription.Clusters(), "svc", &anypb.Any{TypeUrl: subscription.Listeners().URL})
	server.WaitNack(subscription.Clusters())
	server.Put(subscription.Endpoints(), "svc", &anypb.Any{TypeUrl: subscription.Endpoints().URL, Value: []byte{0xff}})
	server.WaitNack(subscription.Endpoints())
	if got := s.Get("in", "/"); got != "200 one" {
		t.Errorf("got %s", got)
	}
}

// TestManyUpdatesWithABadOne: each of 200 updates of 50 clusters has one that is refused.
func TestManyUpdatesWithABadOne(t *testing.T) {
	eachProtocol(t, func(t *testing.T, api string) {
		one := upstream(t, "one")
		server := mesh(t, one)
		s := harness.Start(t, adsBootstrap(server, api))
		const updates, clusters = 200, 50
		for u := range updates {
			list := []proto.Message{edsCluster(t, "svc")}
			for i := range clusters - 1 {
				c := edsCluster(t, fmt.Sprintf("c%d", i))
				c.EdsClusterConfig = nil
				read(t, c, "{type: STATIC, alt_stat_name: c%d_%d, load_assignment: {cluster_name: c%d}}", i, u, i)
				if i == u%(clusters-1) {
					c.ConnectTimeout.Seconds = 0
				}
				list = append(list, c)
			}
			server.Set(subscription.Clusters(), list...)
			reason := server.WaitNack(subscription.Clusters())
			if bad := fmt.Sprintf("c%d: ", u%(clusters-1)); !strings.Contains(reason, bad) {
				t.Fatalf("the reason is %q, want one about %s", reason, bad)
			}
		}
		if got := s.Stat("cluster_manager.cds.update_rejected"); got != updates {
			t.Errorf("%d updates were rejected", got)
		}
		if got := s.Get("in", "/"); got != "200 one" {
			t.Errorf("got %s", got)
		}
	})
}
