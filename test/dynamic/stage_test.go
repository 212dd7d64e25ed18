// Package dynamic drives a whole proxy with a control plane and looks at what clients see.
package dynamic

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/filter/all"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
	outrigger "github.com/outrigger-proxy/outrigger/proxy"
	"github.com/outrigger-proxy/outrigger/proxy/bootstrap"
	"github.com/outrigger-proxy/outrigger/xdsclient/xdstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stage is a proxy that runs in this process.
type stage struct {
	t   *testing.T
	p   *outrigger.Proxy
	end func() // the process, before the test does
}

// begin starts a proxy and does not wait until it is live.
func begin(t *testing.T, text string) *stage {
	t.Helper()
	return beginKeeping(t, text, "")
}

// beginKeeping starts a proxy that keeps its last good configuration in a directory.
func beginKeeping(t *testing.T, text, dir string) *stage {
	t.Helper()
	r, err := bootstrap.Load(bootstrap.Source{YAML: text})
	if err != nil {
		t.Fatal(err)
	}
	p, err := outrigger.New(r.Bootstrap, outrigger.Options{
		Flags: &adminv3.CommandLineOptions{
			Concurrency: 1, DrainTime: durationpb.New(time.Second), FileFlushInterval: durationpb.New(20 * time.Millisecond),
		},
		Extensions: all.Extensions(), Logs: log.Discard(), Engine: fiber.New, LastGoodDir: dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { p.Run(); close(ended) }() // ends with the test
	s := &stage{t, p, func() {
		p.Quit()
		<-ended
	}}
	t.Cleanup(s.end)
	return s
}

const patience = 10 * time.Second

func (s *stage) live() *stage {
	s.t.Helper()
	select {
	case <-s.p.Live():
	case <-time.After(patience):
		s.t.Fatalf("the proxy is not live: %s", s.admin("/init_dump"))
	}
	return s
}

func (s *stage) admin(path string) string {
	s.t.Helper()
	r, err := http.Get("http://" + s.p.AdminAddress() + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// stat reads a statistic; empty if there is none.
func (s *stage) stat(name string) string {
	for line := range strings.Lines(s.admin("/stats?filter=^" + name + "$")) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && k == name {
			return v
		}
	}
	return ""
}

// until waits for what is true of the process.
func (s *stage) until(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("never: %s\n%s", what, s.admin("/stats?usedonly"))
		}
	}
}

func (s *stage) untilStat(name, value string) {
	s.t.Helper()
	s.until(name+": "+value, func() bool { return s.stat(name) == value })
}

// address of a listener.
func (s *stage) address(name string) string {
	s.t.Helper()
	for line := range strings.Lines(s.admin("/listeners")) {
		if n, a, ok := strings.Cut(strings.TrimSpace(line), "::"); ok && n == name {
			return a
		}
	}
	s.t.Fatalf("there is no listener %s", name)
	return ""
}

// get asks a listener for a path and returns status and body.
func (s *stage) get(listener, path string) string {
	s.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return ask(s.t, c, "http://"+s.address(listener)+path)
}

func ask(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	r, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", r.StatusCode, b)
}

// dump reads /config_dump into m: one of its parts.
func (s *stage) dump(resource string) (list []map[string]any) {
	s.t.Helper()
	var d struct {
		Configs []map[string]any `json:"configs"`
	}
	text := s.admin("/config_dump?resource=" + resource)
	if err := json.NewDecoder(bytes.NewBufferString(text)).Decode(&d); err != nil {
		s.t.Fatalf("%v: %s", err, text)
	}
	return d.Configs
}

// upstream answers with its name.
func upstream(t *testing.T, name string) (port uint32) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }))
	t.Cleanup(s.Close)
	return uint32(s.Listener.Addr().(*net.TCPAddr).Port)
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
