package proxy_test

import (
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/proxy"
	"github.com/outrigger-proxy/outrigger/test/harness"
)

func TestAdminPages(t *testing.T) {
	const text, json = "text/plain; charset=UTF-8", "application/json"
	logs := func(o *proxy.Options) { o.Logs = log.New(log.Off, log.CompilePattern("%v", false), io.Discard) }
	r := harness.Start(t, "stats_flush_on_admin: true\nlayered_runtime: {layers: [{name: s, static_layer: {a: {b: 1}}}, {name: admin, admin_layer: {}}]}\n"+
		strings.ReplaceAll(http1, "{{port}}", "1"), two(time.Second), logs)
	_ = harness.Send(harness.Dial(t, r.Address("in")), "/direct")
	for _, c := range []struct {
		method, path string
		status       int
		contentType  string
		want         string // a regular expression over the whole page
	}{
		{"GET", "/ready", 200, text, `^LIVE\n$`},
		{"GET", "/server_info", 200, json, `"version": ".*/1\.40\.0/[^"]*",\n "state": "LIVE",(.|\n)*"command_line_options": \{(.|\n)*"drain_time": "1s"`},
		{"GET", "/server_info", 200, json, `"name": "envoy.filters.http.router",\n +"category": "envoy.filters.http",\n(.|\n)*"type_urls": \[\n +"envoy.extensions.filters.http.router.v3.Router"\n`},
		{"GET", "/stats?filter=^server\\.(live|state)$", 200, text, `^server.live: 1\nserver.state: 0\n$`},
		{"GET", "/stats?filter=^server\\.live$&format=json", 200, json, `^\{"stats":\[\{"name":"server.live","value":1\}\]\}$`},
		{"GET", "/stats?filter=server.initialization_time_ms", 200, text, `server.initialization_time_ms: P0\(.*\) P25.* P100\(\S+,\S+\)\n$`},
		{"GET", "/stats?filter=server.initialization_time_ms&histogram_buckets=cumulative", 200, text, `ms: B0\.5\(\d,\d\) .* B1\.8e\+06\(\d,1\) `},
		{"GET", "/stats?filter=server.initialization_time_ms&histogram_buckets=disjoint&format=json", 200, json, `\{"upper_bound":300000,"interval":0,"cumulative":0\}`},
		{"GET", "/stats?filter=server.initialization_time_ms&histogram_buckets=detailed", 200, text, `ms:\n  totals=[\d.]+,[\d.]+:1\n  intervals=`},
		{"GET", "/stats?filter=server.initialization_time_ms&histogram_buckets=detailed&format=json", 200, json, `"totals":\[\{"lower_bound":`},
		{"GET", "/stats?filter=server.initialization_time_ms&format=json", 200, json, `"supported_quantiles":\[0,25,50,75,90,95,99,99\.5,99\.9,100\]`},
		{"GET", "/stats?type=Gauges&filter=^http.in.downstream_(cx_active|rq_total)$", 200, text, `^http.in.downstream_cx_active: 1\n$`},
		{"GET", "/stats?usedonly&filter=^http.in.downstream_rq_.*", 200, text, `^(http.in.downstream_rq_\w+: \d+\n)+http.in.downstream_rq_time: P0`},
		{"GET", "/stats?filter=live&invert_filter&type=Counters", 200, text, `^[^\n]*assignment_stale: 0\n`},
		{"GET", "/stats?filter=(", 400, text, `^Invalid re2 regex: `},
		{"GET", "/stats?format=xml", 400, text, `^usage: /stats\?format=`},
		{"GET", "/stats?type=x", 400, text, `^invalid &type= param$`},
		{"GET", "/stats?histogram_buckets=x", 400, text, `^usage: /stats\?histogram_buckets=`},
		{"GET", "/stats?format=html", 200, "text/html; charset=UTF-8", `server.live: 1`},
		{"GET", "/stats/prometheus?filter=downstream_rq_2xx", 200, text, `envoy_http_downstream_rq_xx\{envoy_response_code_class="2",envoy_http_conn_manager_prefix="in"\} 1\n`},
		{"GET", "/stats?format=prometheus&filter=server.live", 200, text, `^# TYPE envoy_server_live gauge\nenvoy_server_live 1\n$`},
		{"GET", "/stats/prometheus?filter=(", 400, text, `^Invalid re2 regex: `},
		{"GET", "/clusters", 200, text, `^a::observability_name::a\na::default_priority::max_connections::1024\n(.|\n)*a::127.0.0.1:1::rq_total::0\n`},
		{"GET", "/clusters?filter=none", 200, text, `^$`},
		{"GET", "/clusters?format=json", 200, json, `"eds_health_status": "HEALTHY"`},
		{"GET", "/listeners", 200, text, `^in::127\.0\.0\.1:\d+\n$`},
		{"GET", "/listeners?format=json", 200, json, `"name": "in",\n   "local_address": \{`},
		{"GET", "/config_dump", 200, json, `BootstrapConfigDump(.|\n)*ClustersConfigDump(.|\n)*ListenersConfigDump(.|\n)*RoutesConfigDump(.|\n)*"name": "local"`},
		{"GET", "/config_dump?include_eds", 200, json, `EndpointsConfigDump`},
		{"GET", "/config_dump?resource=static_clusters", 200, json, `^\{\n "configs": \[\n  \{\n   "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster"`},
		{"GET", "/config_dump?resource=static_clusters&mask=cluster.name", 200, json, `Cluster",\n    "name": "a"\n   \}\n  \}\n \]\n\}\n$`},
		{"GET", "/config_dump?resource=none", 404, text, `^none not found in config dump$`},
		{"GET", "/config_dump?resource=bootstrap", 400, text, `is not a repeated field`},
		{"GET", "/config_dump?mask=none", 400, text, `could not be successfully applied`},
		{"GET", "/config_dump?name_regex=none", 200, json, `ClustersConfigDump"\n  \}`},
		{"GET", "/runtime", 200, json, `"a\.b": \{\n   "final_value": "1",\n   "layer_values": \[\n    "1",\n    ""`},
		{"POST", "/runtime_modify?x=2", 200, text, `^OK\n$`},
		{"POST", "/runtime_modify", 400, text, `^usage: `},
		{"POST", "/logging?level=debug", 200, text, `^active loggers:\n(.|\n)*  http: debug\n`},
		{"POST", "/logging?http=info", 200, text, `  http: info\n`},
		{"POST", "/logging?paths=http:off,main:trace", 200, text, `  http: off\n(.|\n)*  main: trace\n`},
		{"POST", "/logging?http=loud", 400, text, `^error: `},
		{"POST", "/logging?nope=info", 400, text, `^error: `},
		{"GET", "/certs", 200, json, `"certificates": \[\]`},
		{"GET", "/memory", 200, json, `"allocated": "\d+"`},
		{"GET", "/init_dump", 200, json, `^\{\}\n$`},
		{"GET", "/hot_restart_version", 200, text, `^disabled$`},
		{"GET", "/help", 200, text, `^admin commands are:\n  /: `},
		{"GET", "/", 200, "text/html; charset=UTF-8", `<a href='ready'>`},
		{"GET", "/nope", 404, text, `^invalid path\. admin commands are:\n`},
		{"GET", "/quitquitquit", 405, text, `^Method GET not allowed, POST required\.$`},
		{"POST", "/reset_counters", 200, text, `^OK\n$`},
		{"POST", "/reopen_logs", 200, text, `^OK\n$`},
		{"POST", "/cpuprofiler", 400, text, `enable=<y\|n>`},
		{"POST", "/heapprofiler?enable=y", 501, text, `not supported`},
		{"GET", "/heap_dump", 200, "application/octet-stream", `.`},
		{"POST", "/healthcheck/fail", 200, text, `^OK\n$`},
		{"GET", "/ready", 503, text, `^DRAINING\n$`},
		{"POST", "/healthcheck/ok", 200, text, `^OK\n$`},
		{"POST", "/drain_listeners?inboundonly", 200, text, `^OK\n$`},
		{"POST", "/quitquitquit", 200, text, `^OK\n$`},
	} {
		got := r.Ask(c.method, c.path)
		if got.Status != c.status || got.Type != c.contentType || !regexp.MustCompile(c.want).MatchString(got.Body) {
			t.Errorf("%s %s: %d %s, want %d %s and %s\n%.600s", c.method, c.path, got.Status, got.Type, c.status, c.contentType, c.want, got.Body)
		}
	}
	<-r.Ended()
}

func TestAdminAllowsPathsAndLogs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.log")
	r := harness.Start(t, `admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}, allow_paths: [{exact: /ready}], access_log_path: `+path+`}`)
	if got := r.Ask("GET", "/stats"); got.Status != http.StatusForbidden || got.Body != "request to path /stats not allowed" {
		t.Errorf("%+v", got)
	}
	r.Page("/ready")
	log := read(t, path, 2)
	if !regexp.MustCompile(`"GET /stats HTTP/1.1" 403 (.|\n)*"GET /ready HTTP/1.1" 200 - 0 5 `).MatchString(log) {
		t.Errorf("access log:\n%s", log)
	}
}

func TestSensitiveFieldsAreRedacted(t *testing.T) {
	r := harness.Start(t, strings.ReplaceAll(http1, "{{port}}", "1")+`
layered_runtime: {layers: [{name: s, static_layer: {}}]}
node: {id: node}
`)
	if body := r.Page("/config_dump?mask=bootstrap.node"); !strings.Contains(body, `"user_agent_name": "envoy"`) {
		t.Errorf("the node is not complete: %s", body)
	}
}
