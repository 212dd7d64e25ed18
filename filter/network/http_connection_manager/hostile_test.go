package hcm_test

import (
	"strings"
	"testing"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	hcm "github.com/outrigger-proxy/outrigger/filter/network/http_connection_manager"
)

const toUp = "{match: {prefix: /}, route: {cluster: up}}"

// TestBrokenUpstreams shows what comes of hosts that do not answer as they should, as Envoy tells it.
func TestBrokenUpstreams(t *testing.T) {
	for _, c := range []tale{
		{
			"refuses", toUp, func(*testing.T) []string { return []string{clusterOf("up", "", "127.0.0.1:1")} }, get("/"),
			"reset reason: remote connection failure", "DownstreamEnd 503 UF upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}",
			map[string]uint64{"cluster.up.upstream_cx_connect_fail": 1},
		},
		{
			"announces its end", toUp, one("", always("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")), get("/"), "200 OK",
			"DownstreamEnd 200 - via_upstream",
			map[string]uint64{"cluster.up.upstream_cx_protocol_error": 0, "cluster.up.upstream_cx_close_notify": 1},
		},
		{
			"says too much", toUp, one("", always("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok!")), get("/"), "200 OK", "DownstreamEnd 200 - via_upstream",
			map[string]uint64{"cluster.up.upstream_cx_protocol_error": 1, "cluster.up.upstream_cx_destroy_local": 1},
		},
		{
			"nonsense behind an interim response", "{match: {prefix: /}, route: {cluster: up, retry_policy: {retry_on: 5xx}}}",
			one("", always("HTTP/1.1 103 Hints\r\n\r\nnonsense\r\n\r\n")), get("/"), "502 Bad Gateway",
			"DownstreamEnd 502 UPE upstream_reset_after_response_started{protocol_error}",
			map[string]uint64{"cluster.up.upstream_rq_103": 1, "cluster.up.upstream_rq_5xx": 0, "cluster.up.upstream_rq_retry": 0},
		},
		{
			"is asked again", "{match: {prefix: /}, route: {cluster: up, retry_policy: {retry_on: 5xx, retry_back_off: {base_interval: 0.001s}}}}",
			one("", failing(1)), get("/"), "200 OK", "DownstreamEnd 200 - via_upstream",
			map[string]uint64{"cluster.up.retry.upstream_rq_503": 1, "cluster.up.retry.upstream_rq_5xx": 1, "cluster.up.retry.upstream_rq_completed": 1},
		},
	} {
		c.tell(t)
	}
}

// TestMalformedBodies shows that a body that makes no sense is the client's fault, at a host that was chosen.
func TestMalformedBodies(t *testing.T) {
	c := tale{
		"chunked", toUp, one("", always(ok)), "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n",
		"400 Bad Request", "DownstreamEnd 400 DPE http1.codec_error",
		map[string]uint64{"http.test.downstream_cx_protocol_error": 1, "cluster.up.upstream_rq_total": 0},
	}
	c.tell(t)
}

// TestForwardedFor shows that an empty x-forwarded-for is as good as none, and that the scheme may be overwritten.
func TestForwardedFor(t *testing.T) {
	for name, c := range map[string]struct{ config, header, want string }{
		"no leading comma":   {"use_remote_address: true", "x-forwarded-for: \r\n", "x-forwarded-for: ,"},
		"the scheme changes": {"scheme_header_transformation: {scheme_to_overwrite: https}", "", "x-forwarded-proto: https"},
	} {
		for engine, start := range engines {
			t.Run(name+"/"+engine, func(t *testing.T) {
				seen := make(chan string, 1)
				h := newHouse(t, start, routes+c.config, upstream(t, func(_ int, head string) string { seen <- head; return ok }))
				h.talk("GET /x HTTP/1.1\r\nhost: a\r\n"+c.header+"connection: close\r\n\r\n", 0)
				head := <-seen
				if has := strings.Contains(head, c.want); has != (name == "the scheme changes") {
					t.Errorf("the host saw %q", head)
				}
			})
		}
	}
}

// TestNoProtocol shows that a request whose x-forwarded-proto says nothing has no route.
func TestNoProtocol(t *testing.T) {
	c := tale{"empty", toUp, one("", always(ok)), get("/", "x-forwarded-proto: "), "404 Not Found", "DownstreamEnd 404 NR route_not_found", nil}
	c.tell(t)
}

// TestNobodyAnswers shows that a chain without filters leaves it to the limits of the stream.
func TestNobodyAnswers(t *testing.T) {
	for engine, start := range engines {
		t.Run(engine, func(t *testing.T) {
			h := newHouse(t, start, routes+"stream_idle_timeout: 0.02s", "127.0.0.1:1")
			next, err := h.rebuilt(routes + "stream_idle_timeout: 0.02s")
			if err != nil {
				t.Fatal(err)
			}
			h.m.Update(next)
			if got := h.talk(get("/direct"), 0); !strings.HasPrefix(got, "HTTP/1.1 504 Gateway Timeout") || !strings.HasSuffix(got, "stream timeout") {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestDisabledTerminal shows that the filter that answers cannot be disabled.
func TestDisabledTerminal(t *testing.T) {
	h := newHouse(t, engines["epoll"], routes, "127.0.0.1:1")
	if _, err := h.rebuilt(routes + "http_filters: [{name: r, disabled: true, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]"); err == nil ||
		!strings.Contains(err.Error(), "cannot be disabled") {
		t.Errorf("got %v", err)
	}
}

// TestNoCookieForNothing shows that a client gets no cookie for a hash that no balancer looks at.
func TestNoCookieForNothing(t *testing.T) {
	clusters := one("", always(ok))
	h := build(t, engines["epoll"], routed("{match: {prefix: /}, route: {cluster: up, hash_policy: [{cookie: {name: c, ttl: 10s}}]}}"), clusters(t))
	if got := h.talk(get("/"), 0); !strings.HasPrefix(got, "HTTP/1.1 200 OK") || strings.Contains(got, "set-cookie") {
		t.Errorf("got %q", got)
	}
}

// rebuilt builds another connection manager where h lives.
func (h *house) rebuilt(config string) (*hcm.Manager, error) {
	p := &hcmv3.HttpConnectionManager{}
	parse(h.t, config, p)
	m, err := hcm.New(p, h.env)
	if err != nil {
		return nil, err
	}
	return m.(*hcm.Manager), nil
}
