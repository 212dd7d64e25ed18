// Package control is the control loop: the one goroutine that owns listeners, clusters, subscriptions and warming, so that their
// managers need no mutex.
package control

import (
	"sync"
	"time"
)

// Loop runs functions one after the other.
type Loop struct {
	mu     sync.Mutex // guards queue and closed
	queue  []func()
	wake   chan struct{}
	closed bool
}

// New makes a loop; nothing runs before Run.
func New() *Loop { return &Loop{wake: make(chan struct{}, 1)} }

// Post runs f on the loop after all that was posted before. Any goroutine may call it. It says whether f will run: not after Stop.
func (l *Loop) Post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.queue = append(l.queue, f)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

// Do runs f on the loop and waits for it; false: the loop has stopped, and f did not run. It must not be called on the loop.
func (l *Loop) Do(f func()) bool {
	done := make(chan struct{})
	if !l.Post(func() { defer close(done); f() }) {
		return false
	}
	<-done
	return true
}

// After runs f on the loop once d has passed, unless the timer is stopped before.
func (l *Loop) After(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { l.Post(f) })
}

// Stop ends Run once what was posted before has run.
func (l *Loop) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run serves until Stop.
func (l *Loop) Run() {
	for {
		l.mu.Lock()
		q, closed := l.queue, l.closed
		l.queue = nil
		l.mu.Unlock()
		for _, f := range q {
			f()
		}
		switch {
		case len(q) > 0:
		case closed:
			return
		default:
			<-l.wake
		}
	}
}
