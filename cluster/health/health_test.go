package health

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datacorev3 "github.com/envoyproxy/go-control-plane/envoy/data/core/v3"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

const base = "timeout: 5s, interval: 10s, unhealthy_threshold: 3, healthy_threshold: 2, "

func read(t testing.TB, text string) *corev3.HealthCheck {
	t.Helper()
	p := &corev3.HealthCheck{}
	if _, err := protofile.Parse([]byte("{"+base+text+"}"), protofile.YAML, p); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return p
}

// rig is a host that is checked; its times and its control loop are the test's.
type rig struct {
	*testing.T

	c       *Checker
	s       *Session
	flags   Flags
	to      stream.Address
	traffic bool
	waits   []time.Duration // that were asked for
	results chan Result
	mu      sync.Mutex // guards posted
	posted  []func()
}

func newRig(t *testing.T, text string, w *fiber.Worker) *rig {
	t.Helper()
	c, err := Parse(read(t, text))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, traffic: true, flags: FailedActive, results: make(chan Result, 100)}
	o, two := http1.UpstreamDefaults(), http2.UpstreamDefaults()
	r.c = New(c, Env{
		Cluster: "c", Stats: (&stats.Store{}).Root().Sub("cluster").Sub("c"), Workers: []*fiber.Worker{w}, HTTP1: &o, HTTP2: &two, Draw: func() uint64 { return 7 },
		Post:    func(f func()) { r.mu.Lock(); defer r.mu.Unlock(); r.posted = append(r.posted, f) },
		After:   func(d time.Duration, _ func()) func() { r.waits = append(r.waits, d); return func() {} },
		Traffic: func() bool { return r.traffic },
		Dial: func(w *fiber.Worker, to pool.Target, _ *pool.Info) (fiber.Conn, error) {
			return w.Dial(to.Address, nil)
		},
	})
	r.s = r.c.Add(&Host{
		Flags: &r.flags, Target: func() pool.Target { return pool.Target{Address: r.to} }, Checked: func(v Result) { r.results <- v },
		Metadata: stream.Metadata{"envoy.lb": {"v": "1"}}, Region: "r",
	})
	return r
}

// check makes one check on the wire and takes it in.
func (r *rig) check() Result {
	r.Helper()
	r.s.begin()
	for range 5000 {
		r.mu.Lock()
		l := r.posted
		r.posted = nil
		r.mu.Unlock()
		for _, f := range l {
			f()
		}
		select {
		case v := <-r.results:
			return v
		default:
		}
		if err := r.s.worker.Sleep(time.Millisecond); err != nil {
			break
		}
	}
	r.Fatal("the check does not end")
	return Result{}
}

var (
	passes   = verdict{}
	refuses  = verdict{failed: true, failure: datacorev3.HealthCheckFailureType_NETWORK}
	late     = verdict{failed: true, failure: datacorev3.HealthCheckFailureType_NETWORK_TIMEOUT}
	says500  = verdict{failed: true, failure: datacorev3.HealthCheckFailureType_ACTIVE, status: 500}
	says503  = verdict{failed: true, failure: datacorev3.HealthCheckFailureType_ACTIVE, status: 503, retriable: true}
	strained = verdict{degraded: true}
	leaves   = verdict{failed: true, failure: datacorev3.HealthCheckFailureType_ACTIVE, excluded: true}
)

