// Package drain decides which connections are told to close while a listener or the whole process drains.
package drain

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Drain is the state of one listener or, as parent of those, of the process. All of it is atomic: any goroutine may ask.
type Drain struct {
	parent *Drain
	failed atomic.Bool // /healthcheck/fail
	state  atomic.Pointer[period]
}

type period struct {
	start     time.Time
	time      time.Duration
	immediate bool
}

// New makes a Drain below parent, which may be nil.
func New(parent *Drain) *Drain { return &Drain{parent: parent} }

// Start begins to drain: over d, more and more of the connections that ask are told to close; immediate tells all at once.
// A second Start changes nothing.
func (d *Drain) Start(over time.Duration, immediate bool) {
	d.state.CompareAndSwap(nil, &period{time.Now(), over, immediate})
}

// Draining says whether Start was called here or above.
func (d *Drain) Draining() bool {
	return d != nil && (d.state.Load() != nil || d.parent.Draining())
}

// Fail makes Closing say true, as /healthcheck/fail does; Fail(false) takes it back.
func (d *Drain) Fail(on bool) { d.failed.Store(on) }

// Failed says whether Fail is in force here or above.
func (d *Drain) Failed() bool { return d != nil && (d.failed.Load() || d.parent.Failed()) }

// Closing says whether the connection that asks is to be closed at its next chance.
func (d *Drain) Closing() bool {
	for ; d != nil; d = d.parent {
		if d.failed.Load() {
			return true
		}
		if p := d.state.Load(); p != nil {
			passed := time.Since(p.start)
			if p.immediate || passed >= p.time || rand.Int64N(int64(p.time)) < int64(passed) {
				return true
			}
		}
	}
	return false
}
