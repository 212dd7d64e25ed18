package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/filter/all"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/listener"
	"github.com/outrigger-proxy/outrigger/proxy"
	"github.com/outrigger-proxy/outrigger/proxy/bootstrap"
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

// running is a proxy that serves until the test ends.
type running struct {
	*proxy.Proxy

	ended chan struct{}
}

func options(drain time.Duration) proxy.Options {
	engine := fiber.New
	if os.Getenv("OUTRIGGER_ENGINE") == "goroutine" {
		engine = fiber.NewGoroutines
	}
	return proxy.Options{
		Flags: &adminv3.CommandLineOptions{
			Concurrency: 2, DrainTime: durationpb.New(drain),
			FileFlushInterval: durationpb.New(10 * time.Millisecond),
		},
		Extensions: all.Extensions(), Logs: log.Discard(), Engine: engine,
	}
}

func start(t *testing.T, config string, o proxy.Options) *running {
	t.Helper()
	r, err := bootstrap.Load(bootstrap.Source{YAML: config})
	if err != nil {
		t.Fatal(err)
	}
	p, err := proxy.New(r.Bootstrap, o)
	if err != nil {
		t.Fatal(err)
	}
	run := &running{p, make(chan struct{})}
	go func() { p.Run(); close(run.ended) }() // ends with Quit
	t.Cleanup(func() { p.Quit(); <-run.ended })
	<-p.Live()
	return run
}

func (r *running) dial(t *testing.T) net.Conn {
	t.Helper()
	address := ""
	r.Control.Do(func() { r.Listeners.Each(func(v listener.View) { address = v.Addresses[0].String() }) })
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func send(t *testing.T, c net.Conn, path string) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nhost: x\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c net.Conn) *http.Response {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	res.Body = io.NopCloser(strings.NewReader(string(body)))
	return res
}

// upstream answers when release is closed.
func upstream(t *testing.T) (port string, arrived, release chan struct{}) {
	arrived, release = make(chan struct{}, 10), make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(w, "late")
	})}
	go func() { _ = server.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, arrived, release
}

func TestShutdownLosesNoRequest(t *testing.T) {
	port, arrived, release := upstream(t)
	r := start(t, strings.ReplaceAll(http1, "{{port}}", port), options(time.Minute))
	idle, busy := r.dial(t), r.dial(t)
	send(t, idle, "/direct")
	receive(t, idle)
	send(t, busy, "/slow")
	<-arrived
	signals := make(chan os.Signal)
	go r.HandleSignals(signals) // ends with close
	signals <- syscall.SIGTERM
	close(signals)
	if n, err := idle.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the idle connection: %d, %v; want it closed", n, err)
	}
	close(release)
	if res := receive(t, busy); res.StatusCode != http.StatusOK || !res.Close {
		t.Errorf("the request in flight: %s, close=%v", res.Status, res.Close)
	}
	select {
	case <-r.ended:
	case <-time.After(5 * time.Second):
		t.Error("the process did not end with its last connection")
	}
}

func TestTheDrainTimeEndsAShutdown(t *testing.T) {
	port, arrived, release := upstream(t)
	defer close(release)
	r := start(t, strings.ReplaceAll(http1, "{{port}}", port), options(20*time.Millisecond))
	c := r.dial(t)
	send(t, c, "/for-ever")
	<-arrived
	r.Shutdown()
	<-r.ended
}

func TestInitOnlyAndValidate(t *testing.T) {
	config := strings.ReplaceAll(http1, "{{port}}", "1")
	o := options(time.Second)
	o.Flags.Mode = adminv3.CommandLineOptions_InitOnly
	r := start(t, config, o)
	<-r.ended

	o.Flags.Mode = adminv3.CommandLineOptions_Validate
	b, err := bootstrap.Load(bootstrap.Source{YAML: config})
	if err != nil {
		t.Fatal(err)
	}
	p, err := proxy.New(b.Bootstrap, o)
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
	o := options(time.Second)
	o.Flags.AdminAddressPath = path
	r := start(t, strings.ReplaceAll(http1, "{{port}}", "1"), o)
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
		b, err := bootstrap.Load(bootstrap.Source{YAML: config})
		if err == nil {
			var p *proxy.Proxy
			if p, err = proxy.New(b.Bootstrap, options(time.Second)); err == nil {
				p.Close()
			}
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
