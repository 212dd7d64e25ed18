package lb

import (
	"math"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/orca"
)

// LoadAware divides traffic among localities by the room that their hosts report
// (envoy.extensions.load_balancing_policies.load_aware_locality.v3). Its own locality comes first, as long as it is not busier than the others.
type LoadAware struct {
	Metrics    []string      // metric_names_for_computing_utilization
	Threshold  float64       // utilization_variance_threshold: so much busier may the own locality be
	Alpha      float64       // of the smoothing: the weight of what is new
	Probe      float64       // remote_probe_fraction: others get so much at least
	Expiration time.Duration // of reports; 0: never

	smoothed []float64 // by locality
}

// Areas say how traffic is divided among localities.
type Areas struct {
	weights  []float64
	total    float64
	Local    bool // the first is the own one
	AllLocal bool // and gets all
}

// Learn takes a report in.
func (p *LoadAware) Learn(l *Load, r *orca.Report, now time.Duration) {
	u := r.Max(p.Metrics)
	if u <= 0 {
		u = r.Application
	}
	if u <= 0 {
		u = r.CPU
	}
	l.utilization.Store(math.Float64bits(u))
	l.last.Store(int64(now))
}

// utilization is the average of what healthy hosts report; ok is false where none does.
func (p *LoadAware) utilization(hosts []*Load, now time.Duration) (average float64, ok bool) {
	sum, n := 0., 0
	for _, l := range hosts {
		u := math.Float64frombits(l.utilization.Load())
		if u > 0 && (p.Expiration == 0 || time.Duration(l.last.Load())+p.Expiration >= now) {
			sum += u
			n++
		}
	}
	return sum / float64(max(n, 1)), n > 0
}

// Weigh computes the division anew. areas are the healthy hosts of each locality, the own one first if local is set. Control loop only.
func (p *LoadAware) Weigh(areas [][]*Load, local bool, now time.Duration) *Areas {
	busy := p.smooth(areas, now)
	a := &Areas{weights: make([]float64, len(areas)), Local: local && len(areas) > 0}
	hosts, elsewhere, load := 0, 0, 0.
	for i, l := range areas {
		a.weights[i] = float64(len(l)) * max(0, 1-busy[i])
		if hosts += len(l); i > 0 {
			elsewhere += len(l)
			load += busy[i] * float64(len(l))
		}
	}
	if a.Local {
		if a.weights[0] > 0 && busy[0] <= load/float64(max(elsewhere, 1))+p.Threshold || hosts == 0 {
			clear(a.weights)
			a.AllLocal, a.weights[0] = true, 1
		}
		p.probe(a, areas, elsewhere)
	}
	for _, w := range a.weights {
		a.total += w
	}
	if a.total == 0 { // everybody is busy: each has its share
		for i, l := range areas {
			a.weights[i] = float64(len(l))
		}
		a.total = float64(hosts)
	}
	return a
}

// smooth brings the averages up to date; what nobody has reported stays.
func (p *LoadAware) smooth(areas [][]*Load, now time.Duration) []float64 {
	raw, known, some := make([]float64, len(areas)), make([]bool, len(areas)), false
	for i, l := range areas {
		raw[i], known[i] = p.utilization(l, now)
		some = some || known[i]
	}
	if len(p.smoothed) != len(areas) {
		if some {
			p.smoothed = raw
		}
		return raw
	}
	for i := range raw {
		if known[i] {
			p.smoothed[i] = p.Alpha*raw[i] + (1-p.Alpha)*p.smoothed[i]
		}
	}
	return p.smoothed
}

// probe lets the other localities have a little, so that one hears of them.
func (p *LoadAware) probe(a *Areas, areas [][]*Load, elsewhere int) {
	total := 0.
	for _, w := range a.weights {
		total += w
	}
	missing := total*p.Probe - (total - a.weights[0])
	if elsewhere == 0 || missing <= 0 {
		return
	}
	a.AllLocal, a.weights[0] = false, max(0, a.weights[0]-missing)
	for i := 1; i < len(areas); i++ {
		a.weights[i] += missing * float64(len(areas[i])) / float64(elsewhere)
	}
}

// Choose draws one of n localities.
func (a *Areas) Choose(draw uint64, n int) int {
	total := a.total
	if n = min(n, len(a.weights)); n < len(a.weights) { // localities have gone since
		total = 0
		for _, w := range a.weights[:n] {
			total += w
		}
	}
	at := float64(draw) / math.MaxUint64 * total
	for i, w := range a.weights[:n] {
		if at -= w; at < 0 {
			return i
		}
	}
	return max(n-1, 0)
}
