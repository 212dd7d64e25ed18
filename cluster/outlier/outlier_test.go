package outlier

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// rig is a detector whose clock and chance belong to the test. What it posts runs at once.
type rig struct {
	*testing.T

	now     time.Duration
	draw    *rand.Rand
	d       *Detector
	m       []*Monitor
	changes int
	mu      sync.Mutex // guards queue
	queue   []func()
}

// post runs f, and what it posts, one after the other.
func (r *rig) post(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, f)
	if len(r.queue) > 1 {
		return // by whoever is at it
	}
	for len(r.queue) > 0 {
		f := r.queue[0]
		r.mu.Unlock()
		f()
		r.mu.Lock()
		r.queue = r.queue[1:]
	}
}

func read(t testing.TB, text string) *clusterv3.OutlierDetection {
	t.Helper()
	p := &clusterv3.OutlierDetection{}
	if _, err := protofile.Parse([]byte(text), protofile.YAML, p); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return p
}

func newRig(t *testing.T, text string, hosts int) *rig {
	t.Helper()
	c, err := Parse(read(t, "{"+text+"}"))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, now: time.Second, draw: rand.New(rand.NewPCG(1, 2))}
	store := &stats.Store{}
	r.d = New(c, Env{
		Cluster: "c", Stats: store.Root().Sub("cluster").Sub("c"), Now: func() time.Duration { return r.now }, Draw: r.draw.Uint64,
		Post:  r.post,
		After: func(time.Duration, func()) func() { return func() {} },
	})
	for i := range hosts {
		m := r.d.NewMonitor(fmt.Sprintf("10.0.0.%d:80", i+1), func() { r.changes++ })
		r.d.Add(m)
		r.m = append(r.m, m)
	}
	return r
}

// report reports statuses of a host, and results where they are negative: -1-Result.
func (r *rig) report(host int, l ...int) {
	for _, v := range l {
		if v < 0 {
			r.m[host].Report(Result(-1-v), 0)
		} else {
			r.m[host].Status(v)
		}
	}
}

func results(res Result, n int) []int { return slices.Repeat([]int{-1 - int(res)}, n) }

func (r *rig) out() (l []int) {
	for i, m := range r.m {
		if m.Ejected() {
			l = append(l, i)
		}
	}
	return l
}

func (r *rig) want(what string, c *stats.Counter, n uint64) {
	r.Helper()
	if c.Value() != n {
		r.Errorf("%s: %d, want %d", what, c.Value(), n)
	}
}

func TestConsecutive(t *testing.T) {
	const all = "max_ejection_percent: 100"
	bad := func(n, status int) []int { return slices.Repeat([]int{status}, n) }
	for _, c := range []struct {
		name, config string
		reports      []int
		ejected      bool
	}{
		{"five in a row", all, bad(5, 500), true},
		{"four are not enough", all, bad(4, 500), false},
		{"a success begins anew", all, slices.Concat(bad(4, 500), bad(1, 200), bad(4, 500)), false},
		{"what is not 5xx is a success", all, slices.Concat(bad(4, 500), bad(1, 499), bad(4, 500)), false},
		{"600 is none", all, bad(9, 600), false},
		{"0 switches it off", all + ", consecutive_5xx: 0", bad(50, 500), false},
		{"gateway failures are only noted by default", all + ", consecutive_5xx: 0", bad(5, 503), false},
		{"gateway failures", all + ", consecutive_5xx: 0, enforcing_consecutive_gateway_failure: 100", bad(5, 503), true},
		{"500 is no gateway failure", all + ", consecutive_5xx: 0, enforcing_consecutive_gateway_failure: 100", slices.Concat(bad(4, 503), bad(1, 500), bad(4, 503)), false},
		{"enforced never", all + ", enforcing_consecutive_5xx: 0", bad(50, 500), false},
		{"failed connections are 503", all, results(ConnectFailed, 5), true},
		{"timeouts are 504", all, results(Timeout, 5), true},
		{"a connection says nothing of the request", all, slices.Concat(bad(4, 500), results(Connected, 1), bad(1, 500)), true},
		{"of TCP it says all", all, slices.Concat(results(ConnectFailed, 4), results(ConnectedFinally, 1), results(ConnectFailed, 4)), false},
		{"split: connections by themselves", all + ", split_external_local_origin_errors: true", slices.Concat(bad(4, 500), results(ConnectFailed, 4)), false},
		{"split: five failed", all + ", split_external_local_origin_errors: true", results(ConnectFailed, 5), true},
		{"split: a connection ends the row", all + ", split_external_local_origin_errors: true", slices.Concat(results(Timeout, 4), results(Connected, 1), results(Timeout, 4)), false},
		{"split: responses do not", all + ", split_external_local_origin_errors: true", slices.Concat(results(Timeout, 4), bad(1, 200), results(Timeout, 1)), true},
		{"split: answers of other protocols", all + ", split_external_local_origin_errors: true", results(Failed, 5), true},
		{"one host of one is more than 10 percent", "", bad(50, 500), false},
		{"always one", "always_eject_one_host: true", bad(5, 500), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.config, 1)
			r.report(0, c.reports...)
			if got := r.m[0].Ejected(); got != c.ejected || r.d.stats.Active.Value() != int64(r.changes) {
				t.Errorf("ejected %v, %d changes", got, r.changes)
			}
		})
	}
}