// TestThresholds shows the flags after each check.
func TestThresholds(t *testing.T) {
	for _, c := range []struct {
		name string
		l    []verdict
		want string
	}{
		{"the first success is enough", []verdict{passes}, "healthy"},
		{"later ones are not", []verdict{refuses, passes, passes}, "2*/failed_active_hc healthy"},
		{"a failure between begins anew", []verdict{refuses, passes, refuses, passes, passes}, "4*/failed_active_hc healthy"},
		{"three failures in a row", []verdict{passes, refuses, refuses, refuses}, "3*healthy /failed_active_hc"},
		{"a success between begins anew", []verdict{passes, refuses, refuses, passes, refuses, refuses}, "6*healthy"},
		{"a status is enough by itself", []verdict{passes, says500}, "healthy /failed_active_hc"},
		{"a retriable one is not", []verdict{passes, says503, says503, says503}, "3*healthy /failed_active_hc"},
		{"timeouts are shown", []verdict{passes, late, late, late, refuses, late}, "3*healthy /failed_active_hc/active_hc_timeout /failed_active_hc /failed_active_hc/active_hc_timeout"},
		{"degraded at once", []verdict{passes, strained, passes}, "healthy /degraded_active_hc healthy"},
		{"wants no more", []verdict{passes, leaves, passes, passes}, "healthy 2*/failed_active_hc/excluded_via_immediate_hc_fail healthy"},
	} {
		r := newRig(t, "tcp_health_check: {}", &fiber.Worker{})
		var got []string
		for _, v := range c.l {
			before := r.flags
			r.s.done(v)
			if v := <-r.results; v.Changed != (r.flags.Unhealthy() != before.Unhealthy() || r.flags.Degraded() != before.Degraded()) || v.First != (len(got) == 0) {
				t.Errorf("%s: check %d: %+v", c.name, len(got), v)
			}
			got = append(got, r.flags.String())
		}
		if s := counted(got); s != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, s, c.want)
		}
		healthy := int64(1)
		if r.flags.Has(FailedActive) {
			healthy = 0
		}
		if n := r.c.stats.Healthy.Value(); n != healthy {
			t.Errorf("%s: %d healthy", c.name, n)
		}
	}
}

// counted joins the words, those that follow each other as 2*word.
func counted(words []string) string {
	var l []string
	for i := 0; i < len(words); {
		n := 1
		for i+n < len(words) && words[i+n] == words[i] {
			n++
		}
		if n == 1 {
			l = append(l, words[i])
		} else {
			l = append(l, fmt.Sprintf("%d*%s", n, words[i]))
		}
		i += n
	}
	return strings.Join(l, " ")
}

func TestIntervals(t *testing.T) {
	const all = ", no_traffic_interval: 60s, no_traffic_healthy_interval: 70s, unhealthy_interval: 20s, unhealthy_edge_interval: 5s, healthy_edge_interval: 6s"
	for _, c := range []struct {
		config  string
		traffic bool
		l       []verdict
		want    string
	}{
		{"", true, []verdict{passes, passes, refuses}, "10s 10s 10s"},
		{"", false, []verdict{passes, refuses}, "1m0s 1m0s"},
		{all, true, []verdict{passes, refuses, refuses, refuses, refuses, passes, passes, passes}, "10s 5s 5s 20s 20s 6s 10s 10s"},
		{all, false, []verdict{refuses, passes, passes, passes}, "1m0s 1m0s 1m10s 1m10s"},
		{", interval_jitter: 0.005s", true, []verdict{passes}, "10.002s"},           // 7 % 5
		{", interval_jitter_percent: 10", true, []verdict{passes}, "10.007s"},       // 7 % 1000
		{", unhealthy_interval: 20s", true, []verdict{refuses, refuses}, "20s 20s"}, // it is unhealthy from the start
	} {
		r := newRig(t, "tcp_health_check: {}"+c.config, &fiber.Worker{})
		r.traffic = c.traffic
		for _, v := range c.l {
			r.s.done(v)
		}
		if got := strings.Trim(fmt.Sprint(r.waits), "[]"); got != c.want {
			t.Errorf("%q: %s, want %s", c.config, got, c.want)
		}
	}
	r := newRig(t, "tcp_health_check: {}, initial_jitter: 5s", &fiber.Worker{})
	r.s.Start()
	if fmt.Sprint(r.waits) != "[7ms]" {
		t.Errorf("the first check comes after %v", r.waits)
	}
}

