package xdsclient

import (
	"math/rand/v2"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// backoff says how long to wait before the next attempt: a random time below a bound that doubles with each failure (Envoy:
// JitteredExponentialBackOffStrategy).
type backoff struct {
	// set at construction
	base, limit time.Duration
	random      func(n int64) int64
	// changes
	next time.Duration
}

// Envoy's defaults.
const (
	backoffBase  = 500 * time.Millisecond
	backoffLimit = 30 * time.Second
)

func newBackoff(p *corev3.BackoffStrategy) *backoff {
	b := &backoff{base: backoffBase, limit: backoffLimit, random: rand.Int64N}
	if p == nil {
		return b
	}
	b.base = max(p.GetBaseInterval().AsDuration(), time.Millisecond)
	b.limit = 10 * b.base
	if m := p.GetMaxInterval(); m != nil {
		b.limit = max(m.AsDuration(), b.base)
	}
	return b
}

// delay is how long to wait now; the next one will be longer.
func (b *backoff) delay() time.Duration {
	if b.next == 0 {
		b.next = b.base
	}
	d := time.Duration(b.random(int64(b.next)))
	b.next = min(2*b.next, b.limit)
	return d
}

// reset begins anew, after a success.
func (b *backoff) reset() { b.next = 0 }