func TestStatistics(t *testing.T) {
	r := newRig(t, "consecutive_gateway_failure: 3, max_ejection_percent: 50", 2)
	r.report(0, 503, 503, 503, 503, 503)
	r.report(1, 500, 500, 500, 500, 500, 500, 500, 500, 500, 500)
	s := r.d.stats
	r.want("gateway detected", &s.DetectedGateway, 1)
	r.want("gateway enforced", &s.EnforcedGateway, 0)
	r.want("5xx detected", &s.DetectedConsecutive5xx, 3)
	r.want("5xx, old", &s.Consecutive5xx, 3)
	r.want("5xx enforced", &s.EnforcedConsecutive5xx, 1)
	r.want("enforced", &s.EnforcedTotal, 1)
	r.want("total, old", &s.Total, 1)
	r.want("overflow", &s.Overflow, 2)
	r.d.Remove(r.m[0])
	if n := s.Active.Value(); n != 0 {
		t.Errorf("%d active after the host is gone", n)
	}
	r.report(0, 500, 500, 500, 500, 500)
	r.want("of a host that is gone", &s.DetectedConsecutive5xx, 3)
	r.d.Close()
	r.report(1, 500, 500, 500, 500, 500)
	r.want("after the end", &s.DetectedConsecutive5xx, 3)
}

// TestEjectionTime follows one host through ejections that get longer, up to a limit, and shorter again after it has done well.
func TestEjectionTime(t *testing.T) {
	r := newRig(t, "max_ejection_percent: 100, base_ejection_time: 30s, max_ejection_time: 100s, interval: 10s, consecutive_5xx: 1", 1)
	lasts := func() time.Duration {
		r.report(0, 500)
		from := r.now
		for r.m[0].Ejected() {
			r.now += 10 * time.Second
			r.d.Sweep()
		}
		return r.now - from
	}
	for i, want := range []float64{30, 60, 90, 100, 100} {
		if got := lasts(); got.Seconds() != want {
			t.Errorf("ejection %d lasts %v", i+1, got)
		}
	}
	for range 3 {
		r.now += 10 * time.Second
		r.d.Sweep()
	}
	if got := lasts(); got != 90*time.Second {
		t.Errorf("after three good intervals: %v", got)
	}
	if r.m[0].ejections != 6 {
		t.Errorf("%d ejections", r.m[0].ejections)
	}
}

func TestJitter(t *testing.T) {
	r := newRig(t, "max_ejection_percent: 100, base_ejection_time: 1s, max_ejection_time_jitter: 10s, consecutive_5xx: 1", 50)
	for i := range r.m {
		r.report(i, 500)
	}
	seen := map[time.Duration]bool{}
	for _, m := range r.m {
		if m.jitter < 0 || m.jitter > 10*time.Second {
			t.Errorf("jitter %v", m.jitter)
		}
		seen[m.jitter.Truncate(time.Second)] = true
	}
	if len(seen) < 8 {
		t.Errorf("50 draws fell into %d seconds", len(seen))
	}
	r.now = 6 * time.Second
	r.d.Sweep()
	if n := len(r.out()); n < 10 || n > 40 {
		t.Errorf("%d of 50 are out in the middle", n)
	}
}

func TestActiveCheckUnejects(t *testing.T) {
	for config, back := range map[string]bool{"": true, ", successful_active_health_check_uneject_host: false": false} {
		r := newRig(t, "max_ejection_percent: 100"+config, 1)
		r.report(0, 500, 500, 500, 500, 500)
		r.d.Passed(r.m[0])
		if r.m[0].Ejected() == back {
			t.Errorf("%q: ejected %v", config, !back)
		}
	}
}

// TestRowsEndWithEjection lets a host that comes back have all of its chances.
func TestRowsEndWithEjection(t *testing.T) {
	r := newRig(t, "max_ejection_percent: 100, consecutive_gateway_failure: 3, enforcing_consecutive_gateway_failure: 100", 1)
	r.report(0, 503, 503, 503, 503) // out after the third, and one more from a request that was under way
	r.now = time.Minute
	r.d.Sweep()
	r.report(0, 503, 503)
	if r.m[0].Ejected() {
		t.Error("ejected for what it did before")
	}
	r.report(0, 503)
	if !r.m[0].Ejected() {
		t.Error("not ejected")
	}
}

