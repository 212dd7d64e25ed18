package outlier

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// TestSuccessRate is the example of Envoy's documentation: 50, 100, 100, 100, 100 have the mean 90 and the deviation 20.
func TestSuccessRate(t *testing.T) {
	for _, c := range []struct {
		config string
		bad    int // of 100 requests to host 0
		others int // requests of each of the others
		out    bool
	}{
		{"", 50, 100, true},
		{"success_rate_stdev_factor: 2000", 50, 100, false}, // 50 is not below 50
		{"success_rate_minimum_hosts: 6", 50, 100, false},
		{"success_rate_request_volume: 101", 50, 200, false},
		{"", 50, 99, false}, // too few hosts with 100 requests
		{"enforcing_success_rate: 0", 50, 100, false},
		{"", 0, 100, false},
	} {
		r := newRig(t, "consecutive_5xx: 1000, max_ejection_percent: 100, "+c.config, 5)
		for i := range r.m {
			n, bad := c.others, 0
			if i == 0 {
				n, bad = 100, c.bad
			}
			r.report(i, slices.Repeat([]int{200}, n-bad)...)
			r.report(i, slices.Repeat([]int{500}, bad)...)
		}
		r.d.Sweep()
		if got := r.m[0].Ejected(); got != c.out {
			t.Errorf("%q: ejected %v", c.config, got)
		}
		if c.config == "" && c.bad == 50 && c.others == 100 {
			if v := r.d.Rate(false); math.Abs(v.Average-90) > 1e-9 || math.Abs(v.Threshold-52) > 1e-9 {
				t.Errorf("%+v", v)
			}
			if r.m[0].SuccessRate(false) != 50 || r.m[0].SuccessRate(true) != -1 {
				t.Error("the rates that /clusters shows")
			}
			r.want("detected", &r.d.stats.DetectedRate, 1)
			r.want("enforced", &r.d.stats.EnforcedRate, 1)
		}
		r.d.Sweep() // the counts of an interval are its own
		if r.m[1].SuccessRate(false) != -1 {
			t.Error("requests were counted twice")
		}
	}
}

func TestFailurePercentage(t *testing.T) {
	for _, c := range []struct {
		config string
		bad    int
		out    bool
	}{
		{"enforcing_failure_percentage: 100", 85, true},
		{"enforcing_failure_percentage: 100", 84, false},
		{"enforcing_failure_percentage: 100, failure_percentage_threshold: 10", 10, true},
		{"", 100, false},
		{"enforcing_failure_percentage: 100, failure_percentage_minimum_hosts: 4", 85, false},
		{"enforcing_failure_percentage: 100, failure_percentage_request_volume: 101", 85, false},
	} {
		r := newRig(t, "consecutive_5xx: 1000, max_ejection_percent: 100, success_rate_minimum_hosts: 100, failure_percentage_minimum_hosts: 3, "+c.config, 3)
		if strings.Contains(c.config, "minimum_hosts") { // the later of two keys would be refused
			r = newRig(t, "consecutive_5xx: 1000, max_ejection_percent: 100, success_rate_minimum_hosts: 100, "+c.config, 3)
		}
		for i := range r.m {
			bad := 0
			if i == 0 {
				bad = c.bad
			}
			r.report(i, slices.Repeat([]int{500}, bad)...)
			r.report(i, slices.Repeat([]int{200}, 100-bad)...)
		}
		r.d.Sweep()
		if got := r.m[0].Ejected(); got != c.out {
			t.Errorf("%q with %d of 100: ejected %v", c.config, c.bad, got)
		}
	}
}

func TestSplitRates(t *testing.T) {
	r := newRig(t, "split_external_local_origin_errors: true, max_ejection_percent: 100, consecutive_local_origin_failure: 1000", 5)
	for i := range r.m {
		res := Connected
		if i == 3 {
			res = ConnectFailed
		}
		r.report(i, results(res, 100)...)
		r.report(i, slices.Repeat([]int{200}, 100)...)
	}
	r.d.Sweep()
	if got := r.out(); !slices.Equal(got, []int{3}) {
		t.Errorf("out: %v", got)
	}
	r.want("by local origin", &r.d.stats.EnforcedRateLocal, 1)
}
