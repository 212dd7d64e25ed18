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
	echov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/echo/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/listener/http_inspector"
	"github.com/outrigger-proxy/outrigger/filter/listener/original_dst"
	"github.com/outrigger-proxy/outrigger/filter/listener/proxy_protocol"
	"github.com/outrigger-proxy/outrigger/filter/network/connection_limit"
	"github.com/outrigger-proxy/outrigger/filter/network/direct_response"
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

var _ = echov3.Echo{}

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
			{"tcp", r.address("l", 0)}, {"tcp", r.address("l", 1)}, {"tcp", "127.0.0.1:" + port}, {"tcp", "[::1]:" + port},
			{"unix", path}, {"unix", r.address("l", 4)},
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

func TestUpdates(t *testing.T) {
	eachRig(t, 2, func(t *testing.T, r *rig) {
		two := func(a, b string) string {
			return "name: l\nstat_prefix: s\n" + local + "filter_chains:\n- {name: a, filter_chain_match: {source_prefix_ranges: [{address_prefix: 127.0.0.1, prefix_len: 32}]}, filters: [" + a + "]}\n- {name: b, " + direct(b) + "}"
		}
		const e = "{name: e, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}"
		r.add(two(e, "x"))
		at := r.address("l", 0)
		c := r.dial("l")
		r.says(c, "one")

		if r.update(two(e, "x")) {
			t.Error("the same is no update")
		}
		if !r.update(two(e, "y")) || r.address("l", 0) != at {
			t.Error("an update of one chain leaves the socket")
		}
		r.says(c, "two")
		r.eventually("chain b has drained", func() bool { return r.stat("listener_manager.total_filter_chains_draining") == 0 })
		r.says(c, "three") // chain a is the same

		limited := "{name: l, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit, stat_prefix: x, max_connections: 9}}, " + e
		r.update(two(limited, "y"))
		if got := r.all(c); got != "" {
			t.Errorf("got %q", got)
		}
		d := r.dial("l")
		r.says(d, "new")
		if r.stat("listener_manager.listener_in_place_updated") != 2 || r.stat("listener_manager.listener_modified") != 2 {
			t.Error("updates are not counted")
		}

		r.update("name: l\ntcp_backlog_size: 9\nstat_prefix: s\n" + local + chainOf("moved"))
		if r.address("l", 0) == at {
			t.Error("other sockets have another port")
		}
		if got := r.answer("l"); got != "moved" {
			t.Errorf("got %q", got)
		}
		if got := r.all(d); got != "" {
			t.Errorf("got %q", got)
		}
		r.eventually("the old one is gone", func() bool { return r.stat("listener_manager.total_listeners_draining") == 0 })
		if _, err := net.Dial("tcp", at); err == nil {
			t.Error("the old address is closed")
		}
	})
}

func TestWarming(t *testing.T) {
	eachRig(t, 1, func(t *testing.T, r *rig) {
		r.add("name: l\n" + local + chainOf("old"))
		r.update("name: l\n" + local + chainOf("cold"))
		var states []State
		r.do(func() { r.Each(func(v View) { states = append(states, v.State) }) })
		if len(states) != 2 || states[0] != Active || states[1] != Warming {
			t.Errorf("%v", states)
		}
		if got := r.answer("l"); got != "old" {
			t.Errorf("got %q", got)
		}
		r.do(r.warm[0])
		if got := r.answer("l"); got != "cold" {
			t.Errorf("got %q", got)
		}
	})
}

func TestRemove(t *testing.T) {
	eachRig(t, 2, func(t *testing.T, r *rig) {
		r.add("name: l\n" + local + echoes)
		at, c := r.address("l", 0), r.dial("l")
		r.says(c, "x")
		r.do(func() {
			if !r.Remove("l") || r.Remove("l") {
				t.Error("it is there once")
			}
		})
		if got := r.all(c); got != "" {
			t.Errorf("got %q", got)
		}
		r.eventually("nothing listens", func() bool {
			c, err := net.Dial("tcp", at)
			if err == nil {
				_ = c.Close()
			}
			return err != nil
		})
	})
}

func TestRefusedUpdateLeavesTheOldOne(t *testing.T) {
	eachRig(t, 1, func(t *testing.T, r *rig) {
		r.add("name: l\n" + local + chainOf("old"))
		bad := read(t, "name: l\n"+local+"filter_chains: [{filters: [{name: e, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}, {name: e, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}]}]")
		r.do(func() {
			_, err := r.Update(bad, "3")
			if want := `listener "l": filter_chains[0].filters[0]: terminal filter named e of type envoy.extensions.filters.network.echo.v3.Echo must be the last filter in a network filter chain`; err == nil || err.Error() != want {
				t.Errorf("got %v", err)
			}
		})
		if got := r.answer("l"); got != "old" {
			t.Errorf("got %q", got)
		}
		if r.stat("listener_manager.listener_create_failure") != 1 {
			t.Error("the failure is not counted")
		}
	})
}

