package pool

import (
	"errors"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

func TestPendingOverflow(t *testing.T) {
	m := maxima()
	m.Connections, m.Pending = 1, 1
	each(t, m, nil, func(r *rig, u *upstream) {
		var first, second fiber.Task
		var errs [2]error
		first.Start(r.w, func() { _, errs[0] = r.get("/hang") })
		r.settle("the first is under way", func() bool { return r.s.RqActive.Value() == 1 })
		second.Start(r.w, func() { _, errs[1] = r.get("/") })
		r.settle("the second waits", func() bool { return r.s.RqPendingActive.Value() == 1 })
		if r.s.Default.CxOpen.Value() != 1 || r.s.Default.RqPendingOpen.Value() != 1 {
			r.Error("the breakers are not shown as open")
		}
		if _, err := r.get("/"); !errors.Is(err, ErrOverflow) {
			r.Errorf("the third: %v", err)
		}
		close(u.release)
		if err := errors.Join(first.Wait(r.w), second.Wait(r.w)); err != nil {
			r.Error(err)
		}
		if errs[0] != nil || errs[1] != nil {
			r.Error(errs)
		}
		r.want("connections", &r.s.CxTotal, 1)
		r.want("overflown connections", &r.s.CxOverflow, 1)
		r.want("overflown requests", &r.s.RqPendingOverflow, 1)
		if r.s.Default.CxOpen.Value() != 1 || r.s.Default.RqPendingOpen.Value() != 0 {
			r.Error("the breaker of connections is open while its one rests, the other is not")
		}
	})
}

func TestNoPending(t *testing.T) {
	m := maxima()
	m.Pending = 0
	each(t, m, nil, func(r *rig, _ *upstream) {
		if _, err := r.get("/"); !errors.Is(err, ErrOverflow) {
			r.Errorf("%v", err)
		}
		r.want("overflown", &r.s.RqPendingOverflow, 1)
		r.want("connections", &r.s.CxTotal, 0)
	})
}

func TestMaxRequestsZero(t *testing.T) {
	m := maxima()
	m.Requests = 0
	each(t, m, nil, func(r *rig, _ *upstream) {
		if _, err := r.get("/"); !errors.Is(err, ErrOverflow) {
			r.Errorf("%v", err)
		}
		r.want("overflown", &r.s.RqActiveOverflow, 1)
		r.want("not as pending", &r.s.RqPendingOverflow, 0)
		if r.s.CxActive.Value() != 1 {
			r.Error("the connection stays")
		}
		tcp, err := r.peer.TCP(r.w, Options{})
		if err != nil {
			r.Fatalf("max_requests is not for TCP: %v", err)
		}
		tcp.Release(false)
	})
}

func TestHostConnections(t *testing.T) {
	each(t, maxima(), func(c *Config) { c.HostConnections[Default] = 1 }, func(r *rig, _ *upstream) {
		var tasks [3]fiber.Task
		for i := range tasks {
			tasks[i].Start(r.w, func() {
				if _, err := r.get("/"); err != nil {
					r.Error(err)
				}
			})
		}
		for i := range tasks {
			_ = tasks[i].Wait(r.w)
		}
		r.want("connections", &r.s.CxTotal, 1)
	})
}

func TestMaxPools(t *testing.T) {
	m := maxima()
	m.Pools = 1
	each(t, m, nil, func(r *rig, _ *upstream) {
		if _, err := r.get("/"); err != nil {
			r.Error(err)
		}
		if _, err := r.peer.TCP(r.w, Options{}); !errors.Is(err, ErrOverflow) {
			r.Errorf("%v", err)
		}
		r.want("overflown", &r.s.CxPoolOverflow, 1)
		r.peer.Empty([]*fiber.Worker{r.w})
		r.settle("emptied", func() bool { return r.cfg.Limits[Default].Pools.Active() == 0 })
		c, err := r.peer.TCP(r.w, Options{})
		if err != nil {
			r.Fatal(err)
		}
		c.Release(false)
	})
}

func TestPrioritiesHaveTheirOwn(t *testing.T) {
	each(t, maxima(), nil, func(r *rig, _ *upstream) {
		for _, p := range []Priority{Default, High} {
			e, err := r.peer.HTTP(r.w, Options{Priority: p})
			if err != nil {
				r.Fatal(err)
			}
			if r.cfg.Limits[p].Requests.Active() != 1 {
				r.Errorf("%v: not counted", p)
			}
			e.Release(false)
		}
		r.want("connections", &r.s.CxTotal, 2)
	})
}

func TestLimits(t *testing.T) {
	var s BreakerStats
	m := maxima()
	m.Retries, m.Track = 1, true
	l := NewLimits(m, &s)
	if s.RemainingRetries.Value() != 1 {
		t.Error("remaining is not shown from the start")
	}
	if !l.Retries.Take() || l.Retries.Take() {
		t.Error("one retry, not two")
	}
	if s.RqRetryOpen.Value() != 1 || s.RemainingRetries.Value() != 0 {
		t.Error("the breaker is open")
	}
	l.Retries.Return()
	if s.RqRetryOpen.Value() != 0 || s.RemainingRetries.Value() != 1 {
		t.Error("the breaker is closed again")
	}
	m.Budgeted, m.Budget, m.Floor = true, 50, 0
	l = NewLimits(m, &s)
	if l.Retries.Take() {
		t.Error("half of nothing is nothing")
	}
	l.Requests.Take()
	l.Requests.Take()
	if !l.Retries.Take() || l.Retries.Take() {
		t.Error("half of two is one")
	}
}

// TestBudgetInterval counts requests that have begun lately: of ten, one after the other, half may be retried, where none could by those
// that are under way.
func TestBudgetInterval(t *testing.T) {
	for interval, want := range map[time.Duration]int{0: 0, time.Hour: 9} {
		l := NewLimits(Maxima{Connections: 9, Pending: 9, Requests: 9, Pools: 9, Budgeted: true, Budget: 50, Interval: interval}, &BreakerStats{})
		retries := 0
		for range 10 {
			l.Requests.Take()
			l.Began()
			if l.Retries.Take() {
				retries++
				l.Began() // the second attempt
				l.Retries.Return()
			}
			l.Requests.Return()
		}
		if retries != want {
			t.Errorf("%v: %d retries of 10 requests, want %d", interval, retries, want)
		}
	}
	w, now := &window{step: time.Second}, time.Unix(1000, 0)
	for i := range 100 {
		w.add(now.Add(time.Duration(i) * time.Second))
	}
	if n := w.sum(now.Add(99 * time.Second)); n != slots {
		t.Errorf("%d in a window of %d", n, slots)
	}
	if n := w.sum(now.Add(200 * time.Second)); n != 0 {
		t.Errorf("%d long after", n)
	}
}
