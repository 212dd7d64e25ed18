package pool

import (
	"sync/atomic"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// Resource is a circuit breaker: something of which there may be only so many at a time, counted over all workers.
type Resource struct {
	// set at construction
	max       int64
	open      *stats.Gauge
	remaining *stats.Gauge // nil unless track_remaining
	// atomic
	n atomic.Int64
}

// Max returns how many there may be.
func (r *Resource) Max() int64 { return r.max }

// Active returns how many there are.
func (r *Resource) Active() int64 { return r.n.Load() }

// Free says whether one more may be taken now; another worker may be faster.
func (r *Resource) Free() bool { return r.n.Load() < r.max }

// Take takes one, or says that there is none left. Two workers never share the last one.
func (r *Resource) Take() bool {
	n := r.n.Add(1)
	if n > r.max {
		r.n.Add(-1)
		return false
	}
	r.show(n)
	return true
}

// Force takes one whatever the limit says: the first connection of a pool is never refused.
func (r *Resource) Force() { r.show(r.n.Add(1)) }

// Return gives one back.
func (r *Resource) Return() { r.show(r.n.Add(-1)) }

func (r *Resource) show(n int64) {
	if n >= r.max-1 && r.open != nil {
		r.open.Set(flag(n >= r.max))
	}
	if r.remaining != nil {
		r.remaining.Set(max(r.max-n, 0))
	}
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
}

// Retries limits the retries under way, by number or by a share of the requests under way.
type Retries struct {
	Resource
	// set at construction
	limits   *Limits
	budgeted bool
	percent  float64
	floor    int64 // min_retry_concurrency
}

// Take takes a retry, or says that there is none left.
func (r *Retries) Take() bool {
	if !r.budgeted {
		return r.Resource.Take()
	}
	active := r.limits.Requests.Active() + r.limits.Pending.Active()
	most := max(int64(float64(active)*r.percent/100), r.floor)
	if r.n.Add(1) > most {
		r.n.Add(-1)
		return false
	}
	return true
}

// Maxima are what the circuit breakers of one priority allow.
type Maxima struct {
	Connections, Pending, Requests, Retries, Pools int64
	// Budget is retry_budget, instead of Retries: percent of the requests under way, at least Floor.
	Budgeted bool
	Budget   float64
	Floor    int64
}

// NewLimits makes the circuit breakers of one priority.
func NewLimits(m Maxima) *Limits {
	l := &Limits{}
	l.Connections.max, l.Pending.max, l.Requests.max, l.Pools.max, l.Retries.max = m.Connections, m.Pending, m.Requests, m.Pools, m.Retries
	l.Retries.limits, l.Retries.budgeted, l.Retries.percent, l.Retries.floor = l, m.Budgeted, m.Budget, m.Floor
	return l
}
