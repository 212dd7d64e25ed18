package hcm_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/http/router"
	hcm "github.com/outrigger-proxy/outrigger/filter/network/http_connection_manager"
	"github.com/outrigger-proxy/outrigger/internal/control"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// engines are both of them: all tests run on each.
var engines = map[string]func(int) (*fiber.Worker, error){"epoll": fiber.New, "goroutines": fiber.NewGoroutines}

// house is a connection manager with a worker, and whatever it needs.
type house struct {
	t       *testing.T
	w       *fiber.Worker
	m       *hcm.Manager
	env     filter.Env
	panics  int
	control *control.Loop
	logged  chan string // a line per call of the access loggers
}

// newHouse builds a connection manager of a YAML configuration, with one cluster, up; the filters of a test stand before the router.
func newHouse(t *testing.T, engine func(int) (*fiber.Worker, error), config, upstream string, filters ...any) *house {
	t.Helper()
	if upstream == "" {
		return build(t, engine, config, nil, filters...)
	}
	return build(t, engine, config, []string{clusterOf("up", "", upstream)}, filters...)
}

// clusterOf is a static cluster in YAML, with some fields more.
func clusterOf(name, more string, addresses ...string) string {
	var ends []string
	for _, a := range addresses {
		host, port, _ := strings.Cut(a, ":")
		ends = append(ends, "{endpoint: {address: {socket_address: {address: "+host+", port_value: "+port+"}}}}")
	}
	return "{name: " + name + ", type: STATIC, connect_timeout: 1s, " + more + "load_assignment: {cluster_name: x, endpoints: [{locality: {zone: there}, lb_endpoints: [" +
		strings.Join(ends, ", ") + "]}]}}"
}

// build is newHouse with any clusters.
func build(t *testing.T, engine func(int) (*fiber.Worker, error), config string, clusters []string, filters ...any) *house {
	t.Helper()
	w, err := engine(0)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, w: w, control: control.New(), logged: make(chan string, 100)}
	w.Panicked = func(any) { h.panics++ }
	store := &stats.Store{}
	env := filter.Env{Process: &filter.Process{Workers: []*fiber.Worker{w}, Stats: store, Logs: log.Discard(), Extensions: &filter.Extensions{}}}
	env.Clusters = cluster.NewManager(cluster.Env{Workers: env.Workers, Stats: store, Logs: env.Logs, Control: h.control, Locality: cluster.Locality{Zone: "here"}})
	extension.Add(&env.Extensions.Log, func(*streamv3.StdoutAccessLog, filter.Env) (filter.AccessLog, error) { return recorder{h.logged}, nil })
	next := 0
	extension.Add(&env.Extensions.HTTP, router.New)
	extension.Add(&env.Extensions.HTTP, func(_ *hcmv3.HttpFilter, _ filter.Env) (any, error) { // any message will do
		next++
		return filters[next-1], nil
	})
	p := &hcmv3.HttpConnectionManager{}
	parse(t, config, p)
	for range filters {
		a, _ := anypb.New(&hcmv3.HttpFilter{})
		p.HttpFilters = append(p.HttpFilters, &hcmv3.HttpFilter{Name: "test", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: a}})
	}
	a, _ := anypb.New(&routerv3.Router{})
	p.HttpFilters = append(p.HttpFilters, &hcmv3.HttpFilter{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: a}})
	for _, c := range clusters {
		m := &clusterv3.Cluster{}
		parse(t, c, m)
		if err := env.Clusters.Add(m, true); err != nil {
			t.Fatal(err)
		}
	}
	built, err := hcm.New(p, env)
	if err != nil {
		t.Fatal(err)
	}
	h.m, h.env = built.(*hcm.Manager), env
	done := make(chan struct{})
	go func() { h.control.Run(); done <- struct{}{} }() // ends with Stop, below
	env.Clusters.Start(func(then func()) { then() }, func() {})
	go func() { w.Run(); done <- struct{}{} }() // ends with Stop, below
	t.Cleanup(func() {
		w.Stop()
		<-done
		h.control.Stop()
		<-done
	})
	return h
}

func parse(t *testing.T, text string, into proto.Message) {
	t.Helper()
	unknown, err := protofile.Parse([]byte(text), protofile.YAML, into)
	if err != nil || len(unknown) > 0 {
		t.Fatal(unknown, err)
	}
}

// talk opens a connection, sends text and returns what comes until the proxy closes, or n bytes have come.
func (h *house) talk(text string, n int) string {
	h.t.Helper()
	answer := make(chan string)
	h.w.Post(func() {
		a, b := fiber.Pipe(h.w)
		h.open(b)
		h.w.Go(func() { answer <- exchange(h.w, a, text, n) })
	})
	return <-answer
}