func TestDegraded(t *testing.T) {
	r := newRig(t, "detect_degraded_hosts: true, base_ejection_time: 10s", 1)
	m := r.m[0]
	for i, want := range []time.Duration{10 * time.Second, 20 * time.Second} {
		m.SaidDegraded()
		m.SaidDegraded()
		if !m.Degraded() {
			t.Fatal("not degraded")
		}
		from := r.now
		for m.Degraded() {
			r.now += time.Second
			r.d.Sweep()
		}
		if r.now-from != want {
			t.Errorf("period %d: %v", i, r.now-from)
		}
	}
	r = newRig(t, "", 1)
	if r.m[0].SaidDegraded(); r.m[0].WantsDegraded() || r.m[0].Degraded() {
		t.Error("degraded though nobody looks for it")
	}
}

// TestSimulation runs six hours of a cluster in which every host fails in its own way, with a fixed seed, and looks at who is out when.
func TestSimulation(t *testing.T) {
	failing := []float64{0, 0, 0, 0, 0, 0, 0, 0.02, 0.5, 1} // how often each host fails
	r := newRig(t, "max_ejection_percent: 30, interval: 10s, base_ejection_time: 30s, max_ejection_time: 300s", len(failing))
	outFor := make([]int, len(failing))
	const long = 6 * 3600
	for at := range long {
		r.now = time.Duration(at) * time.Second
		for i, p := range failing {
			if r.m[i].Ejected() {
				outFor[i]++
				continue
			}
			for range 20 {
				status := 200
				if r.draw.Float64() < p {
					status = 503
				}
				r.report(i, status)
			}
		}
		if at%10 == 0 {
			r.d.Sweep()
		}
		if n := len(r.out()); n > 3 {
			t.Fatalf("%d of 10 hosts are out", n)
		}
	}
	for i, p := range failing {
		share := float64(outFor[i]) / long
		switch {
		case p == 0 && outFor[i] > 0:
			t.Errorf("host %d never fails, and is out for %d s", i, outFor[i])
		case p >= 0.5 && share < 0.95: // 300 s out, a moment in
			t.Errorf("host %d fails %v of the time, and is out for %v of the time", i, p, share)
		}
	}
}

func TestReportDoesNotAllocate(t *testing.T) {
	r := newRig(t, "consecutive_5xx: 1000000, consecutive_gateway_failure: 1000000", 1)
	m := r.m[0]
	if n := testing.AllocsPerRun(100, func() {
		m.Report(Connected, 0)
		m.Status(200)
		m.Status(503)
		m.Report(Timeout, 504)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	var none *Monitor
	none.Report(ConnectFailed, 0)
	none.Status(500)
	none.SaidDegraded()
	if none.SuccessRate(true) != -1 {
		t.Error("a rate of nobody")
	}
}

// TestWorkersTogether has many workers cross the threshold at once: it is crossed once.
func TestWorkersTogether(t *testing.T) {
	r := newRig(t, "max_ejection_percent: 100, consecutive_5xx: 1000", 1)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				r.m[0].Status(500)
			}
		})
	}
	wg.Wait()
	r.want("detected", &r.d.stats.DetectedConsecutive5xx, 1)
	if !r.m[0].Ejected() || r.m[0].bad[0].Load() != 1600 {
		t.Error("reports were lost")
	}
}

func TestParse(t *testing.T) {
	c, err := Parse(read(t, "{}"))
	if err != nil || c.interval.Default != 10000 || c.base.Default != 30000 || c.longest.Default != 300000 || c.mostEjected.Default != 10 || !c.uneject {
		t.Errorf("defaults: %+v %v", c, err)
	}
	if c, _ = Parse(read(t, "base_ejection_time: 400s")); c.longest.Default != 400000 {
		t.Errorf("the longest ejection time is %d ms", c.longest.Default)
	}
	if _, err = Parse(read(t, "{base_ejection_time: 40s, max_ejection_time: 30s}")); err == nil || err.Error() != "max_ejection_time: cannot be smaller than base_ejection_time" {
		t.Errorf("%v", err)
	}
}

func FuzzReports(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, true)
	f.Fuzz(func(t *testing.T, script []byte, split bool) {
		config := "max_ejection_percent: 50, consecutive_5xx: 2, detect_degraded_hosts: true"
		if split {
			config += ", split_external_local_origin_errors: true"
		}
		r := newRig(t, config, 4)
		for _, b := range script {
			host := int(b) % 4
			switch v := int(b) / 4; {
			case v < 6:
				r.m[host].Report(Result(v), 0)
			case v < 40:
				r.m[host].Status(100 * (v % 7))
			case v < 50:
				r.now += time.Second * time.Duration(v)
				r.d.Sweep()
			default:
				r.m[host].SaidDegraded()
			}
			if n := len(r.out()); n > 2 || int64(n) != r.d.stats.Active.Value() {
				t.Fatalf("%d hosts of 4 are out, and %d are counted", n, r.d.stats.Active.Value())
			}
		}
	})
}
