package dynamic

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/subscription"
	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/test/harness"
	"github.com/outrigger-proxy/outrigger/xdsclient/xdstest"
)

// TestPilotAgent: the bootstrap that pilot-agent writes, its two unix sockets, and what it asks the admin interface.
func TestPilotAgent(t *testing.T) {
	raw, err := os.ReadFile("../../../shared/xds/agent/bootstrap_sidecar.json")
	if os.IsNotExist(err) {
		t.Skip("pilot-agent's bootstrap is no part of this repository")
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	xds, sds := xdstest.Unix(t, filepath.Join(dir, "XDS")), xdstest.Unix(t, filepath.Join(dir, "SDS"))
	ready := upstream(t, "ready")
	b := map[string]any{}
	if err := json.Unmarshal(raw, &b); err != nil {
		t.Fatal(err)
	}
	move(b, "", dir, ready)
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	one := upstream(t, "one")
	sidecar := rdsListener(t, "virtualInbound", "eighty")
	sidecar.TrafficDirection = 1
	read(t, sidecar.GetFilterChains()[0], `{transport_socket: {name: tls, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext,
common_tls_context: {tls_certificate_sds_secret_configs: [{name: default, sds_config: {api_config_source: {api_type: GRPC, transport_api_version: V3, set_node_on_first_message_only: true,
grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}, initial_fetch_timeout: 0s, resource_api_version: V3}}]}}}}`)
	plain := rdsListener(t, "0.0.0.0_80", "eighty")
	sds.Set(subscription.Secrets(), certificate(t, "default", pkitest.Authority(t, "ca").Issue(t, pkitest.Leaf{DNS: []string{"me"}})))
	xds.Set(subscription.Clusters(), edsCluster(t, "outbound|80||svc"))
	xds.Set(subscription.Endpoints(), endpoints(t, "outbound|80||svc", one))
	xds.Set(subscription.Listeners(), sidecar, plain)
	xds.Set(subscription.Routes(), routes(t, "eighty", "outbound|80||svc"))
	s := harness.Start(t, string(text))

	e, _ := xds.Wait(0, "first request", func(*xdstest.Event) bool { return true })
	if e.Type != subscription.Clusters().URL || !strings.HasPrefix(e.Node, "sidecar~") {
		t.Errorf("the first request is %+v", e)
	}
	for query, want := range map[string][]string{
		"^(cluster_manager\\.cds|listener_manager\\.lds)\\.(update_success|update_rejected)$": {"cluster_manager.cds.update_success: 1", "listener_manager.lds.update_success: 1"},
		"^(server\\.state|listener_manager\\.workers_started)":                                {"server.state: 0", "listener_manager.workers_started: 1"},
	} {
		got := s.Page("/stats?usedonly&filter=" + strings.NewReplacer("^", "%5E", "|", "%7C", "\\", "%5C", "$", "%24").Replace(query))
		for _, line := range want {
			if !strings.Contains(got, line+"\n") {
				t.Errorf("%s: %q, want %s", query, got, line)
			}
		}
	}
	if got := s.Get("0.0.0.0_80", "/"); got != "200 one" {
		t.Errorf("got %s", got)
	}
	if got := s.Get("0.0.0.0_22221", "/healthz/ready"); got != "200 ready" {
		t.Errorf("the probe gets %s", got)
	}
	if got := shown(t, s, "virtualInbound"); got != "me" {
		t.Errorf("shows the certificate %s", got)
	}
	r, err := http.Post("http://"+s.AdminAddress()+"/drain_listeners?inboundonly&graceful", "", nil)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatal(r, err)
	}
	_ = r.Body.Close()
	if got := s.Get("0.0.0.0_80", "/"); got != "200 one" {
		t.Errorf("while it drains: got %s", got)
	}
}

// move gives ports to the kernel to choose, sockets a directory of the test, and the agent's cluster somebody who answers.
func move(v any, key, dir string, agent uint32) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			move(e, key, dir, agent)
		}
	case map[string]any:
		for k, e := range v {
			switch {
			case k == "port_value" && e == float64(22220):
				v[k] = agent
			case k == "port_value":
				v[k] = 0
			case k == "path" && strings.HasSuffix(str(e), "/XDS"):
				v[k] = filepath.Join(dir, "XDS")
			case k == "path" && strings.HasSuffix(str(e), "/socket"):
				v[k] = filepath.Join(dir, "SDS")
			case k == "address" && str(e) == "0.0.0.0":
				v[k] = "127.0.0.1"
			default:
				move(e, k, dir, agent)
			}
		}
	}
}

func str(v any) string {
	s, _ := v.(string)
	return s
}
