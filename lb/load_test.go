package lb

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/orca"
)

func TestOrcaWeight(t *testing.T) {
	o := &Orca{Penalty: 1, Metrics: []string{"named_metrics.m"}}
	for name, c := range map[string]struct {
		r    orca.Report
		want uint32 // 0: refused
	}{
		"cpu":                 {orca.Report{RPS: 100, CPU: .5}, 200},
		"application first":   {orca.Report{RPS: 100, CPU: .5, Application: .25}, 400},
		"named metrics first": {orca.Report{RPS: 100, CPU: .5, Application: .25, Named: map[string]float64{"m": 1}}, 100},
		"errors":              {orca.Report{RPS: 100, CPU: .5, EPS: 50}, 100},
		"as much as possible": {orca.Report{RPS: 1e12, CPU: .1}, math.MaxUint32},
		"no rate":             {orca.Report{CPU: .5}, 0},
		"no utilization":      {orca.Report{RPS: 100}, 0},
	} {
		l := &Load{}
		if err := o.Learn(l, &c.r, 1); (err != nil) != (c.want == 0) || l.reported.Load() != c.want {
			t.Errorf("%s: %d, %v", name, l.reported.Load(), err)
		}
	}
}

// TestOrcaTime shows the blackout, the median for those without a report, and the expiration.
func TestOrcaTime(t *testing.T) {
	o := &Orca{Blackout: 10 * time.Second, Expiration: time.Minute}
	hosts := []*Load{{}, {}, {}, {}}
	weights := func(now time.Duration) []uint32 {
		o.Apply(hosts, now)
		var w []uint32
		for _, l := range hosts {
			w = append(w, l.Weight())
		}
		return w
	}
	for i, rps := range []float64{10, 20, 60} {
		if err := o.Learn(hosts[i], &orca.Report{RPS: rps, CPU: 1}, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		at   time.Duration
		want []uint32
	}{
		{10 * time.Second, []uint32{1, 1, 1, 1}},
		{11 * time.Second, []uint32{10, 20, 60, 20}},
		{61 * time.Second, []uint32{10, 20, 60, 20}},
		{62 * time.Second, []uint32{1, 1, 1, 1}},
	} {
		if got := weights(c.at); !slices.Equal(got, c.want) {
			t.Errorf("at %v: %v, want %v", c.at, got, c.want)
		}
	}
	if o.Apply(hosts, 63*time.Second) {
		t.Error("nothing has changed")
	}
	if m := median([]uint32{4, 1}); m != 2 {
		t.Errorf("median %d", m)
	}
}

func TestReportedWeights(t *testing.T) {
	hosts := list(1, 1)
	hosts[0].Load.apply(3)
	if got := counts(RoundRobin{Reported: true}.Build(hosts, Start{}), 2, 400); got[0] != 300 {
		t.Errorf("%v", got)
	}
}

// TestPeakEWMA simulates hosts of different speed: the slow one gets less, a peak is noticed at once, and the host is tried again later.
func TestPeakEWMA(t *testing.T) {
	p := PeakEWMA{Decay: 10 * time.Second, Default: 30 * time.Millisecond}
	hosts := list(same(4)...)
	picker := p.Build(hosts, Start{Now: time.Second})
	r := rand.New(rand.NewPCG(1, 2))
	type request struct {
		host int
		end  time.Duration
	}
	run := func(from, to time.Duration, latency []time.Duration) (n [4]int) {
		var under []request // way
		for now := from; now < to; now += time.Millisecond {
			under = slices.DeleteFunc(under, func(q request) bool {
				if q.end > now {
					return false
				}
				hosts[q.host].Active.Add(-1)
				p.Learn(hosts[q.host].Load, latency[q.host], q.end)
				return true
			})
			i := picker.Pick(Request{Random: r.Uint64(), Now: now})
			n[i]++
			hosts[i].Active.Add(1)
			under = append(under, request{i, now + latency[i]})
		}
		for _, q := range under {
			hosts[q.host].Active.Add(-1)
		}
		return n
	}
	ms := time.Millisecond
	fast := []time.Duration{10 * ms, 10 * ms, 10 * ms, 10 * ms}
	if n := run(time.Second, 20*time.Second, fast); slices.Min(n[:]) < 4000 {
		t.Errorf("hosts of the same speed get %v", n)
	}
	slow := []time.Duration{10 * ms, 10 * ms, 10 * ms, 500 * ms}
	if n := run(20*time.Second, 30*time.Second, slow); n[3] > 300 {
		t.Errorf("the slow host gets %v", n)
	}
	if n := run(80*time.Second, 100*time.Second, fast); n[3] < 4000 {
		t.Errorf("after it has become quick again the host gets %v", n)
	}
}

func TestPeakEWMAHeedsTheQueue(t *testing.T) {
	p := PeakEWMA{Decay: time.Second, Default: time.Millisecond}
	hosts := list(1, 1)
	hosts[0].Active.Store(9)
	picker := p.Build(hosts, Start{})
	for i := range 100 {
		if got := picker.Pick(Request{Random: Next(uint64(i))}); got != 1 {
			t.Fatalf("picked %d", got)
		}
	}
	if got := p.Build(hosts[:1], Start{}).Pick(Request{}); got != 0 {
		t.Errorf("of one: %d", got)
	}
}

func TestEstimate(t *testing.T) {
	p := PeakEWMA{Decay: 10 * time.Second}
	l := &Load{}
	for _, c := range []struct {
		took, at time.Duration
		want     float64
	}{
		{100 * time.Millisecond, time.Second, 1e8},
		{300 * time.Millisecond, 2 * time.Second, 3e8}, // a peak counts at once
		{100 * time.Millisecond, 12 * time.Second, 1e8 + 2e8/math.E},
	} {
		p.Learn(l, c.took, c.at)
		if got := estimate(l.latency.Load()).latency(); math.Abs(got-c.want) > c.want/1e6 {
			t.Errorf("at %v: %v, want %v", c.at, got, c.want)
		}
	}
	for x := 0.; x < 20; x += .37 {
		if got, want := fade(x), math.Exp(-x); math.Abs(got-want) > 1e-4 {
			t.Errorf("e^-%v is %v, not %v", x, want, got)
		}
	}
}
