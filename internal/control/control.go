// Package control is the control loop: the one goroutine that owns listeners, clusters, subscriptions and warming, so that their
// managers need no mutex.
package control

import "sync"

// Loop runs functions one after the other.
type Loop struct {
	mu     sync.Mutex // guards queue and closed
	queue  []func()
	wake   chan struct{}
	closed bool
}

// New makes a loop; nothing runs before Run.
func New() *Loop { return &Loop{wake: make(chan struct{}, 1)} }

// Post runs f on the loop after all that was posted before. Any goroutine may call it; after Stop it does nothing.
func (l *Loop) Post(f func()) {
	l.mu.Lock()
	if !l.closed {
		l.queue = append(l.queue, f)
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Do runs f on the loop and waits for it. It must not be called on the loop.
func (l *Loop) Do(f func()) {
	done := make(chan struct{})
	l.Post(func() { defer close(done); f() })
	<-done
}

// Stop ends Run once what was posted before has run.
func (l *Loop) Stop() {
	l.Post(func() {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
	})
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
		if closed {
			return
		}
		if len(q) == 0 {
			<-l.wake
		}
	}
}
