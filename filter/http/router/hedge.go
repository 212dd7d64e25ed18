package router

import (
	"github.com/outrigger-proxy/outrigger/filter"
)

// hedge starts an attempt; when it exceeds the per-try timeout it goes on, and another one starts beside it, as long as there are
// retries. The first to have an acceptable head is the one; the others are given up with it.
func (e *exchange) hedge() (*attempt, error) {
	s := e.s
	for {
		a := e.next()
		a.task.Start(s.Worker, a.run1) // joined by release
		s.Limit(filter.LimitTry, s.Worker.Now().Add(e.times.perTry))
		best, err := e.first()
		s.Limit(filter.LimitTry, 0)
		if err == nil {
			return best, best.err
		}
		if err != filter.LimitTry.Cause() {
			return a, err
		}
		e.tryTimedOut(a, err)
		a.blame(err)
		if e.used == len(e.tries) || !e.mayHedge() || !e.takeRetry() {
			break
		}
		e.releaseRetry()
	}
	best, err := e.first()
	if err != nil {
		return &e.tries[e.used-1], err
	}
	return best, best.err
}

// mayHedge says whether the policy would retry a gateway timeout, and the body can be sent again.
func (e *exchange) mayHedge() bool {
	e.tries[e.used-1].late = true
	return e.retry.wouldTimeout() && e.retryable()
}

// runTask is an attempt on a fiber of its own.
func (a *attempt) runTask() {
	a.err = a.run()
	a.failedWith(a.err)
	a.done = true
	a.e.settled.Broadcast()
}

// first waits for an attempt that is good enough, or else for the last one to fail.
func (e *exchange) first() (*attempt, error) {
	for {
		failed := 0
		var last *attempt
		for i := range e.tries[:e.used] {
			a := &e.tries[i]
			if !a.done {
				continue
			}
			if a.err == nil && !e.retry.wouldStatus(e, &a.response) {
				return a, nil
			}
			failed, last = failed+1, a
		}
		if failed == e.used {
			return last, nil
		}
		if err := e.settled.Wait(e.s.Worker); err != nil {
			return nil, err
		}
	}
}

// losers gives up the attempts that another one was ahead of.
func (e *exchange) losers() {
	for i := range e.tries[:e.used] {
		if a := &e.tries[i]; a != e.won {
			a.release()
		}
	}
}
