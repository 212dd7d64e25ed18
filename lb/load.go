package lb

import (
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/orca"
)

// Load is what the responses of a host have taught. All versions of a host share one, and all workers write it.
type Load struct {
	// atomic
	applied  atomic.Uint32 // the weight to balance with; 0: that of the configuration
	reported atomic.Uint32 // the weight of the latest report
	first    atomic.Int64  // when reports began; 0: there are none
	last     atomic.Int64
	latency  atomic.Uint64 // an estimate and its time; see estimate
	// utilization is what was reported, as the bits of a float64
	utilization atomic.Uint64
}

// Weight is the weight that Orca has found; 0: it has not looked yet, and that of the configuration holds.
func (l *Load) Weight() uint32 { return l.applied.Load() }

// Orca makes weights of load reports: the more requests per second a host serves for its utilization, the more it gets
// (envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3).
type Orca struct {
	Blackout   time.Duration // reports count only after so long
	Expiration time.Duration // and not longer than so long
	Penalty    float64       // error_utilization_penalty
	Metrics    []string      // metric_names_for_computing_utilization
}

// Learn takes a report in. now is on a clock that never shows 0.
func (o *Orca) Learn(l *Load, r *orca.Report, now time.Duration) error {
	w, err := o.weigh(r)
	if err != nil {
		return err
	}
	l.reported.Store(w)
	l.last.Store(int64(now))
	l.first.CompareAndSwap(0, int64(now))
	return nil
}

func (o *Orca) weigh(r *orca.Report) (uint32, error) {
	if r.RPS <= 0 {
		return 0, errors.New("QPS must be positive")
	}
	u := r.Max(o.Metrics)
	if u <= 0 {
		u = r.Application
	}
	if u <= 0 {
		u = r.CPU
	}
	if u += o.Penalty * r.EPS / r.RPS; u <= 0 {
		return 0, errors.New("utilization must be positive")
	}
	return uint32(min(r.RPS/u, math.MaxUint32)), nil
}

// Apply gives hosts the weights of their reports, and those that have none which counts the median of the others. It says whether any
// weight has changed.
func (o *Orca) Apply(hosts []*Load, now time.Duration) (changed bool) {
	var known []uint32
	var others []*Load
	for _, l := range hosts {
		w, ok := o.valid(l, now)
		if !ok {
			others = append(others, l)
			continue
		}
		known = append(known, w)
		changed = l.apply(w) || changed
	}
	usual := median(known)
	for _, l := range others {
		changed = l.apply(usual) || changed
	}
	return changed
}

func (l *Load) apply(w uint32) (changed bool) { return l.applied.Swap(max(w, 1)) != max(w, 1) }

func (o *Orca) valid(l *Load, now time.Duration) (uint32, bool) {
	first := l.first.Load()
	if first == 0 || time.Duration(first)+o.Blackout > now {
		return 0, false
	}
	if time.Duration(l.last.Load())+o.Expiration < now {
		l.first.Store(0) // if reports come again, so does the blackout
		return 0, false
	}
	return l.reported.Load(), true
}

// median is that of a list, which it sorts; 1 for none.
func median(l []uint32) uint32 {
	if len(l) == 0 {
		return 1
	}
	slices.Sort(l)
	m := len(l) / 2
	if len(l)%2 == 1 {
		return l[m]
	}
	return uint32((uint64(l[m-1]) + uint64(l[m])) / 2)
}