func TestFailedAtOnce(t *testing.T) {
	var none *Session
	none.FailedAtOnce()
	r := newRig(t, "tcp_health_check: {}", &fiber.Worker{})
	r.s.done(passes)
	r.s.FailedAtOnce()
	r.posted[0]()
	if r.flags != FailedActive|ExcludedAtOnce || r.c.stats.PassiveFailure.Value() != 1 || len(r.waits) != 1 {
		t.Errorf("%v", r.flags)
	}
}

func TestCloseTellsWhoWaits(t *testing.T) {
	r := newRig(t, "tcp_health_check: {}", &fiber.Worker{})
	r.s.Close()
	if v := <-r.results; !v.First || v.Passed || r.s.Waiting() {
		t.Errorf("%+v", v)
	}
	r.s.done(passes)
	r.s.FailedAtOnce()
	if len(r.results) != 0 || r.flags != FailedActive {
		t.Error("a check counts after the end")
	}
}

func TestFlags(t *testing.T) {
	for f, want := range map[Flags]string{
		0: "healthy ---", FailedOutlier: "/failed_outlier_check u--", FailedEDS | DegradedEDS: "/failed_eds_health/degraded_eds_health u--",
		DegradedActive: "/degraded_active_hc -d-", PendingRemoval: "/pending_dynamic_removal ---",
		FailedActive | PendingActive: "/failed_active_hc/pending_active_hc u-x", DrainingEDS: "/eds_status_draining u-x",
		DegradedOutlier: "/degraded_outlier_detection -d-",
	} {
		got := f.String() + " "
		for i, set := range []bool{f.Unhealthy(), f.Degraded(), f.Excluded()} {
			if set {
				got += "udx"[i : i+1]
			} else {
				got += "-"
			}
		}
		if got != want {
			t.Errorf("%d: %s, want %s", f, got, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"grpc_health_check: {initial_metadata: [{header: {key: ':path'}}]}":                "grpc_health_check.initial_metadata",
		"http_health_check: {path: /, codec_client_type: HTTP3}":                           "http_health_check.codec_client_type",
		"http_health_check: {path: /, send: {text: '00'}}":                                 "http_health_check.send: HTTP health check cannot specify a request payload with method 'GET'",
		"http_health_check: {path: /, receive: [{text: 'x'}]}":                             "http_health_check.receive[0].text: invalid hex string 'x'",
		"http_health_check: {path: /, expected_statuses: [{start: 3, end: 3}]}":            "http_health_check.expected_statuses[0]: Invalid http expected status range: expecting start < end",
		"http_health_check: {path: /, retriable_statuses: [{start: 3, end: 200}]}":         "expecting start >= 100",
		"http_health_check: {path: /, expected_statuses: [{start: 200, end: 601}]}":        "expecting end <= 600",
		"http_health_check: {path: /, response_buffer_size: 1, receive: [{text: '0000'}]}": "The expected response length '2' is over than http health response buffer size '1'",
		"http_health_check: {path: /, request_headers_to_remove: [':path']}":               "http_health_check.request_headers_to_remove[0]",
		"tcp_health_check: {send: {text: '0'}}":                                            "tcp_health_check.send.text: invalid hex string '0'",
		"custom_health_check: {name: x}":                                                   "custom_health_check.typed_config: Didn't find a registered implementation for 'x'",
		redis[:len(redis)-2] + ", aws_iam: {region: r, service_name: s, cache_name: c}}}":  "custom_health_check.typed_config.aws_iam",
		thriftCheck("AUTO_TRANSPORT", "BINARY"):                                            "custom_health_check.typed_config.transport: Unsupported transport",
		thriftCheck("FRAMED", "TWITTER"):                                                   "custom_health_check.typed_config.protocol: Unsupported transport",
		thriftCheck("HEADER", "LAX_BINARY"):                                                "custom_health_check.typed_config.protocol: invalid header transport protocol",
		"tcp_health_check: {}, event_logger: [{name: z}]":                                  "event_logger[0]: Didn't find a registered implementation for 'z'",
	} {
		if _, err := Parse(read(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
}
