package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	"github.com/outrigger-proxy/outrigger/cluster/health"
	"github.com/outrigger-proxy/outrigger/internal/control"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/lb"
)

// turn runs what was posted to the loop so far, and what that posts.
func turn(loop *control.Loop) {
	ended := make(chan struct{})
	left := 3
	var last func()
	last = func() {
		if left--; left == 0 {
			loop.Stop()
			return
		}
		loop.Post(last)
	}
	loop.Post(last)
	go func() { loop.Run(); close(ended) }() // ends with Stop
	<-ended
}

func standing(c *Cluster) string {
	var l []string
	for _, h := range c.Hosts() {
		l = append(l, h.Standing().String())
	}
	return strings.Join(l, " ")
}

func TestEjectedHostsAreNotPicked(t *testing.T) {
	w := &fiber.Worker{}
	m, loop := manager(w)
	if err := m.Add(read(t, "outlier_detection: {max_ejection_percent: 100}\n"+assignment(endpoints("", "", ""))), true); err != nil {
		t.Fatal(err)
	}
	c := m.Get("c")
	for range 5 {
		c.Hosts()[1].Outlier.Status(500)
	}
	turn(loop)
	if got := counted(c, w, 10, lb.Request{}); got[1] != 5 || got[3] != 5 {
		t.Errorf("%v", got)
	}
	if s := standing(c); s != "healthy /failed_outlier_check healthy" {
		t.Error(s)
	}
	if c.Stats.MembershipHealthy.Value() != 2 || c.Stats.MembershipTotal.Value() != 3 || c.Stats.MembershipChange.Value() != 1 {
		t.Error("statistics")
	}
}

const checks = "health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {}}]\n"

// passed lets the checks of a host say this.
func passed(c *Cluster, host int, f health.Flags) {
	m := c.Hosts()[host].member
	first := m.flags.Has(health.FailedActive)
	for i := range m.checks {
		m.checks[i].flags = f
	}
	c.checked(m, health.Result{Changed: true, Passed: !f.Has(health.FailedActive), First: first})
}

func TestChecksGateWarming(t *testing.T) {
	for _, warm := range []bool{true, false} {
		m, loop := manager(&fiber.Worker{})
		text := checks + assignment(endpoints("", ", endpoint: {health_check_config: {disable_active_health_check: true}, address: {socket_address: {address: 10.0.0.2, port_value: 80}}}"))
		text = strings.Replace(text, "{endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: 80}}}, ", "{", 1)
		if !warm {
			text += "wait_for_warm_on_init: false"
		}
		if err := m.Add(read(t, text), true); err != nil {
			t.Fatal(err)
		}
		c, ready := m.Get("c"), false
		m.Start(func(then func()) { then() }, func() { ready = true })
		if ready == warm {
			t.Errorf("ready before the first check: %v", ready)
		}
		if s := standing(c); s != "/failed_active_hc healthy" {
			t.Error(s)
		}
		c.Hosts()[0].member.checks[0].session.Close() // ends the wait for the first check
		if !ready {
			t.Error("not ready though nothing is awaited")
		}
		m.Close()
		turn(loop)
	}
}

func TestChecksDecide(t *testing.T) {
	w := &fiber.Worker{}
	m, loop := manager(w)
	if err := m.Add(read(t, checks+"common_lb_config: {ignore_new_hosts_until_first_hc: true}\n"+assignment(endpoints("", "", ""))), true); err != nil {
		t.Fatal(err)
	}
	c := m.Get("c")
	if c.Stats.MembershipHealthy.Value() != 0 || c.Stats.MembershipExcluded.Value() != 3 {
		t.Error("hosts count before their first check")
	}
	for i := range 3 {
		c.Hosts()[i].member.checks[0].session.Close()
	}
	passed(c, 0, 0)
	passed(c, 1, health.DegradedActive)
	passed(c, 2, health.FailedActive)
	c.warm = true
	c.touch()
	turn(loop)
	if s := standing(c); s != "healthy /degraded_active_hc /failed_active_hc" {
		t.Error(s)
	}
	s := c.Stats
	if s.MembershipHealthy.Value() != 1 || s.MembershipDegraded.Value() != 1 || s.MembershipExcluded.Value() != 0 {
		t.Error("statistics")
	}
}

