package admin

import (
	"fmt"
	"net/http"
	"strings"
)

// page is one path of the interface.
type page struct {
	path   string
	post   bool // changes something, so GET is refused
	about  string
	params []string // name: what it is for
	serve  func(s *Server, w *response, r *http.Request)
}

// pages lists every page, by path.
func pages() []page {
	return []page{
		{"/", false, "this list, to click at", nil, home},
		{"/allocprofiler", true, "not in this build", []string{"enable: y or n"}, unavailable},
		{"/certs", false, "certificates in use", nil, certs},
		{"/clusters", false, "upstream hosts and their counters", []string{
			"filter: show clusters whose name matches this regular expression", "format: text or json",
		}, clusters},
		{"/config_dump", false, "configuration in force", []string{
			"resource: show one kind of resource", "mask: show these fields only",
			"name_regex: show resources whose name matches", "include_eds: show endpoints too",
		}, configDump},
		{"/contention", false, "mutex contention (not traced)", nil, contention},
		{"/cpuprofiler", true, "write a CPU profile to admin.profile_path", []string{"enable: y or n"}, cpuProfiler},
		{"/drain_listeners", true, "stop accepting connections", []string{
			"graceful: drain for --drain-time-s first", "skip_exit: drain connections only", "inboundonly: inbound listeners only",
		}, drainListeners},
		{"/healthcheck/fail", true, "fail health checks", nil, failHealth},
		{"/healthcheck/ok", true, "pass health checks", nil, passHealth},
		{"/heap_dump", false, "heap profile, for go tool pprof", nil, heapDump},
		{"/heapprofiler", true, "not in this build", []string{"enable: y or n"}, unavailable},
		{"/help", false, "this list", nil, help},
		{"/hot_restart_version", false, "compatibility of hot restarts", nil, hotRestartVersion},
		{"/init_dump", false, "what initialization still waits for", []string{"mask: show these components only"}, initDump},
		{"/listeners", false, "listeners and their addresses", []string{"format: text or json"}, listeners},
		{"/logging", true, "show or change log levels", []string{
			"level: the level of all components", "paths: component:level, separated by commas", "<component>: its level",
		}, logging},
		{"/memory", false, "memory in use", nil, memory},
		{"/quitquitquit", true, "end the process", nil, quit},
		{"/ready", false, "state; 200 if LIVE, else 503", nil, ready},
		{"/reopen_logs", true, "reopen access logs", nil, reopenLogs},
		{"/reset_counters", true, "make all counters 0", nil, resetCounters},
		{"/runtime", false, "runtime keys and layers", nil, runtimeValues},
		{"/runtime_modify", true, "set runtime keys in the admin layer; an empty value removes", []string{"<key>: value"}, runtimeModify},
		{"/server_info", false, "version, state and command line", nil, serverInfo},
		{"/stats", false, "statistics", []string{
			"usedonly: only what was written since the start", "filter: show names that match this regular expression",
			"invert_filter: show names that do not match", "format: html, json, prometheus or text",
			"type: All, Counters, Gauges, Histograms or TextReadouts", "histogram_buckets: cumulative, disjoint, detailed or summary",
		}, statsPage},
		{"/stats/prometheus", false, "statistics in Prometheus' format", []string{
			"usedonly, filter, invert_filter: as for /stats", "text_readouts: show them as gauges of value 0",
		}, prometheus},
	}
}

func help(s *Server, w *response, _ *http.Request) {
	w.WriteString("admin commands are:\n")
	for _, p := range s.pages {
		method := ""
		if p.post {
			method = " (POST)"
		}
		_, _ = fmt.Fprintf(w, "  %s%s: %s\n", p.path, method, p.about)
		for _, q := range p.params {
			_, _ = fmt.Fprintf(w, "      %s\n", q)
		}
	}
}

func home(s *Server, w *response, _ *http.Request) {
	w.contentType = typeHTML
	w.WriteString("<!DOCTYPE html><html lang='en'><head><title>Outrigger admin</title></head><body><table>\n")
	for _, p := range s.pages[1:] {
		name := strings.TrimPrefix(p.path, "/")
		link := fmt.Sprintf("<a href='%[1]s'>%[1]s</a>", name)
		if p.post {
			link = fmt.Sprintf("<form action='%[1]s' method='post'><button>%[1]s</button></form>", name)
		}
		_, _ = fmt.Fprintf(w, "<tr><td>%s</td><td>%s</td></tr>\n", link, p.about)
	}
	w.WriteString("</table></body></html>\n")
}
