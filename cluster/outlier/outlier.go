// Package outlier ejects hosts that answer worse than the others do (envoy.config.cluster.v3.OutlierDetection), as Envoy's detector does:
// after so many failures in a row, or when a host's success rate over an interval falls out of line.
//
// Workers report to a Monitor, which is a few atomic counters of one host. Everything else belongs to the control loop: the worker whose
// report crosses a threshold posts there, and so does the timer of the interval. The arithmetic takes the time and the random draw from its
// Env, so a test can run hours of it in a moment.
package outlier

import (
	"sync/atomic"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// Env is what a detector needs of its cluster.
type Env struct {
	// Cluster is the name that the event log shows.
	Cluster string
	// Stats is the scope of the cluster, cluster.<name>.
	Stats   stats.Scope
	Runtime *runtime.Loader
	// Now is a clock that never goes back.
	Now func() time.Duration
	// Draw is a random number.
	Draw func() uint64
	// Post runs f on the control loop; any goroutine may call it.
	Post func(f func())
	// After calls f on the control loop after d; stop ends it.
	After func(d time.Duration, f func()) (stop func())
	// Log is the event log (cluster_manager.outlier_detection.event_log_path); nil: there is none.
	Log *Log
}

// Detector judges the hosts of one version of a cluster. All but what Monitor offers to workers belongs to the control loop.
type Detector struct {
	// set at construction
	env    Env
	config *Config
	stats  *detectionStats
	// owned by the control loop
	monitors []*Monitor
	stop     func()
	closed   bool
	// atomic: of the last interval, of responses and of connections where they are judged by themselves
	rates [2]atomic.Pointer[Rate]
}

// Rate is what the success rates of the hosts were like in the last interval, in percent: their average, and below what they were out of line.
// Both are -1 if there were too few hosts to say.
type Rate struct{ Average, Threshold float64 }

// New makes a detector without hosts. Start begins its intervals.
func New(c *Config, env Env) *Detector {
	d := &Detector{env: env, config: c, stats: stats.New[detectionStats](env.Stats.Sub("outlier_detection"))}
	for i := range d.rates {
		d.rates[i].Store(&Rate{-1, -1})
	}
	return d
}

// Start begins the first interval.
func (d *Detector) Start() {
	if d.closed {
		return
	}
	d.stop = d.env.After(d.milliseconds(d.config.interval), func() {
		if !d.closed {
			d.Sweep()
			d.Start()
		}
	})
}

// Close ends the intervals; reports are without effect from now on.
func (d *Detector) Close() {
	d.closed = true
	if d.stop != nil {
		d.stop()
	}
	for _, m := range d.monitors {
		if m.ejected {
			d.stats.Active.Dec()
		}
	}
	d.monitors = nil
	stats.Drop[detectionStats](d.env.Stats.Sub("outlier_detection"))
}

// Add begins to judge the host of m.
func (d *Detector) Add(m *Monitor) {
	if d.closed {
		return
	}
	m.at = len(d.monitors)
	d.monitors = append(d.monitors, m)
}

// Remove ends that: the host is gone.
func (d *Detector) Remove(m *Monitor) {
	if m.at < 0 || d.closed {
		return
	}
	if m.ejected {
		d.stats.Active.Dec()
	}
	last := len(d.monitors) - 1
	d.monitors[m.at] = d.monitors[last]
	d.monitors[m.at].at = m.at
	d.monitors[last] = nil
	d.monitors = d.monitors[:last]
	m.at = -1
}

// Rate returns what success rates were like in the last interval; local is about connections. Any goroutine may call it.
func (d *Detector) Rate(local bool) Rate {
	if local {
		return *d.rates[1].Load()
	}
	return *d.rates[0].Load()
}

func (d *Detector) milliseconds(u runtime.Uint) time.Duration {
	return time.Duration(u.Value(d.env.Runtime.Load())) * time.Millisecond
}
