// Package dynamic drives a whole proxy with a control plane and looks at what clients see.
package dynamic

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/test/harness"
	"github.com/outrigger-proxy/outrigger/xdsclient/xdstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// upstream answers with its name.
func upstream(t *testing.T, name string) uint32 {
	t.Helper()
	return port(harness.Host(t, harness.Says(name)))
}

// port is that of an address.
func port(address string) uint32 {
	n, _ := strconv.ParseUint(harness.Port(address), 10, 16)
	return uint32(n)
}

// read makes a message of YAML.
func read[M proto.Message](t *testing.T, m M, format string, args ...any) M {
	t.Helper()
	unknown, err := protofile.Parse(fmt.Appendf(nil, format, args...), protofile.YAML, m)
	if err == nil {
		err = protofile.Refuse(unknown)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func edsCluster(t *testing.T, name string) *clusterv3.Cluster {
	return read(t, &clusterv3.Cluster{}, "{name: '%s', type: EDS, connect_timeout: 1s, eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}}", name)
}

func endpoints(t *testing.T, cluster string, ports ...uint32) *endpointv3.ClusterLoadAssignment {
	var l []string
	for _, p := range ports {
		l = append(l, fmt.Sprintf("{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}", p))
	}
	return read(t, &endpointv3.ClusterLoadAssignment{}, "{cluster_name: '%s', endpoints: [{lb_endpoints: [%s]}]}", cluster, strings.Join(l, ", "))
}

const router = "http_filters: [{name: envoy.filters.http.router, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]"

func rdsListener(t *testing.T, name, routes string) *listenerv3.Listener {
	return read(t, &listenerv3.Listener{}, `{name: "%s", address: {socket_address: {address: 127.0.0.1, port_value: 0}}, filter_chains: [{filters: [{name: hcm, typed_config: {
'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: "%s",
rds: {route_config_name: %s, config_source: {ads: {}, resource_api_version: V3}}, %s}}]}]}`, name, name, routes, router)
}

func routes(t *testing.T, name, cluster string) *routev3.RouteConfiguration {
	return read(t, &routev3.RouteConfiguration{}, "{name: %s, virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: '%s'}}]}]}", name, cluster)
}

// adsBootstrap has an aggregated control plane.
func adsBootstrap(s *xdstest.Server, api string) string {
	return fmt.Sprintf(`
node: {id: me, cluster: here}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
dynamic_resources:
  ads_config: {api_type: %s, transport_api_version: V3, set_node_on_first_message_only: true, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  cds_config: {ads: {}, resource_api_version: V3}
  lds_config: {ads: {}, resource_api_version: V3}
static_resources:
  clusters:
  - {name: xds, type: STATIC, connect_timeout: 1s, load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]}}
`, api, s.Port())
}
