package hcm_test

import (
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/filter"
)

// routed is a configuration with these routes.
func routed(routes string) string {
	return logs + "stat_prefix: test\ndelayed_close_timeout: 0.01s\nroute_config: {virtual_hosts: [{name: v, domains: ['*'], virtual_clusters: [{name: vc, headers: [{name: ':path', string_match: {prefix: /}}]}], " +
		"routes: [" + routes + "]}]}\n"
}

func get(path string, headers ...string) string {
	return "GET " + path + " HTTP/1.1\r\nhost: a\r\n" + strings.Join(append(headers, "connection: close\r\n"), "\r\n") + "\r\n"
}

// tale is a request, what comes of it, and what is counted.
type tale struct {
	name     string
	routes   string
	clusters func(t *testing.T) []string
	request  string
	want     string // in the response
	log      string
	stats    map[string]uint64
}

func (c *tale) tell(t *testing.T) {
	for engine, start := range engines {
		t.Run(c.name+"/"+engine, func(t *testing.T) {
			h := build(t, start, routed(c.routes), c.clusters(t))
			if got := h.talk(c.request, 0); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q in it", got, c.want)
			}
			if got := h.log(); !strings.HasPrefix(got, c.log) {
				t.Errorf("logged %q, want %q", got, c.log)
			}
			h.settle()
			h.wants(c.stats)
		})
	}
}

// one is a cluster with one host that follows a script.
func one(more string, script func(n int, head string) string) func(t *testing.T) []string {
	return func(t *testing.T) []string { return []string{clusterOf("up", more, upstream(t, script))} }
}

// silent never answers, before the test is over.
func silent(more string) func(t *testing.T) []string {
	return func(t *testing.T) []string {
		release := newGate(t)
		return []string{clusterOf("up", more, upstream(t, func(int, string) string { <-release; return "" }))}
	}
}

func always(answer string) func(int, string) string {
	return func(int, string) string { return answer }
}

// failing answers the first n requests with 503.
func failing(n int) func(int, string) string {
	return func(i int, _ string) string {
		if i < n {
			return "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"
		}
		return ok
	}
}

func TestStatistics(t *testing.T) {
	for _, c := range []tale{
		{
			"a response", "{match: {prefix: /}, route: {cluster: up}, stat_prefix: r}", one("", always(ok)), get("/"), "200 OK",
			"DownstreamEnd 200 - via_upstream",
			map[string]uint64{
				"vhost.v.vcluster.vc.upstream_rq_total": 1, "vhost.v.vcluster.vc.upstream_rq_200": 1, "vhost.v.route.r.upstream_rq_total": 1,
				"cluster.up.zone.here.there.upstream_rq_200": 1, "cluster.up.zone.here.there.upstream_rq_2xx": 1,
				"cluster.up.zone.here.there.upstream_rq_completed": 1, "cluster.up.upstream_rq_tx_reset": 0,
			},
		},
		{
			"max_stream_duration of the cluster", "{match: {prefix: /}, route: {cluster: up}}", silent("common_http_protocol_options: {max_stream_duration: 0.05s}, "),
			get("/"), "upstream max stream duration reached", "DownstreamEnd 504 UMSDR upstream_max_stream_duration_reached",
			map[string]uint64{
				"cluster.up.upstream_rq_max_duration_reached": 1, "cluster.up.upstream_rq_completed": 0, "cluster.up.upstream_rq_timeout": 0,
			},
		},
		{
			"max_stream_duration within the body", "{match: {prefix: /}, route: {cluster: up}}",
			one("common_http_protocol_options: {max_stream_duration: 0.05s}, ", always("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok")),
			get("/"), "200 OK", "DownstreamEnd 200 UMSDR upstream_max_stream_duration_reached",
			map[string]uint64{
				"cluster.up.upstream_rq_max_duration_reached": 1, "http.test.downstream_rq_tx_reset": 1, "http.test.downstream_rq_rx_reset": 1,
			},
		},
		{
			"max_stream_duration is tried again", "{match: {prefix: /}, route: {cluster: up, retry_policy: {retry_on: reset, num_retries: 1, retry_back_off: {base_interval: 0.001s}}}}",
			silent("common_http_protocol_options: {max_stream_duration: 0.02s}, "), get("/"), "504 Gateway Timeout", "DownstreamEnd 504 ",
			map[string]uint64{
				"cluster.up.upstream_rq_max_duration_reached": 2, "cluster.up.upstream_rq_retry": 1, "vhost.v.vcluster.vc.upstream_rq_total": 2,
			},
		},
	} {
		c.tell(t)
	}
}

