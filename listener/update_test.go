package listener

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

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
