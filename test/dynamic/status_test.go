package dynamic

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/internal/subscription"
	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/test/harness"
	"github.com/outrigger-proxy/outrigger/xdsclient/xdstest"
)

// securedCluster needs a secret.
func securedCluster(t *testing.T) *clusterv3.Cluster {
	return read(t, edsCluster(t, "secured"), `{transport_socket: {name: tls, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext,
common_tls_context: {tls_certificate_sds_secret_configs: [{name: ca, sds_config: {ads: {}, resource_api_version: V3}}]}}}}`)
}

func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// refusing is a proxy with resources of each kind, of which some were refused: svc's endpoints, its routes, and the cluster "bad".
func refusing(t *testing.T, api string) (*harness.Proxy, *xdstest.Server) {
	t.Helper()
	server := mesh(t, upstream(t, "one"))
	server.Set(subscription.Secrets(), certificate(t, "ca", pkitest.Authority(t, "ca")))
	secured := securedCluster(t)
	server.Set(subscription.Clusters(), edsCluster(t, "svc"), secured)
	server.Put(subscription.Endpoints(), "secured", packed(t, endpoints(t, "secured", 1)))
	s := harness.Start(t, adsBootstrap(server, api))
	bad := edsCluster(t, "bad")
	bad.EdsClusterConfig = nil
	server.Set(subscription.Clusters(), edsCluster(t, "svc"), secured, bad)
	server.WaitNack(subscription.Clusters())
	server.Put(subscription.Endpoints(), "svc", packed(t, endpoints(t, "svc", 70000)))
	server.WaitNack(subscription.Endpoints())
	table := routes(t, "r", "svc")
	table.VirtualHosts = append(table.VirtualHosts, table.VirtualHosts[0])
	server.Set(subscription.Routes(), table)
	server.WaitNack(subscription.Routes())
	return s, server
}

// TestDumpOfWhatWasRefused: what is in force is shown with its version and time, and what was refused with the reason.
func TestDumpOfWhatWasRefused(t *testing.T) {
	eachProtocol(t, func(t *testing.T, api string) {
		s, _ := refusing(t, api)
		for resource, reason := range map[string]string{
			"dynamic_endpoint_configs&include_eds": "", "dynamic_route_configs": "", "dynamic_warming_clusters": "", "dynamic_active_secrets": "-",
		} {
			refused := 0
			for _, r := range s.Dump(resource) {
				state, _ := r["error_state"].(map[string]any)
				if state != nil {
					refused++
					if state["details"] == "" || state["last_update_attempt"] == nil || state["version_info"] == nil {
						t.Errorf("%s: %v", resource, state)
					}
				}
				if resource != "dynamic_warming_clusters" && (r["version_info"] == nil || r["last_updated"] == nil) {
					t.Errorf("%s: without a version or a time: %v", resource, r)
				}
			}
			if want := map[bool]int{true: 1}[reason == ""]; refused != want {
				t.Errorf("%s: %d have an error_state, want %d: %v", resource, refused, want, s.Dump(resource))
			}
		}
		if dump := s.Page("/config_dump?include_eds"); strings.Contains(dump, "PRIVATE KEY") {
			t.Error("the dump shows a key")
		}
	})
}

// TestClientStatus asks the client status discovery service.
func TestClientStatus(t *testing.T) {
	s, server := refusing(t, "DELTA_GRPC")
	c, err := grpc.NewClient("passthrough:///"+s.AdminAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	client := statusv3.NewClientStatusDiscoveryServiceClient(c)
	stream, err := client.StreamClientStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	show := func(q *statusv3.ClientStatusRequest) (lines []string, text string) {
		t.Helper()
		if err := stream.Send(q); err != nil {
			t.Fatal(err)
		}
		a, err := stream.Recv()
		if err != nil || len(a.GetConfig()) != 1 || a.GetConfig()[0].GetNode().GetId() != "me" {
			t.Fatalf("%v, %v", a, err)
		}
		for _, r := range a.GetConfig()[0].GetGenericXdsConfigs() {
			short := r.GetTypeUrl()[strings.LastIndex(r.GetTypeUrl(), ".")+1:]
			lines = append(lines, fmt.Sprint(short, " ", r.GetName(), " ", r.GetClientStatus(), " static=", r.GetIsStaticResource(), " body=", r.GetXdsConfig() != nil,
				" error=", r.GetErrorState() != nil, " version=", r.GetVersionInfo() != ""))
		}
		slices.Sort(lines)
		b, err := protojson.Marshal(a)
		if err != nil || !json.Valid(b) {
			t.Fatal(err)
		}
		return lines, string(b)
	}
	server.Set(subscription.Clusters(), edsCluster(t, "svc"), edsCluster(t, "waits"))
	server.WaitAck(subscription.Clusters())
	want := []string{
		"Cluster svc ACKED static=false body=true error=false version=true",
		"Cluster waits ACKED static=false body=true error=false version=true",
		"Cluster xds ACKED static=true body=true error=false version=false",
		"ClusterLoadAssignment svc NACKED static=false body=true error=true version=true",
		"ClusterLoadAssignment waits REQUESTED static=false body=false error=false version=false",
		"Listener in ACKED static=false body=true error=false version=true",
		"RouteConfiguration r NACKED static=false body=true error=true version=true",
	}
	got, _ := show(&statusv3.ClientStatusRequest{})
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got, _ = show(&statusv3.ClientStatusRequest{ExcludeResourceContents: true}); strings.Contains(strings.Join(got, ""), "body=true") {
		t.Errorf("with contents: %s", got)
	}
	server.Set(subscription.Clusters(), edsCluster(t, "svc"), securedCluster(t))
	server.WaitAck(subscription.Secrets())
	got, text := show(&statusv3.ClientStatusRequest{})
	if !slices.Contains(got, "Secret ca ACKED static=false body=true error=false version=true") || strings.Contains(text, "PRIVATE KEY") {
		t.Errorf("the secret is not there, or is not redacted: %s", text)
	}
	if _, err := client.FetchClientStatus(t.Context(), read(t, &statusv3.ClientStatusRequest{}, "node_matchers: [{node_id: {exact: me}}]")); err == nil {
		t.Error("node_matchers were taken")
	}
}
