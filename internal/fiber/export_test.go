package fiber

// Parked returns how many fibers lie in the pool.
func (w *Worker) Parked() int { return len(w.free) }

// TrimPools is what the worker does every few seconds.
func (w *Worker) TrimPools() { w.trimPools() }

// Engine names the engine.
func (w *Worker) Engine() string {
	if _, ok := w.poll.(*epoll); ok {
		return "epoll"
	}
	return "goroutine"
}
