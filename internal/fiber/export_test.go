package fiber

// Parked returns how many fibers lie in the pool.
func (w *Worker) Parked() int { return len(w.free) }

// TrimPools is what the worker does every few seconds.
func (w *Worker) TrimPools() { w.trimPools() }
