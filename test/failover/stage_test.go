package failover

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/test/harness"
)

// The retries are those that Istio configures, and resets; the outlier detection is the default but for how many may be ejected, and
// that of /rate looks at success rates once a second.
const config = harness.Admin + `
static_resources:
  listeners:
  - name: http
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - {match: {prefix: /retry}, route: {cluster: retry, timeout: 5s, retry_policy: {retry_on: "connect-failure,refused-stream,reset,gateway-error", num_retries: 2, per_try_timeout: 0.4s, retry_host_predicate: [{name: p, typed_config: {"@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}], host_selection_retry_max_attempts: 5}}}
              - {match: {prefix: /plain}, route: {cluster: plain, timeout: 0.4s}}
              - {match: {prefix: /rate}, route: {cluster: rate, timeout: 1s}}
              - {match: {prefix: /vanish}, route: {cluster: vanish, timeout: 0s, retry_policy: {retry_on: "connect-failure,refused-stream,unavailable,cancelled", num_retries: 2, retry_host_predicate: [{name: p, typed_config: {"@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}], host_selection_retry_max_attempts: 5}}}
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - {name: retry, connect_timeout: 1s, outlier_detection: &o {max_ejection_percent: 50}, circuit_breakers: {thresholds: [{max_retries: 4294967295}]}, load_assignment: &hosts {cluster_name: x, endpoints: [{lb_endpoints: [{{hosts}}]}]}}
  - {name: plain, connect_timeout: 1s, outlier_detection: *o, load_assignment: *hosts}
  - {name: rate, connect_timeout: 1s, outlier_detection: {max_ejection_percent: 50, interval: 1s, success_rate_minimum_hosts: 3, success_rate_request_volume: 10, success_rate_stdev_factor: 1000}, load_assignment: *hosts}
  - {name: vanish, connect_timeout: 10s, circuit_breakers: {thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000, max_retries: 4294967295}]}, load_assignment: *hosts}
`

// stage is a proxy before three hosts.
type stage struct {
	ours  bool
	in    string // address of the listener
	hosts []*host
}

// each runs f with a fresh stage, and with one for Envoy. These tests live in real time: they run on one engine at a time.
func each(t *testing.T, f func(*testing.T, *stage)) {
	t.Helper()
	if bin := os.Getenv("ENVOY_BIN"); bin != "" {
		t.Run("envoy", func(t *testing.T) { play(t, bin, f) })
	}
	t.Run(harness.EngineName(), func(t *testing.T) { play(t, "", f) })
}

func play(t *testing.T, bin string, f func(*testing.T, *stage)) {
	t.Helper()
	s := &stage{ours: bin == ""}
	var endpoints []string
	for i := range 3 {
		at, _ := harness.Free(t, fmt.Sprintf("127.0.0.%d", i+1))
		h := &host{at: at}
		h.start(t)
		defer func() { h.kill() }()
		s.hosts = append(s.hosts, h)
		address, port, _ := net.SplitHostPort(h.at)
		endpoints = append(endpoints, "{endpoint: {address: {socket_address: {address: "+address+", port_value: "+port+"}}}}")
	}
	text := strings.ReplaceAll(config, "{{hosts}}", strings.Join(endpoints, ", "))
	if s.ours {
		s.in = harness.Start(t, text).Address("")
	} else if e, err := harness.Exec(t, bin, text); err != nil {
		t.Fatal(err)
	} else {
		s.in = e.Address("")
	}
	f(t, s)
}

// restart puts a host in the place of one that has failed, on a stage that has forgotten: the cluster of the next load is another one.
func (s *stage) restart(t *testing.T, i int) {
	t.Helper()
	s.hosts[i].kill()
	s.hosts[i].start(t)
}

// report is what clients have noticed.
type report struct {
	total  int
	failed []failure
}

// failure is a request that has failed: when it was made and when it failed, after the fault.
type failure struct {
	begun, ended time.Duration
	why          string
}

func (f failure) String() string {
	return fmt.Sprintf("%v-%v %s", f.begun.Round(time.Millisecond), f.ended.Round(time.Millisecond), f.why)
}

// last is when the last request that failed was made, or had to wait for its failure: the moment from which on clients notice nothing.
func (r *report) last() time.Duration { return r.begun() }

func (r *report) begun() (d time.Duration) {
	for _, f := range r.failed {
		d = max(d, f.begun)
	}
	return d
}

func (r *report) ended() (d time.Duration) {
	for _, f := range r.failed {
		d = max(d, f.ended)
	}
	return d
}

func (r *report) log(t *testing.T, what string) {
	t.Helper()
	t.Logf("%-26s %5d requests, %4d failed, the last made %6v and ended %6v after the fault", what, r.total, len(r.failed),
		r.begun().Round(time.Millisecond), r.ended().Round(time.Millisecond))
}

const (
	before = 500 * time.Millisecond
	after  = 2 * time.Second
	limit  = 4 * time.Second // of a client
)

// load makes so many requests a second, and the fault after a while.
func (s *stage) load(t *testing.T, path string, rate int, fault func()) *report {
	t.Helper()
	client := &http.Client{Timeout: limit, Transport: &http.Transport{MaxIdleConnsPerHost: 1000}}
	defer client.CloseIdleConnections()
	r := &report{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	begin := time.Now()
	var at time.Time // of the fault
	type span struct {
		from, to time.Time
		why      string
	}
	var failed []span
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for done := false; time.Since(begin) < before+after; <-tick.C {
		if !done && time.Since(begin) >= before {
			done = true
			wg.Go(func() { fault(); at = time.Now() })
		}
		r.total++
		wg.Go(func() {
			from := time.Now()
			if why := ask(client, "http://"+s.in+path, ""); why != "" {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, span{from, time.Now(), why})
			}
		})
	}
	wg.Wait()
	for _, f := range failed {
		r.failed = append(r.failed, failure{f.from.Sub(at), f.to.Sub(at), f.why})
	}
	return r
}

// warm makes so many requests at the same time, each of which takes a while, so that there is a connection for each of them.
func (s *stage) warm(t *testing.T, path string, n int) {
	t.Helper()
	client := &http.Client{Timeout: limit, Transport: &http.Transport{MaxIdleConnsPerHost: 1000}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if why := ask(client, "http://"+s.in+path, "500ms"); why != "" {
				t.Errorf("before the fault: %s", why)
			}
		})
	}
	wg.Wait()
}

// ask makes a request, and says what was wrong.
func ask(c *http.Client, url, pause string) string {
	q, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	if pause != "" {
		q.Header.Set("X-Pause", pause)
	}
	a, err := c.Do(q)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = a.Body.Close() }()
	if b, err := io.ReadAll(a.Body); err != nil || a.StatusCode != http.StatusOK {
		return fmt.Sprint(a.StatusCode, " ", string(b), " ", err)
	}
	return ""
}
