package lb

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/orca"
)

// areas are localities of hosts with these utilizations, as reported at time 1 s; 0: no report.
func areas(p *LoadAware, busy ...[]float64) [][]*Load {
	all := make([][]*Load, len(busy))
	for i, l := range busy {
		for _, u := range l {
			h := &Load{}
			if u > 0 {
				p.Learn(h, &orca.Report{Application: u}, time.Second)
			}
			all[i] = append(all[i], h)
		}
	}
	return all
}

func TestLoadAware(t *testing.T) {
	for name, c := range map[string]struct {
		p     LoadAware
		busy  [][]float64
		local bool
		at    time.Duration
		want  []float64 // shares
		all   bool
	}{
		"all is quiet":           {LoadAware{Threshold: .1}, [][]float64{{.2, .2}, {.2}}, true, 1, []float64{1, 0}, true},
		"a little busier":        {LoadAware{Threshold: .1}, [][]float64{{.3}, {.2}}, true, 1, []float64{1, 0}, true},
		"busier":                 {LoadAware{Threshold: .1}, [][]float64{{.5, .5}, {.2, .2}}, true, 1, []float64{5. / 13, 8. / 13}, false},
		"with a probe":           {LoadAware{Threshold: .1, Probe: .1}, [][]float64{{.2}, {.2, .2}, {.2, .2}}, true, 1, []float64{.9, .05, .05}, false},
		"nobody has reported":    {LoadAware{Threshold: .1, Probe: .03}, [][]float64{{0}, {0}}, true, 1, []float64{.97, .03}, false},
		"no zone of ours":        {LoadAware{Threshold: .1, Probe: .5}, [][]float64{{.5}, {.75}}, false, 1, []float64{2. / 3, 1. / 3}, false},
		"everybody is busy":      {LoadAware{Threshold: -1}, [][]float64{{1, 1, 1}, {1.5}}, true, 1, []float64{.75, .25}, false},
		"nobody is here":         {LoadAware{Threshold: .1}, [][]float64{{}, {.2}}, true, 1, []float64{0, 1}, false},
		"nobody is anywhere":     {LoadAware{Threshold: .1, Probe: .1}, [][]float64{{}, {}}, true, 1, []float64{1, 0}, true},
		"reports too old":        {LoadAware{Threshold: .1, Expiration: time.Second}, [][]float64{{.9}, {.2}}, true, 3 * time.Second, []float64{1, 0}, true},
		"one host has a report":  {LoadAware{Threshold: .1}, [][]float64{{.8, 0}, {.2, .2}}, true, 1, []float64{.2, .8}, false},
		"the probe is there yet": {LoadAware{Threshold: .1, Probe: .1}, [][]float64{{.5, .5}, {.2, .2}}, true, 1, []float64{5. / 13, 8. / 13}, false},
	} {
		a := c.p.Weigh(areas(&c.p, c.busy...), c.local, c.at)
		for i, w := range a.weights {
			if math.Abs(w/a.total-c.want[i]) > 1e-9 {
				t.Errorf("%s: %v of %v", name, a.weights, a.total)
			}
		}
		if a.AllLocal != c.all || a.Local != c.local {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestLoadAwareIsSmooth(t *testing.T) {
	p := &LoadAware{Alpha: .5, Threshold: .1, Metrics: []string{"named_metrics.m"}}
	l := areas(p, []float64{.2}, []float64{.2})
	p.Weigh(l, false, 1)
	p.Learn(l[0][0], &orca.Report{Application: .1, Named: map[string]float64{"m": .8}}, time.Second) // named metrics are first
	a := p.Weigh(l, false, 1)
	if math.Abs(a.weights[0]-.5) > 1e-9 || math.Abs(a.weights[1]-.8) > 1e-9 {
		t.Errorf("%v", a.weights)
	}
	p.Learn(l[0][0], &orca.Report{CPU: .8}, time.Second)
	if a = p.Weigh(l, false, 1); math.Abs(a.weights[0]-.35) > 1e-9 {
		t.Errorf("%v", a.weights)
	}
}

func TestAreasChoose(t *testing.T) {
	a := &Areas{weights: []float64{1, 2, 5}, total: 8}
	r := rand.New(rand.NewPCG(1, 1))
	for n, want := range map[int][]float64{3: {1. / 8, 2. / 8, 5. / 8}, 2: {1. / 3, 2. / 3}, 5: {1. / 8, 2. / 8, 5. / 8}} {
		got := make([]float64, 3)
		for range 20000 {
			got[a.Choose(r.Uint64(), n)]++
		}
		for i, w := range want {
			if math.Abs(got[i]/20000-w) > .02 {
				t.Errorf("%d localities: %v", n, got)
			}
		}
	}
	if a.Choose(math.MaxUint64, 3) != 2 || (&Areas{}).Choose(1, 0) != 0 || (&Areas{weights: []float64{0, 0}}).Choose(5, 2) != 1 {
		t.Error("at the ends")
	}
}