func TestStaticListeners(t *testing.T) {
	eachRig(t, 1, func(t *testing.T, r *rig) {
		p := read(t, "name: l\n"+local+chainOf("static"))
		r.do(func() {
			if err := r.Add(p); err != nil {
				t.Error(err)
			}
			if changed, err := r.Update(read(t, "name: l\n"+local+chainOf("x")), "1"); changed || err != nil {
				t.Errorf("%v %v", changed, err)
			}
			if r.Remove("l") {
				t.Error("a static listener stays")
			}
			if err := r.Start(); err != nil {
				t.Error(err)
			}
			same := read(t, "name: m\naddress: {socket_address: {address: 127.0.0.1, port_value: 80}}\nbind_to_port: false\n"+chainOf("x"))
			if err := r.Add(same); err != nil {
				t.Error(err)
			}
			same.Name = "n"
			if err := r.Add(same); err == nil || !strings.Contains(err.Error(), "has duplicate address '127.0.0.1:80' as existing listener 'm'") {
				t.Errorf("got %v", err)
			}
		})
		if got := r.answer("l"); got != "static" {
			t.Errorf("got %q", got)
		}
	})
}

func TestStopAccepting(t *testing.T) {
	eachRig(t, 1, func(t *testing.T, r *rig) {
		r.add("name: in\ntraffic_direction: INBOUND\n" + local + echoes)
		r.add("name: out\n" + local + chainOf("out"))
		at, c := r.address("in", 0), r.dial("in")
		r.says(c, "x")
		r.do(func() { r.StopAccepting(true) })
		r.eventually("in is closed", func() bool {
			c, err := net.Dial("tcp", at)
			if err == nil {
				_ = c.Close()
			}
			return err != nil
		})
		r.says(c, "y")
		if got := r.answer("out"); got != "out" {
			t.Errorf("got %q", got)
		}
		if r.stat("listener_manager.listener_stopped") != 1 {
			t.Error("it is not counted")
		}
	})
}

func TestExactBalance(t *testing.T) {
	eachRig(t, 3, func(t *testing.T, r *rig) {
		r.add("name: l\nstat_prefix: s\nconnection_balance_config: {exact_balance: {}}\n" + local + echoes)
		for range 9 {
			r.says(r.dial("l"), "x")
		}
		for i := range 3 {
			if n := r.stat(fmt.Sprintf("listener.s.worker_%d.downstream_cx_active", i)); n != 3 {
				t.Errorf("worker %d has %d", i, n)
			}
		}
	})
}

func TestFilterChainMatcher(t *testing.T) {
	const ports = `filter_chain_matcher:
  matcher_tree:
    input: {name: p, typed_config: {'@type': type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.DestinationPortInput}}
    exact_match_map: {map: {'80': {action: {name: x, typed_config: {'@type': type.googleapis.com/google.protobuf.StringValue, value: a}}},
                            '81': {action: {name: x, typed_config: {'@type': type.googleapis.com/google.protobuf.StringValue, value: nobody}}}}}
`
	eachRig(t, 1, func(t *testing.T, r *rig) {
		r.add("name: l\nstat_prefix: s\n" + local + ports + "filter_chains: [{name: a, " + direct("a") + "}]\ndefault_filter_chain: {" + direct("default") + "}\n" +
			"listener_filters: [{name: p, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol}}]")
		for port, want := range map[string]string{"80": "a", "81": "", "82": "default"} {
			c := r.dial("l")
			_, _ = fmt.Fprintf(c, "PROXY TCP4 1.2.3.4 10.0.0.1 1 %s\r\n", port)
			if got := r.all(c); got != want {
				t.Errorf("%s: got %q, want %q", port, got, want)
			}
		}
		if r.stat("listener.s.no_filter_chain_match") != 1 {
			t.Error("an action that names no chain is no match")
		}
		for chains, want := range map[string]string{
			"[{name: a}, {name: a}]": `listener "m": filter_chains[1]: "name" field is duplicated with value 'a'`,
			"[{}]":                   `listener "m": filter_chains[0]: "name" field is required when using a listener matcher`,
		} {
			p := read(t, "name: m\n"+local+ports+"filter_chains: "+chains)
			r.do(func() {
				if _, err := r.Update(p, "1"); err == nil || err.Error() != want {
					t.Errorf("got %v, want %s", err, want)
				}
			})
		}
	})
}
