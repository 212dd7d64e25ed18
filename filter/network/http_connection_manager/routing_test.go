package hcm_test

import (
	"strings"
	"testing"
)

// echo answers with the head that it was sent.
func echo(_ int, head string) string {
	return "HTTP/1.1 200 OK\r\nx-heard: " + strings.ReplaceAll(strings.TrimSpace(head), "\r\n", "|") + "\r\ncontent-length: 0\r\n\r\n"
}

const again = "retry_back_off: {base_interval: 0.001s}"

func TestRetries(t *testing.T) {
	pair := func(a, b func(int, string) string, more string) func(*testing.T) []string {
		return func(t *testing.T) []string { return []string{clusterOf("up", more, upstream(t, a), upstream(t, b))} }
	}
	no := always("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")
	for _, c := range []tale{
		{
			"another host", "{match: {prefix: /}, route: {cluster: up, retry_policy: {retry_on: 5xx, num_retries: 1, host_selection_retry_max_attempts: 9, retry_host_predicate: " +
				"[{name: p, typed_config: {'@type': type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}], " + again + "}}}",
			pair(func(n int, h string) string { return no(n, h) }, no, ""), get("/"), "503", "DownstreamEnd 503 URX via_upstream",
			map[string]uint64{"cluster.up.upstream_cx_total": 2, "cluster.up.upstream_rq_retry": 1},
		},
		{
			"a budget that is spent", "{match: {prefix: /}, route: {cluster: up, retry_policy: {retry_on: 5xx, num_retries: 3, " + again + "}}}",
			one("circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 0}, min_retry_concurrency: 0}}]}, ", failing(9)), get("/"), "503",
			"DownstreamEnd 503 UO via_upstream",
			map[string]uint64{"cluster.up.upstream_rq_retry_overflow": 1, "cluster.up.upstream_rq_retry": 0},
		},
		{
			"a budget", "{match: {prefix: /}, route: {cluster: up, retry_policy: {retry_on: 5xx, num_retries: 3, " + again + "}}}",
			one("circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 20}, min_retry_concurrency: 1}}]}, ", failing(2)), get("/"), "200 OK",
			"DownstreamEnd 200 - via_upstream",
			map[string]uint64{"cluster.up.upstream_rq_retry_success": 1, "cluster.up.upstream_rq_retry": 2},
		},
		{
			"with its body", "{match: {prefix: /}, route: {cluster: up, retry_policy: {retry_on: 5xx, " + again + "}}}",
			one("", func(n int, head string) string {
				if n == 1 && strings.HasSuffix(head, "abc") {
					return ok
				}
				return no(n, head)
			}), "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc", "200 OK", "DownstreamEnd 200 - via_upstream in=3", nil,
		},
	} {
		c.tell(t)
	}
}

func TestHedging(t *testing.T) {
	c := tale{
		"the second is faster", "{match: {prefix: /}, route: {cluster: up, hedge_policy: {hedge_on_per_try_timeout: true}, retry_policy: {retry_on: 5xx, per_try_timeout: 0.02s}}}",
		func(t *testing.T) []string {
			release := newGate(t)
			return one("", func(n int, _ string) string {
				if n == 0 {
					<-release
				}
				return ok
			})(t)
		}, get("/"), "200 OK", "DownstreamEnd 200 - via_upstream",
		map[string]uint64{"cluster.up.upstream_rq_per_try_timeout": 1, "cluster.up.upstream_rq_total": 2, "cluster.up.upstream_rq_active": 0},
	}
	c.tell(t)
}