// TestDiscoveryForgets keeps a host that discovery no longer knows for as long as it passes its checks, unless that is switched off.
func TestDiscoveryForgets(t *testing.T) {
	for config, kept := range map[string]bool{"": true, "ignore_health_on_host_removal: true\n": false} {
		m, _ := manager(&fiber.Worker{})
		if err := m.Add(read(t, config+checks+assignment(endpoints("", "", ""))), true); err != nil {
			t.Fatal(err)
		}
		c := m.Get("c")
		passed(c, 0, 0)
		passed(c, 1, 0)
		before := c.Hosts()[1].Peer
		a := *c.config.assignment
		a.Groups = append(a.Groups[:0:0], a.Groups...)
		a.Groups[0].Endpoints = a.Groups[0].Endpoints[:1]
		c.update(&a)
		if !kept {
			if len(c.Hosts()) != 1 {
				t.Error("the hosts are still there")
			}
			continue
		}
		if s := standing(c); s != "healthy /pending_dynamic_removal" || c.Hosts()[1].Peer != before {
			t.Error(s)
		}
		c.update(c.config.assignment)
		if s := standing(c); s != "healthy "+"healthy /failed_active_hc" || c.Hosts()[1].Peer != before {
			t.Errorf("it is back: %s", s)
		}
		c.update(&a)
		passed(c, 1, health.FailedActive)
		if len(c.Hosts()) != 1 || c.Stats.MembershipTotal.Value() != 1 {
			t.Error("it fails, and is still there")
		}
		c.update(&discovery.Assignment{})
		if s := standing(c); s != "/pending_dynamic_removal" {
			t.Error(s)
		}
	}
}

func TestSeveralCheckers(t *testing.T) {
	m, _ := manager(&fiber.Worker{})
	two := "health_checks: [{name: a, timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {}}, {name: b, timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, http_health_check: {path: /}}]\n"
	if err := m.Add(read(t, two+assignment(endpoints(""))), true); err != nil {
		t.Fatal(err)
	}
	c := m.Get("c")
	h := c.Hosts()[0].member
	say := func(i int, f health.Flags) {
		h.checks[i].flags = f
		c.checked(h, health.Result{Changed: true})
	}
	say(0, 0)
	if !h.flags.Has(health.FailedActive) || c.checkStats.Healthy.Value() != 0 {
		t.Error("one of two has passed")
	}
	say(1, health.DegradedActive)
	if h.flags != health.DegradedActive || c.checkStats.Healthy.Value() != 1 || c.checkStats.Degraded.Value() != 1 {
		t.Error("both have passed")
	}
	say(1, health.FailedActive|health.ActiveTimeout)
	if h.flags != health.FailedActive|health.ActiveTimeout || c.checkStats.Healthy.Value() != 0 || c.checkStats.Degraded.Value() != 0 {
		t.Error("one fails again")
	}
	say(1, 0)
	m.Close()
	if c.checkStats.Healthy.Value() != 0 {
		t.Error("counted after the end")
	}
}

func TestCheckTarget(t *testing.T) {
	m, _ := manager(&fiber.Worker{})
	for config, want := range map[string]string{
		"":                 "10.0.0.1:80",
		"port_value: 8080": "10.0.0.1:8080",
		"address: {socket_address: {address: 10.9.9.9, port_value: 9}}": "10.9.9.9:9",
	} {
		text := checks + "load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {health_check_config: {" + config + "}, address: {socket_address: {address: 10.0.0.1, port_value: 80}}}}]}]}"
		if err := m.Add(read(t, text), true); err != nil {
			t.Fatal(err)
		}
		c := m.Get("c")
		if got := c.checkTarget(c.Hosts()[0].member, c.config.checks[0]).Address.String(); got != want {
			t.Errorf("%s: checks go to %s", config, got)
		}
	}
}

// TestReturnFromEjectionIsNoNewStart keeps the time since when a host is in service.
func TestReturnFromEjectionIsNoNewStart(t *testing.T) {
	m, loop := manager(&fiber.Worker{})
	m.epoch = m.epoch.Add(-time.Hour)
	if err := m.Add(read(t, "outlier_detection: {max_ejection_percent: 100}\n"+assignment(endpoints(""))), true); err != nil {
		t.Fatal(err)
	}
	c := m.Get("c")
	since := c.Hosts()[0].since
	for range 5 {
		c.Hosts()[0].Outlier.Status(500)
	}
	turn(loop)
	if h := c.Hosts()[0]; !h.Flags.Has(health.FailedOutlier) || h.since != since {
		t.Errorf("%v %v", h.Flags, h.since)
	}
}

// TestCheckSocket takes the transport socket of checks from their own criteria, not from those of the host.
func TestCheckSocket(t *testing.T) {
	m, _ := manager(&fiber.Worker{})
	text := strings.Replace(checks, "tcp_health_check", "transport_socket_match_criteria: {x: 1}, tcp_health_check", 1) +
		"transport_socket_matches: [{name: a, match: {x: 1}, transport_socket: {name: raw_buffer, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}}, {name: b, match: {x: 2}, transport_socket: {name: raw_buffer, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}}]\n" +
		assignment(endpoints(", metadata: {filter_metadata: {envoy.transport_socket_match: {x: 2}}}"))
	if err := m.Add(read(t, text), true); err != nil {
		t.Fatal(err)
	}
	c := m.Get("c")
	a, b := &c.sockets.matches[0], &c.sockets.matches[1]
	if a.count.Value() != 0 || b.count.Value() != 1 {
		t.Fatalf("the host itself: %d %d", a.count.Value(), b.count.Value())
	}
	c.checkTarget(c.Hosts()[0].member, c.config.checks[0])
	if a.count.Value() != 1 || b.count.Value() != 1 {
		t.Errorf("its checks: %d %d", a.count.Value(), b.count.Value())
	}
}
