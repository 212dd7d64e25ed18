package listener

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	directresponsev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	httpinspector "github.com/outrigger-proxy/outrigger/filter/listener/http_inspector"
	originaldst "github.com/outrigger-proxy/outrigger/filter/listener/original_dst"
	proxyprotocol "github.com/outrigger-proxy/outrigger/filter/listener/proxy_protocol"
	connectionlimit "github.com/outrigger-proxy/outrigger/filter/network/connection_limit"
	directresponse "github.com/outrigger-proxy/outrigger/filter/network/direct_response"
	"github.com/outrigger-proxy/outrigger/filter/network/echo"
	"github.com/outrigger-proxy/outrigger/internal/control"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// rig is a manager with workers and a control loop.
type rig struct {
	*Manager

	t     *testing.T
	store *stats.Store
	loop  *control.Loop
	warm  []func() // what the listener under construction waits for
}

// eachRig runs f with a rig of n workers on each engine.
func eachRig(t *testing.T, n int, f func(t *testing.T, r *rig)) {
	for name, engine := range fibertest.Engines() {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, n, engine)
			f(t, r)
		})
	}
}

func newRig(t *testing.T, n int, engine func(int) (*fiber.Worker, error)) *rig {
	r := &rig{t: t, store: &stats.Store{}, loop: control.New()}
	var running sync.WaitGroup
	var workers []*fiber.Worker
	for i := range n {
		w, err := engine(i)
		if err != nil {
			t.Fatal(err)
		}
		w.Panicked = func(p any) { t.Errorf("panic in a fiber: %v", p) }
		workers = append(workers, w)
	}
	r.Manager = NewManager(Config{
		Process: &filter.Process{Workers: workers, Stats: r.store, Logs: log.Discard(), Extensions: r.extensions()},
		Control: r.loop, DrainTime: 50 * time.Millisecond,
	})
	for _, w := range workers {
		running.Go(w.Run) // ends with Stop
	}
	running.Go(r.loop.Run) // ends with Stop
	t.Cleanup(func() {
		r.do(r.Close)
		r.eventually("all connections end", func() bool { return r.Connections() == 0 })
		r.loop.Stop()
		for _, w := range workers {
			w.Stop()
		}
		running.Wait()
	})
	return r
}

func (r *rig) extensions() *filter.Extensions {
	e := &filter.Extensions{}
	extension.Add(&e.Network, echo.New)
	extension.Add(&e.Network, connectionlimit.New)
	extension.Add(&e.Network, func(p *directresponsev3.Config, env filter.Env) (any, error) {
		if p.GetResponse().GetInlineString() == "cold\n" {
			r.warm = append(r.warm, env.Listener.Warm())
		}
		return directresponse.New(p, env)
	})
	extension.Add(&e.Listener, httpinspector.New)
	extension.Add(&e.Listener, originaldst.New)
	extension.Add(&e.Listener, proxyprotocol.New)
	return e
}

func (r *rig) do(f func()) { r.loop.Do(f) }

// add adds a listener of YAML and starts it.
func (r *rig) add(text string) {
	r.t.Helper()
	p := read(r.t, text)
	r.do(func() {
		if _, err := r.Update(p, "1"); err != nil {
			r.t.Errorf("%v", err)
		}
		if err := r.Start(); err != nil {
			r.t.Errorf("%v", err)
		}
	})
}

func (r *rig) update(text string) (changed bool) {
	r.t.Helper()
	p := read(r.t, text)
	r.do(func() {
		var err error
		if changed, err = r.Update(p, "2"); err != nil {
			r.t.Errorf("%v", err)
		}
	})
	return changed
}

// address is the n-th address of a listener.
func (r *rig) address(name string, n int) string {
	r.t.Helper()
	at := ""
	r.do(func() {
		r.Each(func(v View) {
			if v.Name == name && v.State == Active {
				at = v.Addresses[n].String()
			}
		})
	})
	if at == "" {
		r.t.Fatalf("listener %s is not active", name)
	}
	return at
}

func (r *rig) dial(name string) net.Conn { r.t.Helper(); return r.dialAt("tcp", r.address(name, 0)) }