func TestTimeoutBudgets(t *testing.T) {
	const routes = `{match: {prefix: /}, route: {cluster: up, timeout: 0.05s, retry_policy: {retry_on: 5xx, retry_back_off: {base_interval: 0.001s}}}}`
	const more = "track_cluster_stats: {timeout_budgets: true, request_response_sizes: true}, "
	for _, c := range []struct {
		name     string
		clusters func(*testing.T) []string
		want     map[string]uint64 // how many values
	}{
		{"a response", one(more, always(ok)), map[string]uint64{"timeout_budget_percent_used": 1, "timeout_budget_per_try_percent_used": 1}},
		{"two attempts", one(more, failing(1)), map[string]uint64{"timeout_budget_percent_used": 1, "timeout_budget_per_try_percent_used": 2}},
		{"no response", silent(more), map[string]uint64{"timeout_budget_percent_used": 1, "timeout_budget_per_try_percent_used": 0}},
		{"the host hangs up", one(more, always("")), map[string]uint64{"timeout_budget_percent_used": 0, "timeout_budget_per_try_percent_used": 2}},
	} {
		for engine, start := range engines {
			t.Run(c.name+"/"+engine, func(t *testing.T) {
				h := build(t, start, routed(routes), c.clusters(t))
				h.talk(get("/"), 0)
				h.settle()
				for name, want := range c.want {
					if got := h.count("cluster.up.upstream_rq_" + name); got != want {
						t.Errorf("%s: %d values, want %d", name, got, want)
					}
				}
			})
		}
	}
}

func TestPerTryIdleTimeout(t *testing.T) {
	c := tale{
		"silent", "{match: {prefix: /}, route: {cluster: up, timeout: 0s, retry_policy: {retry_on: 5xx, num_retries: 1, per_try_idle_timeout: 0.02s, retry_back_off: {base_interval: 0.001s}}}}",
		silent(""), get("/"), "upstream request timeout", "DownstreamEnd 504 UT,URX upstream_per_try_idle_timeout",
		map[string]uint64{"cluster.up.upstream_rq_per_try_idle_timeout": 2, "cluster.up.upstream_rq_retry": 1, "cluster.up.upstream_rq_retry_limit_exceeded": 1},
	}
	c.tell(t)
}

// Drain tells a client that keeps its connection to close it.
func TestDrainClosesIdleConnections(t *testing.T) {
	for engine, start := range engines {
		t.Run(engine, func(t *testing.T) {
			h := newHouse(t, start, routed("{match: {prefix: /}, direct_response: {status: 200}}"), "")
			got := make(chan string)
			h.w.Post(func() {
				a, b := h.pipe()
				c := h.open(b)
				h.w.Go(func() { got <- converse(a, []string{"GET / HTTP/1.1\r\nhost: a\r\n\r\n", "\r\n\r\n", "", "EOF"}) })
				h.w.Go(func() {
					for h.stat("http.test.downstream_rq_2xx") == 0 && h.w.Sleep(time.Millisecond) == nil {
					}
					_ = h.w.Sleep(5 * time.Millisecond)
					c.Drain()
				})
			})
			if s := <-got; s != "EOF" {
				t.Errorf("got %q", s)
			}
			h.settle()
			h.wants(map[string]uint64{"http.test.downstream_cx_drain_close": 1, "http.test.downstream_cx_destroy_local": 1})
		})
	}
}

// active notes how many upstream requests are under way when a response goes out.
type active struct {
	h    *house
	seen uint64
}

func (a *active) OnResponse(*filter.Stream) filter.Status {
	a.seen = a.h.stat("cluster.up.upstream_rq_active")
	return filter.Continue
}

// TestGivenUpBeforeTheReply looks at a timeout, and at a response that another attempt was ahead of: nothing else of the upstream is held.
func TestGivenUpBeforeTheReply(t *testing.T) {
	for _, c := range []struct {
		route, status string
		held          uint64
	}{
		{"timeout: 0.05s", "504", 0},
		{"timeout: 2s, retry_policy: {retry_on: 5xx, num_retries: 1, per_try_timeout: 0.05s}, hedge_policy: {hedge_on_per_try_timeout: true}", "200", 1},
	} {
		for engine, start := range engines {
			t.Run(c.status+"/"+engine, func(t *testing.T) {
				release := newGate(t)
				script := func(n int, _ string) string {
					if n == 0 {
						<-release
						return ""
					}
					return "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
				}
				a := &active{seen: 99}
				a.h = build(t, start, routed("{match: {prefix: /}, route: {cluster: up, "+c.route+"}}"), one("", script)(t), a)
				if got := a.h.talk(get("/"), 0); !strings.HasPrefix(got, "HTTP/1.1 "+c.status) || a.seen != c.held {
					t.Errorf("%d requests are under way; got %q", a.seen, got)
				}
			})
		}
	}
}
