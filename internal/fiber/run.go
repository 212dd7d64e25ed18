package fiber

import "time"

// rounds is how often fibers that wake each other may go on before the next look at the sockets.
const rounds = 4

// Run serves until Stop. It locks its goroutine to the thread; on the epoll engine all fibers run there.
func (w *Worker) Run() {
	w.pin()
	defer w.end()
	w.tick()
	for !w.stopped {
		w.spin(w.patience())
	}
	w.drain()
}

// Stop ends Run: listeners are closed, every fiber is cancelled with ErrStopped and runs to its end (those that do not within Grace
// are given up), connections that are left are closed. It may be called from any goroutine, more than once, and before Run.
func (w *Worker) Stop() {
	w.Post(func() { w.stopped = true })
}

// spin is one turn of the loop.
func (w *Worker) spin(patience time.Duration) {
	w.poll.wait(patience)
	w.sleeping.Store(false)
	w.Turns++
	w.tick()
	w.runPosted()
	for range rounds {
		if len(w.runnable) == 0 {
			break
		}
		w.runFibers()
	}
	w.watch.rest()
}

// patience is how long this turn may wait for events.
func (w *Worker) patience() time.Duration {
	if len(w.runnable) > 0 {
		return 0
	}
	w.sleeping.Store(true)
	if w.pending.Load() {
		return 0
	}
	return w.wheel.until(w.now)
}

func (w *Worker) tick() {
	w.look()
	w.wheel.advance(w, w.now)
}

// look reads the clock. The poller calls it before it tells of events, since what they start is limited from then on: after a long
// wait the time of the turn before would make such limits pass at once.
func (w *Worker) look() { w.now = Time(time.Since(w.start)) + 1 }

// runFibers gives everybody that is runnable now one turn; what they wake is in the next round.
func (w *Worker) runFibers() {
	w.round, w.runnable, w.at = w.runnable, w.round[:0], 0
	for w.at < len(w.round) {
		t := w.next()
		f := t.fiber
		if t.idle != nil {
			f = w.begin(t.idle)
		}
		if f.coro == nil {
			f.coro = w.newCoro(f)
		}
		f.budget = budgetPerTurn
		w.cur = f
		w.watch.busy(f)
		f.coro.enter()
		w.cur = nil
	}
	if w.trim.slot == 0 {
		w.trim.Set(w, w.now.Add(trimEvery))
	}
}

func (w *Worker) next() (t turn) {
	t, w.round[w.at] = w.round[w.at], turn{}
	w.at++
	return t
}

// begin lends a fiber to an idle connection.
func (w *Worker) begin(s *socket) *Fiber {
	f := w.take(nil)
	f.idle, f.waiting = s, false
	return f
}

// adopt gives f, which has just come to its end and is on top of the pool, the next life at once if it is an idle connection's
// turn: no switch to the loop and back, and the stack is warm.
func (w *Worker) adopt(f *Fiber) bool {
	if w.at == len(w.round) || w.round[w.at].idle == nil {
		return false
	}
	w.begin(w.next().idle)
	f.budget = budgetPerTurn
	w.watch.busy(f)
	return true
}

// drain cancels all fibers and lets them end.
func (w *Worker) drain() {
	w.poll.unlisten()
	for _, f := range w.fibers {
		if f.live {
			f.cancel(ErrStopped)
		}
	}
	for until := w.now.Add(w.Grace); (w.live > 0 || len(w.runnable) > 0) && w.now < until; {
		d := w.patience()
		if left := time.Duration(until - w.now); d < 0 || d > left {
			d = left
		}
		w.spin(d)
	}
}

// end gives everything back. Fibers that still live are left behind: they block or compute, and nothing can end them.
func (w *Worker) end() {
	w.ended = true
	for _, f := range w.free {
		w.dismiss(f)
	}
	w.free = nil
	w.mu.Lock()
	w.gone = true
	w.mu.Unlock()
	w.runPosted() // whom Post told true is not left waiting
	w.poll.close()
	w.watch.end()
	w.unpin()
}
