package fiber

// Task is a handle on a second fiber: an upload, a hedged attempt, a mirror. The zero Task is not running, and a Task whose
// fiber has ended can be started again. It must not be copied while it runs.
type Task struct {
	// owned by the worker
	fiber  *Fiber
	joiner *Fiber
}

// Start runs f on a fiber of its own when its turn comes. The starter must Join or Wait before what f uses goes away.
// It panics if the task runs already.
func (t *Task) Start(w *Worker, f func()) {
	if t.fiber != nil {
		panic("fiber: Start of a task that is running")
	}
	fb := w.take(f)
	fb.task, t.fiber = t, fb
	fb.ready(nil)
}

// Running says whether the fiber has not come to its end.
func (t *Task) Running() bool { return t.fiber != nil }

// Cancel ends every wait of the task with cause, the one under way and all later ones. Only the first cause counts.
func (t *Task) Cancel(cause error) {
	if t.fiber != nil {
		t.fiber.cancel(cause)
	}
}

// SetLimit bounds the task's waits: Fiber.SetLimit for a fiber that one does not hold. No-op once the task has ended.
func (t *Task) SetLimit(l Limit) {
	if t.fiber != nil {
		t.fiber.SetLimit(l)
	}
}

// Wait waits for the end of the task. One fiber at a time may wait for it.
func (t *Task) Wait(w *Worker) error {
	for t.fiber != nil {
		t.joiner = w.cur
		err := w.cur.wait()
		t.joiner = nil
		if err != nil {
			return err
		}
	}
	return nil
}

// Join cancels the task and waits for its end, even in a cancelled fiber: a cancelled task does not wait, so this is short.
func (t *Task) Join(w *Worker) {
	t.Cancel(ErrCancelled)
	if t.fiber == nil {
		return
	}
	f := w.cur
	shield := f.shield
	f.shield = true
	_ = t.Wait(w)
	f.shield = shield
}

// Cond is how fibers of one worker wait for each other. The zero Cond is ready.
type Cond struct{ head, tail *Fiber }

// Wait parks the current fiber until Signal or Broadcast. As with sync.Cond, look at the condition again afterwards.
func (c *Cond) Wait(w *Worker) error {
	f := w.cur
	if f != nil {
		c.push(f)
	}
	err := f.wait()
	if f.cond != nil {
		c.remove(f)
	}
	return err
}

// Waiting says whether somebody waits.
func (c *Cond) Waiting() bool { return c.head != nil }

// Signal wakes the one that has waited longest, and says whether there was one. One that was cancelled, or whose limit has
// passed, in the same turn is passed over: it would lose the signal.
func (c *Cond) Signal() bool {
	for f := c.head; f != nil; f = c.head {
		c.remove(f)
		if f.waiting {
			f.ready(nil)
			return true
		}
	}
	return false
}

// Broadcast wakes all.
func (c *Cond) Broadcast() {
	for c.Signal() {
	}
}

func (c *Cond) push(f *Fiber) {
	f.cond, f.prev, f.next = c, c.tail, nil
	if c.tail == nil {
		c.head = f
	} else {
		c.tail.next = f
	}
	c.tail = f
}

func (c *Cond) remove(f *Fiber) {
	if f.prev == nil {
		c.head = f.next
	} else {
		f.prev.next = f.next
	}
	if f.next == nil {
		c.tail = f.prev
	} else {
		f.next.prev = f.prev
	}
	f.cond, f.prev, f.next = nil, nil, nil
}