func (r *rig) dialAt(network, at string) net.Conn {
	r.t.Helper()
	c, err := net.Dial(network, at)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// answer is all that a listener whose chain is a direct response says.
func (r *rig) answer(name string) string { r.t.Helper(); return r.all(r.dial(name)) }

func (r *rig) all(c net.Conn) string {
	b, _ := io.ReadAll(c)
	return strings.TrimSpace(string(b))
}

func (r *rig) says(c net.Conn, text string) {
	r.t.Helper()
	_, _ = fmt.Fprintln(c, text)
	got, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || strings.TrimSpace(got) != text {
		r.t.Fatalf("got %q %v, want %q", got, err, text)
	}
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for until := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(until) {
			r.t.Fatalf("it does not come to it that %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// stat reads a counter or gauge.
func (r *rig) stat(name string) int64 {
	for _, s := range r.store.Snapshot(func(n string) bool { return n == name }) {
		return int64(s.Counter) + s.Gauge
	}
	return -1
}

const (
	local  = "address: {socket_address: {address: 127.0.0.1, port_value: 0}}\n"
	echoes = "filter_chains: [{filters: [{name: e, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}]}]\n"
)

func direct(text string) string {
	return "filters: [{name: d, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config, response: {inline_string: \"" + text + "\\n\"}}}]"
}

func chainOf(text string) string { return "filter_chains: [{" + direct(text) + "}]\n" }

func TestAcceptsAndCounts(t *testing.T) {
	eachRig(t, 2, func(t *testing.T, r *rig) {
		r.add("name: l\nstat_prefix: a:b\n" + local + echoes)
		c := r.dial("l")
		r.says(c, "hello")
		if r.stat("listener.a_b.downstream_cx_total") != 1 || r.stat("listener.a_b.downstream_cx_active") != 1 {
			t.Error("the connection is not counted")
		}
		if r.stat("listener.a_b.worker_0.downstream_cx_active")+r.stat("listener.a_b.worker_1.downstream_cx_active") != 1 {
			t.Error("the workers do not count it")
		}
		_ = c.Close()
		r.eventually("it is destroyed", func() bool {
			return r.stat("listener.a_b.downstream_cx_destroy") == 1 && r.stat("listener.a_b.downstream_cx_active") == 0
		})
		if r.stat("listener_manager.listener_added") != 1 || r.stat("listener_manager.listener_create_success") != 1 ||
			r.stat("listener_manager.total_listeners_active") != 1 || r.stat("listener_manager.workers_started") != 1 {
			t.Error("the manager does not count")
		}
	})
}

func TestAddresses(t *testing.T) {
	eachRig(t, 2, func(t *testing.T, r *rig) {
		dir := t.TempDir()
		path := filepath.Join(dir, "s")
		r.add("name: l\n" + local + chainOf("hi") + `additional_addresses:
- address: {socket_address: {address: "::1", port_value: 0}}
- address: {socket_address: {address: "::", port_value: 0, ipv4_compat: true}}
- address: {pipe: {path: ` + path + `, mode: 384}}
- address: {pipe: {path: "@outrigger-` + filepath.Base(dir) + `"}}`)
		_, port, _ := net.SplitHostPort(r.address("l", 2))
		for _, at := range [][2]string{
			{"tcp", r.address("l", 0)},
			{"tcp", r.address("l", 1)},
			{"tcp", "127.0.0.1:" + port},
			{"tcp", "[::1]:" + port},
			{"unix", path},
			{"unix", r.address("l", 4)},
		} {
			if got := r.all(r.dialAt(at[0], at[1])); got != "hi" {
				t.Errorf("%v: got %q", at, got)
			}
		}
		if i, err := os.Stat(path); err != nil || i.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", i, err)
		}
	})
}

func TestNothingListensWithoutBindToPort(t *testing.T) {
	eachRig(t, 1, func(t *testing.T, r *rig) {
		r.add("name: l\nbind_to_port: false\naddress: {socket_address: {address: 127.0.0.1, port_value: 9}}\n" + echoes)
		if c, err := net.Dial("tcp", "127.0.0.1:9"); err == nil {
			_ = c.Close()
			t.Error("something listens")
		}
	})
}

func TestUseOriginalDstHandsOver(t *testing.T) {
	eachRig(t, 2, func(t *testing.T, r *rig) {
		const pp = "listener_filters: [{name: p, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol}}]\n"
		r.add("name: front\nuse_original_dst: true\n" + local + pp + chainOf("front"))
		r.add("name: exact\nbind_to_port: false\naddress: {socket_address: {address: 10.0.0.1, port_value: 80}}\n" + chainOf("exact"))
		r.add("name: wild\nbind_to_port: false\naddress: {socket_address: {address: 0.0.0.0, port_value: 80}}\n" + chainOf("wild"))
		for to, want := range map[string]string{"10.0.0.1 1 80": "exact", "10.0.0.2 1 80": "wild", "10.0.0.1 1 81": "front"} {
			c := r.dial("front")
			_, _ = fmt.Fprintf(c, "PROXY TCP4 1.2.3.4 %s\r\n", to)
			if got := r.all(c); got != want {
				t.Errorf("%s: got %q, want %q", to, got, want)
			}
		}
		if r.stat("listener.10.0.0.1_80.downstream_cx_total") != 1 {
			t.Error("the connection counts where it went")
		}
	})
}

func TestNoFilterChainMatch(t *testing.T) {
	eachRig(t, 1, func(t *testing.T, r *rig) {
		r.add("name: l\nstat_prefix: s\n" + local + "filter_chains: [{filter_chain_match: {source_ports: [1]}, " + direct("x") + "}]")
		if got := r.answer("l"); got != "" {
			t.Errorf("got %q", got)
		}
		r.eventually("it is counted", func() bool { return r.stat("listener.s.no_filter_chain_match") == 1 })
		if r.stat("listener.s.downstream_cx_total") != 0 {
			t.Error("it is not a connection")
		}
	})
}

func TestListenerFilterTimeout(t *testing.T) {
	const inspected = "listener_filters: [{name: h, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector}}]\nlistener_filters_timeout: 0.02s\nstat_prefix: s\n"
	eachRig(t, 1, func(t *testing.T, r *rig) {
		r.add("name: l\n" + local + inspected + chainOf("hi"))
		if got := r.answer("l"); got != "" {
			t.Errorf("got %q", got)
		}
		if !r.update("name: l\ncontinue_on_listener_filters_timeout: true\n" + local + inspected + chainOf("hi")) {
			t.Error("it is an update")
		}
		if got := r.answer("l"); got != "hi" {
			t.Errorf("got %q", got)
		}
		if n := r.stat("listener.s.downstream_pre_cx_timeout"); n != 2 {
			t.Errorf("%d timeouts", n)
		}
		_ = r.dial("l").Close()
		r.eventually("the client is gone", func() bool { return r.stat("listener.s.downstream_listener_filter_remote_close") == 1 })
	})
}

func TestFilterDisabled(t *testing.T) {
	eachRig(t, 1, func(t *testing.T, r *rig) {
		r.add("name: l\n" + local + chainOf("hi") + "listener_filters: [{name: h, filter_disabled: {any_match: true}, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol}}]")
		if got := r.answer("l"); got != "hi" {
			t.Errorf("got %q", got)
		}
	})
}
