package pool

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// Resource is a circuit breaker: something of which there may be only so many at a time, counted over all workers.
type Resource struct {
	// set at construction
	open      *stats.Gauge
	remaining *stats.Gauge // nil unless track_remaining
	// atomic
	max, n atomic.Int64
}

// Max returns how many there may be.
func (r *Resource) Max() int64 { return r.max.Load() }

// Active returns how many there are.
func (r *Resource) Active() int64 { return r.n.Load() }

// Take takes one, or says that there is none left. Two workers never share the last one.
func (r *Resource) Take() bool {
	n, most := r.n.Add(1), r.max.Load()
	if n > most {
		r.n.Add(-1)
		return false
	}
	r.use(n, most)
	return true
}

// Force takes one whatever the limit says: the first connection of a pool is never refused, nor is a TCP connection a request.
func (r *Resource) Force() { r.use(r.n.Add(1), r.max.Load()) }

// Return gives one back.
func (r *Resource) Return() { r.use(r.n.Add(-1), r.max.Load()) }

// use shows what there is now; from the first use on the gauge counts as used.
func (r *Resource) use(n, most int64) {
	if !r.open.Used() {
		r.open.Set(flag(n >= most))
	}
	r.show(n, most)
}

func (r *Resource) show(n, most int64) {
	if n >= most-1 {
		r.open.Set(flag(n >= most))
	}
	if r.remaining == nil {
		return
	}
	left := max(most-n, 0)
	if most == math.MaxInt64 {
		left = -1 - n // no limit is the greatest unsigned number, and gauges are shown as such
	}
	r.remaining.Set(left)
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// Limits are the circuit breakers of one priority (envoy.config.cluster.v3.CircuitBreakers.Thresholds).
type Limits struct {
	Connections Resource // max_connections
	Pending     Resource // max_pending_requests: waiting for a connection
	Requests    Resource // max_requests
	Pools       Resource // max_connection_pools
	Retries     Retries  // max_retries, retry_budget

	// set at construction
	m      Maxima
	window *window // of a budget with an interval; nil: there is none
	// atomic
	seen atomic.Pointer[runtime.Snapshot]
}

// Retries limits the retries under way, by number or by a share of the requests under way.
type Retries struct {
	Resource

	// set at construction
	limits *Limits
}

// Take takes a retry, or says that there is none left.
func (r *Retries) Take() bool {
	m := &r.limits.m
	if m.Budgeted {
		s := m.Runtime.Load()
		percent := s.Double(m.Prefix+"retry_budget.budget_percent", m.Budget)
		floor := int64(s.Uint(m.Prefix+"retry_budget.min_retry_concurrency", uint64(m.Floor)))
		active := r.limits.Requests.Active() + r.limits.Pending.Active()
		if w := r.limits.window; w != nil {
			active = w.sum(time.Now())
		}
		r.max.Store(max(int64(float64(active)*percent/100), floor))
	}
	return r.Resource.Take()
}

// Maxima are what the circuit breakers of one priority allow.
type Maxima struct {
	Connections, Pending, Requests, Retries, Pools int64
	// Budgeted is retry_budget, instead of Retries: Budget percent of the requests under way, at least Floor.
	Budgeted bool
	Budget   float64
	Floor    int64
	// Interval counts the requests that have begun in it, instead of those under way; 0: those under way.
	Interval time.Duration
	// Track is track_remaining.
	Track bool
	// Runtime may override each of them under Prefix: circuit_breakers.<cluster>.<priority>.
	Runtime *runtime.Loader
	Prefix  string
}

// NewLimits makes the circuit breakers of one priority.
func NewLimits(m Maxima, s *BreakerStats) *Limits {
	l := &Limits{m: m}
	if m.Budgeted && m.Interval > 0 {
		l.window = &window{step: max(m.Interval/slots, 1)}
	}
	l.Retries.limits = l
	l.Connections.open, l.Pools.open, l.Requests.open, l.Pending.open, l.Retries.open = &s.CxOpen, &s.CxPoolOpen, &s.RqOpen, &s.RqPendingOpen, &s.RqRetryOpen
	if m.Track {
		l.Connections.remaining, l.Pools.remaining, l.Requests.remaining = &s.RemainingCx, &s.RemainingPools, &s.RemainingRq
		l.Pending.remaining, l.Retries.remaining = &s.RemainingPending, &s.RemainingRetries
	}
	l.apply(m.Runtime.Load())
	return l
}

// Began notes that a request has begun.
func (l *Limits) Began() {
	if l.window != nil {
		l.window.add(time.Now())
	}
}

// slots is how finely a window forgets.
const slots = 16

// window counts what has happened lately. Any goroutine may use it.
type window struct {
	// set at construction
	step time.Duration
	// atomic
	slots [slots]struct{ at, n atomic.Int64 }
}

func (w *window) add(now time.Time) {
	at := now.UnixNano() / int64(w.step)
	s := &w.slots[at%slots]
	if old := s.at.Load(); old != at && s.at.CompareAndSwap(old, at) {
		s.n.Store(0)
	}
	s.n.Add(1)
}

func (w *window) sum(now time.Time) (n int64) {
	at := now.UnixNano() / int64(w.step)
	for i := range w.slots {
		if s := &w.slots[i]; s.at.Load() > at-slots {
			n += s.n.Load()
		}
	}
	return n
}

// refresh follows the runtime: a comparison unless it has changed.
func (l *Limits) refresh() {
	if s := l.m.Runtime.Load(); s != l.seen.Load() {
		l.apply(s)
	}
}

func (l *Limits) apply(s *runtime.Snapshot) {
	l.seen.Store(s)
	for _, r := range []struct {
		r    *Resource
		key  string
		most int64
	}{
		{&l.Connections, "max_connections", l.m.Connections},
		{&l.Pending, "max_pending_requests", l.m.Pending},
		{&l.Requests, "max_requests", l.m.Requests},
		{&l.Retries.Resource, "max_retries", l.m.Retries},
		{&l.Pools, "max_connection_pools", l.m.Pools},
	} {
		if s != nil {
			r.most = int64(s.Uint(l.m.Prefix+r.key, uint64(r.most)))
		}
		r.r.max.Store(r.most)
		r.r.show(r.r.n.Load(), r.most)
	}
}