func TestInternalRedirects(t *testing.T) {
	to := func(location string) func(int, string) string {
		return func(n int, head string) string {
			if n == 0 {
				return "HTTP/1.1 302 Found\r\nlocation: " + location + "\r\ncontent-length: 0\r\n\r\n"
			}
			return echo(n, head)
		}
	}
	const routes = "{match: {prefix: /}, route: {cluster: up, internal_redirect_policy: {}}}"
	for _, c := range []tale{
		{
			"followed", routes, one("", to("http://b/there")), get("/here"), "GET /there HTTP/1.1|host: b|", "DownstreamEnd 302 - internal_redirect",
			map[string]uint64{"cluster.up.upstream_internal_redirect_succeeded_total": 1, "http.test.downstream_rq_total": 2},
		},
		{
			"of another scheme", routes, one("", to("https://b/there")), get("/here"), "302 Found", "DownstreamEnd 302 - via_upstream",
			map[string]uint64{"http.test.passthrough_internal_redirect_unsafe_scheme": 1, "cluster.up.upstream_internal_redirect_failed_total": 1},
		},
		{
			"to nowhere", routes, one("", to("nowhere")), get("/here"), "location: nowhere", "DownstreamEnd 302 - via_upstream",
			map[string]uint64{"http.test.passthrough_internal_redirect_bad_location": 1},
		},
		{
			"too often", "{match: {prefix: /}, route: {cluster: up, internal_redirect_policy: {max_internal_redirects: 1}}}",
			one("", always("HTTP/1.1 302 Found\r\nlocation: http://b/there\r\ncontent-length: 0\r\n\r\n")), get("/here"), "302 Found", "DownstreamEnd 302 - internal_redirect",
			map[string]uint64{"http.test.passthrough_internal_redirect_too_many_redirects": 1},
		},
	} {
		c.tell(t)
	}
}

func TestMirrors(t *testing.T) {
	for name, c := range map[string]struct {
		policy string
		want   uint64
	}{
		"all":         {"{cluster: m}", 1},
		"none":        {"{cluster: m, runtime_fraction: {default_value: {numerator: 0}}}", 0},
		"not sampled": {"{cluster: m, trace_sampled: false}", 1},
	} {
		for engine, start := range engines {
			t.Run(name+"/"+engine, func(t *testing.T) {
				heard := make(chan string, 1)
				shadow := clusterOf("m", "", upstream(t, func(_ int, head string) string { heard <- head; return ok }))
				h := build(t, start, routed("{match: {prefix: /}, route: {cluster: up, request_mirror_policies: ["+c.policy+"]}}"),
					[]string{clusterOf("up", "", upstream(t, always(ok))), shadow})
				got := h.talk("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc", 0)
				if !strings.HasPrefix(got, "HTTP/1.1 200 OK") {
					t.Errorf("got %q", got)
				}
				if c.want == 0 {
					h.settle()
				} else if got := <-heard; !strings.Contains(got, "host: a-shadow\r\n") || !strings.HasSuffix(got, "abc") {
					t.Errorf("the mirror was sent %q", got)
				}
				h.wants(map[string]uint64{"cluster.m.upstream_rq_total": c.want})
			})
		}
	}
}

func TestProxyStatus(t *testing.T) {
	for _, c := range []struct{ name, config, want string }{
		{"all", "{}", "HTTP/1.1 503 Service Unavailable|proxy-status: envoy; error=connection_terminated; details=\"upstream_reset_before_response_started{connection_termination}; UC\""},
		{"no details", "{remove_details: true, literal_proxy_name: me}", "HTTP/1.1 503 Service Unavailable|proxy-status: me; error=connection_terminated\r\n"},
		{"no flags", "{remove_response_flags: true}", "HTTP/1.1 503 Service Unavailable|details=\"upstream_reset_before_response_started{connection_termination}\"\r\n"},
		{"the RFC's status", "{set_recommended_response_code: true}", "HTTP/1.1 502 Bad Gateway|error=connection_terminated"},
	} {
		for engine, start := range engines {
			t.Run(c.name+"/"+engine, func(t *testing.T) {
				h := newHouse(t, start, routed("{match: {prefix: /}, route: {cluster: up}}")+"proxy_status_config: "+c.config+"\n", upstream(t, always("")))
				got := h.talk(get("/"), 0)
				for part := range strings.SplitSeq(c.want, "|") {
					if !strings.Contains(got, part) {
						t.Errorf("got %q, want %q in it", got, part)
					}
				}
			})
		}
	}
	t.Run("none without a failure", func(t *testing.T) {
		h := newHouse(t, engines["epoll"], routed("{match: {prefix: /}, route: {cluster: up}}")+"proxy_status_config: {}\n", upstream(t, failing(1)))
		if got := h.talk(get("/"), 0); strings.Contains(got, "proxy-status") {
			t.Errorf("got %q", got)
		}
	})
}

