package proxy

import (
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// patience is how long a loop may be silent (envoy.config.bootstrap.v3.Watchdog).
type patience struct {
	miss, megaMiss time.Duration
	kill           time.Duration // 0: for ever
}

// parsePatience reads the watchdogs of the control loop and of the workers.
func parsePatience(b *bootstrapv3.Bootstrap) (main, workers patience) {
	if b.GetWatchdogs() != nil {
		return watchdogPatience(b.GetWatchdogs().GetMainThreadWatchdog()), watchdogPatience(b.GetWatchdogs().GetWorkerWatchdog())
	}
	one := watchdogPatience(b.GetWatchdog())
	return one, one
}

func watchdogPatience(w *bootstrapv3.Watchdog) patience {
	or := func(d *durationpb.Duration, standard time.Duration) time.Duration {
		if d == nil {
			return standard
		}
		return d.AsDuration()
	}
	p := patience{miss: or(w.GetMissTimeout(), 200*time.Millisecond), megaMiss: or(w.GetMegamissTimeout(), time.Second), kill: or(w.GetKillTimeout(), 0)}
	if jitter := w.GetMaxKillTimeoutJitter().AsDuration(); jitter > 0 && p.kill > 0 {
		p.kill += rand.N(jitter)
	}
	return p
}

// missStats count silences of a loop, or of several together.
type missStats struct {
	Miss     stats.Counter `stat:"watchdog_miss"`
	MegaMiss stats.Counter `stat:"watchdog_mega_miss"`
}

// misses makes the statistics of one loop and of its group, Envoy's names for both.
func (p *Proxy) misses(loop, group string) [2]*missStats {
	root := p.Stats.Root()
	return [2]*missStats{stats.New[missStats](root.Sub("server").Sub(loop)), stats.New[missStats](root.Sub(group))}
}

// watchWorkers sets watchdogs on the workers. It must be called before they run.
func (p *Proxy) watchWorkers() {
	limits := p.config.workerPatience
	for _, w := range p.Workers {
		both := p.misses("worker_"+strconv.Itoa(w.ID), "workers")
		w.Watch(limits.miss, func(s fiber.Stall) {
			both[0].Miss.Inc()
			both[1].Miss.Inc()
			p.stalled("a worker does not answer", s)
		})
		w.Watch(limits.megaMiss, func(fiber.Stall) {
			both[0].MegaMiss.Inc()
			both[1].MegaMiss.Inc()
		})
		if limits.kill > 0 {
			w.Watch(limits.kill, func(s fiber.Stall) {
				p.stalled("a worker does not answer for kill_timeout", s)
				abort()
			})
		}
	}
}

func (p *Proxy) stalled(what string, s fiber.Stall) {
	p.log.Warn(what, zap.Int("worker", s.Worker), zap.String("fiber", s.Fiber), zap.Duration("held", s.Held), zap.String("stack", s.Stack))
}

// abort ends the process with the stacks of all goroutines.
func abort() { _ = syscall.Kill(syscall.Getpid(), syscall.SIGABRT) }

// watchControl asks the control loop for a sign of life, until the process ends.
func (p *Proxy) watchControl() {
	limits, both := p.config.mainPatience, p.misses("main_thread", "main_thread")
	t := time.NewTicker(max(limits.miss/2, time.Millisecond))
	defer t.Stop()
	var answered atomic.Bool
	answered.Store(true)
	asked, told := time.Now(), 0
	for {
		select {
		case <-p.ended:
			return
		case <-t.C:
		}
		if answered.Load() {
			asked, told = time.Now(), 0
			answered.Store(false)
			p.Control.Post(func() { answered.Store(true) })
			continue
		}
		switch silent := time.Since(asked); {
		case limits.kill > 0 && silent >= limits.kill:
			abort()
		case silent >= limits.megaMiss && told < 2:
			told = 2
			both[0].MegaMiss.Inc()
			both[1].MegaMiss.Inc()
		case silent >= limits.miss && told < 1:
			told = 1
			both[0].Miss.Inc()
			both[1].Miss.Inc()
		}
	}
}