func (h *house) open(b fiber.Conn) *filter.Conn {
	c := &filter.Conn{Conn: b, Worker: h.w, Info: &stream.Conn{Start: h.w.Now()}}
	h.m.Open(c)
	return c
}

func exchange(w *fiber.Worker, a fiber.Conn, text string, n int) string {
	defer a.Close()
	if _, err := io.WriteString(a, text); err != nil {
		return err.Error()
	}
	var out []byte
	b := make([]byte, 4096)
	for n <= 0 || len(out) < n {
		got, err := a.Read(b)
		out = append(out, b[:got]...)
		if err != nil {
			break
		}
	}
	return string(out)
}

// upstream serves connections with a script: it answers each request head with what script returns for the n-th.
func upstream(t testing.TB, script func(n int, head string) string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	n := make(chan int, 1)
	n <- 0
	go func() { // ends when the listener is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c, n, script) // ends with the connection
		}
	}()
	return l.Addr().String()
}

func serve(c net.Conn, n chan int, script func(n int, head string) string) {
	defer c.Close()
	b := make([]byte, 64<<10)
	for {
		got, err := c.Read(b)
		if err != nil {
			return
		}
		i := <-n
		n <- i + 1
		answer := script(i, string(b[:got]))
		if answer == "" {
			return
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

const routes = `
stat_prefix: test
route_config:
  virtual_hosts:
  - name: v
    domains: ['*']
    routes:
    - match: {path: /direct}
      direct_response: {status: 200, body: {inline_string: hello}}
    - match: {path: /moved}
      redirect: {path_redirect: /there}
    - match: {path: /retry}
      route: {cluster: up, retry_policy: {retry_on: 5xx, retry_back_off: {base_interval: 0.001s}}}
    - match: {path: /slow}
      route: {cluster: up, timeout: 0.02s}
    - match: {prefix: /}
      route: {cluster: up}
`

// steady is an upstream that answers every read with ok, and allocates nothing.
func steady(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with its connection, which the worker closes
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b, answer := make([]byte, 4096), []byte(ok)
		for err == nil {
			if _, err = c.Read(b); err == nil {
				_, err = c.Write(answer)
			}
		}
	}()
	return l.Addr().String()
}

// logs is a configuration whose streams a test sees in house.logged.
const logs = "access_log: [{name: l, typed_config: {'@type': type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog}}]\n"

// recorder is an access logger whose lines a test reads; it must not wait.
type recorder struct{ lines chan string }

func (r recorder) Log(s *stream.Stream) {
	i := &s.Info
	select {
	case r.lines <- fmt.Sprintf("%s %d %s %s in=%d out=%d", i.LogType, i.Status, i.Flags, i.Details, i.BytesIn, i.BytesOut):
	default:
	}
}

// log waits for the next line of the access loggers.
func (h *house) log() string {
	h.t.Helper()
	select {
	case l := <-h.logged:
		return l
	case <-time.After(10 * time.Second):
		h.t.Fatal("nothing was logged")
	}
	return ""
}

// stat reads a counter or gauge.
func (h *house) stat(name string) uint64 {
	for _, s := range h.env.Stats.Snapshot(func(n string) bool { return n == name }) {
		return s.Counter + uint64(s.Gauge)
	}
	return 0
}

// wants compares statistics, given as name and value.
func (h *house) wants(stats map[string]uint64) {
	h.t.Helper()
	for name, want := range stats {
		if got := h.stat(name); got != want {
			h.t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}

// converse opens a connection; lines are in turn what it says and what it waits for ("EOF": the end), a part of what comes. It
// returns the last thing that came, and closes.
func (h *house) converse(lines ...string) string {
	h.t.Helper()
	answer := make(chan string)
	h.w.Post(func() {
		a, b := fiber.Pipe(h.w)
		h.open(b)
		h.w.Go(func() { answer <- converse(a, lines) })
	})
	return <-answer
}

func converse(a fiber.Conn, lines []string) (last string) {
	defer a.Close()
	b := make([]byte, 4096)
	for i, l := range lines {
		if i%2 == 0 {
			if _, err := io.WriteString(a, l); err != nil {
				return err.Error()
			}
			continue
		}
		for last = ""; !strings.Contains(last, l); {
			n, err := a.Read(b)
			last += string(b[:n])
			if err != nil {
				if last += "EOF"; l != "EOF" {
					return last
				}
			}
		}
	}
	return last
}

// count is how many values a histogram has.
func (h *house) count(name string) uint64 {
	h.env.Stats.Flush()
	for _, s := range h.env.Stats.Snapshot(func(n string) bool { return n == name }) {
		if s.Histogram != nil {
			return s.Histogram.Total().Count()
		}
	}
	return 0
}

func (h *house) pipe() (a, b fiber.Conn) { return fiber.Pipe(h.w) }