func TestConnectKeepsItsPort(t *testing.T) {
	for engine, start := range engines {
		t.Run(engine, func(t *testing.T) {
			config := strings.Replace(routed("{match: {connect_matcher: {}}, route: {cluster: up}}"), "['*']", "['a']", 1) +
				"strip_any_host_port: true\nupgrade_configs: [{upgrade_type: CONNECT}]\n"
			heard := make(chan string, 1)
			h := newHouse(t, start, config, upstream(t, func(_ int, head string) string { heard <- head; return "HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n" }))
			if got := h.talk("CONNECT a:99 HTTP/1.1\r\nhost: a:99\r\n\r\n", 0); !strings.HasPrefix(got, "HTTP/1.1 403") {
				t.Fatalf("got %q", got)
			}
			if got := <-heard; !strings.HasPrefix(got, "CONNECT a:99 HTTP/1.1\r\nhost: a:99\r\n") {
				t.Errorf("the host was sent %q", got)
			}
		})
	}
}

func TestLocalReplyConfig(t *testing.T) {
	const config = `local_reply_config:
  mappers:
  - filter: {status_code_filter: {comparison: {op: EQ, value: {default_value: 404, runtime_key: x}}}}
    status_code: 410
    body: {inline_string: gone}
    body_format_override: {text_format_source: {inline_string: "<%LOCAL_REPLY_BODY% %RESPONSE_CODE%>"}, content_type: text/html}
    headers_to_add: [{header: {key: x-mapped, value: "1"}}]
  body_format: {json_format: {said: "%LOCAL_REPLY_BODY%"}}
`
	for _, c := range []struct{ name, path, want string }{
		{"mapped", "/none", "HTTP/1.1 410 Gone\r\nx-mapped: 1\r\ncontent-length: 10\r\ncontent-type: text/html\r\nserver: envoy\r\nconnection: close\r\n\r\n<gone 410>"},
		{"formatted", "/taken", "HTTP/1.1 409 Conflict\r\ncontent-length: 17\r\ncontent-type: application/json\r\nserver: envoy\r\nconnection: close\r\n\r\n{\"said\":\"short\"}"},
	} {
		for engine, start := range engines {
			t.Run(c.name+"/"+engine, func(t *testing.T) {
				h := newHouse(t, start, routed("{match: {path: /taken}, direct_response: {status: 409, body: {inline_string: short}}}")+config, "")
				if got := strings.TrimSuffix(plain(h.talk(get(c.path), 0)), "\n"); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		}
	}
}

func TestInternalAddresses(t *testing.T) {
	for _, c := range []struct{ name, config, forwarded, want string }{
		{"inside", "internal_address_config: {cidr_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}", "10.1.1.1", "x-envoy-internal: true"},
		{"outside", "internal_address_config: {cidr_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}", "11.1.1.1", ""},
		{"several hops", "internal_address_config: {cidr_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}", "10.1.1.1, 10.1.1.2", ""},
		{"nothing is internal by default", "", "10.1.1.1", ""},
	} {
		for engine, start := range engines {
			t.Run(c.name+"/"+engine, func(t *testing.T) {
				h := newHouse(t, start, routed("{match: {prefix: /}, route: {cluster: up}}")+c.config+"\n", upstream(t, echo))
				got := h.talk(get("/", "x-forwarded-for: "+c.forwarded), 0)
				if has := strings.Contains(got, "x-envoy-internal: true"); has != (c.want != "") || !strings.HasPrefix(got, "HTTP/1.1 200") {
					t.Errorf("got %q", got)
				}
			})
		}
	}
}
