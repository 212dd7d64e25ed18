package proxy

import (
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// pinWorkers lets each worker that has a thread for itself run on one of the CPUs that the process may use
// (enable_worker_cpu_affinity). It is the first thing that they do.
func (p *Proxy) pinWorkers() {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		p.log.Warn("cannot pin workers to CPUs", zap.Error(err))
		return
	}
	var cpus []int
	for i := 0; len(cpus) < all.Count(); i++ {
		if all.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	pinned := p.Stats.Root().Gauge("listener_manager.workers_pinned")
	for i, w := range p.Workers {
		if !w.OwnsThread() {
			continue
		}
		w.Post(func() {
			var one unix.CPUSet
			one.Set(cpus[i%len(cpus)])
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				p.log.Warn("cannot pin a worker to a CPU", zap.Int("worker", w.ID), zap.Error(err))
				return
			}
			pinned.Inc()
		})
	}
}
