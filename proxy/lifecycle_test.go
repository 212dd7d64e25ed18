package proxy_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/test/harness"
)

const http1 = `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config:
            name: local
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {path: /direct}
                direct_response: {status: 200}
              - match: {prefix: /}
                route: {cluster: a, timeout: 0s}
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: a
    load_assignment:
      cluster_name: a
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: {{port}}}}}}]}]
`

// two workers, that drain for so long.
func two(drain time.Duration) harness.Option {
	return harness.Flags(func(f *adminv3.CommandLineOptions) { f.Concurrency, f.DrainTime = 2, durationpb.New(drain) })
}

// upstream answers when release is closed.
func upstream(t *testing.T) (port string, arrived, release chan struct{}) {
	arrived, release = make(chan struct{}, 10), make(chan struct{})
	address := harness.Host(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(w, "late")
	})
	return harness.Port(address), arrived, release
}

func TestShutdownLosesNoRequest(t *testing.T) {
	port, arrived, release := upstream(t)
	r := harness.Start(t, strings.ReplaceAll(http1, "{{port}}", port), two(time.Minute))
	idle, busy := harness.Dial(t, r.Address("in")), harness.Dial(t, r.Address("in"))
	if _, err := harness.Exchange(idle, "/direct"); err != nil {
		t.Fatal(err)
	}
	_ = harness.Send(busy, "/slow")
	<-arrived
	signals := make(chan os.Signal)
	go r.HandleSignals(signals) // ends with close
	signals <- syscall.SIGTERM
	close(signals)
	if n, err := idle.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the idle connection: %d, %v; want it closed", n, err)
	}
	close(release)
	if res, err := harness.Receive(busy); err != nil || res.Status != http.StatusOK || !res.Close {
		t.Errorf("the request in flight: %+v, %v", res, err)
	}
	select {
	case <-r.Ended():
	case <-time.After(5 * time.Second):
		t.Error("the process did not end with its last connection")
	}
}

func TestTheDrainTimeEndsAShutdown(t *testing.T) {
	port, arrived, release := upstream(t)
	defer close(release)
	r := harness.Start(t, strings.ReplaceAll(http1, "{{port}}", port), two(20*time.Millisecond))
	_ = harness.Send(harness.Dial(t, r.Address("in")), "/for-ever")
	<-arrived
	r.Shutdown()
	<-r.Ended()
}

func TestInitOnlyAndValidate(t *testing.T) {
	config := strings.ReplaceAll(http1, "{{port}}", "1")
	mode := func(m adminv3.CommandLineOptions_Mode) harness.Option {
		return harness.Flags(func(f *adminv3.CommandLineOptions) { f.Mode = m })
	}
	<-harness.Start(t, config, mode(adminv3.CommandLineOptions_InitOnly)).Ended()

	p, err := harness.New(config, mode(adminv3.CommandLineOptions_Validate))
	if err != nil {
		t.Fatal(err)
	}
	p.Control.Post(func() {})
	if a := p.AdminAddress(); a != "" {
		t.Errorf("validation opened the admin interface at %s", a)
	}
	p.Close()
}

func TestAdminAddressPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin")
	r := harness.Start(t, strings.ReplaceAll(http1, "{{port}}", "1"), harness.Flags(func(f *adminv3.CommandLineOptions) { f.AdminAddressPath = path }))
	if b, err := os.ReadFile(path); err != nil || string(b) != r.AdminAddress() {
		t.Errorf("%q, %v; want %s", b, err, r.AdminAddress())
	}
}

func TestWhatCannotBeHonouredIsRefused(t *testing.T) {
	for want, config := range map[string]string{
		"dynamic_resources.lds_config.ads: there is no ads_config":              `{node: {id: a, cluster: b}, dynamic_resources: {lds_config: {ads: {}}}}`,
		"overload_manager.resource_monitors[0]: didn't find":                    `overload_manager: {resource_monitors: [{name: x}]}`,
		"cluster_manager: local_cluster_name: local cluster":                    `cluster_manager: {local_cluster_name: none}`,
		"stats_config: stats_tags[0]: regex":                                    `stats_config: {stats_tags: [{tag_name: a, regex: "("}]}`,
		"stats_config: stats_matcher: exclusion_list":                           `stats_config: {stats_matcher: {exclusion_list: {patterns: [{safe_regex: {regex: "("}}]}}}`,
		"admin: address: socket_address.address: malformed IP address: nowhere": `admin: {address: {socket_address: {address: nowhere, port_value: 0}}}`,
		`listener "l": `: `static_resources: {listeners: [{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 0}}, filter_chains: [{filters: [{name: x}]}]}]}`,
		`cluster "c": `:  `static_resources: {clusters: [{name: c, lb_policy: MAGLEV, type: EDS}]}`,
	} {
		p, err := harness.New(config)
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", config, err, want)
		}
	}
}

// read returns the text of a file once it has n lines.
func read(t *testing.T, path string, n int) (text string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		b, err := os.ReadFile(path)
		if text = string(b); err == nil && strings.Count(text, "\n") >= n {
			break
		}
	}
	return text
}
