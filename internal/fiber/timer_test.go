package fiber_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// bubble runs f on a fiber of a goroutine worker in a synctest bubble: hours pass at once.
func bubble(t *testing.T, f func(t *testing.T, w *fiber.Worker)) {
	synctest.Test(t, func(t *testing.T) {
		w, err := fiber.NewGoroutines(0)
		if err != nil {
			t.Fatal(err)
		}
		w.Go(func() { f(t, w); w.Stop() })
		w.Run()
	})
}

// TestTimersFireInTime: random timers over all levels of the wheel, some moved and some stopped, each within a tick of its time.
func TestTimersFireInTime(t *testing.T) {
	bubble(t, func(t *testing.T, w *fiber.Worker) {
		r := rand.New(rand.NewPCG(1, 2))
		const n = 2000
		var timers [n]fiber.Timer
		var due, fired [n]fiber.Time
		random := func() fiber.Time { return w.Now().Add(time.Duration(r.Int64N(1 << r.IntN(45)))) } // up to 9.7 hours
		for i := range timers {
			timers[i].Do = func() { fired[i] = w.Now() }
			due[i] = random()
			timers[i].Set(w, due[i])
		}
		for i := range timers {
			switch r.IntN(4) {
			case 0:
				timers[i].Stop(w)
				timers[i].Stop(w)
				due[i] = 0
			case 1:
				due[i] = random()
				timers[i].Set(w, due[i])
			}
		}
		_ = w.Sleep(12 * time.Hour)
		for i := range timers {
			late := fired[i] - due[i]
			if due[i] == 0 && fired[i] != 0 || due[i] != 0 && (late < 0 || late > fiber.Time(2*time.Millisecond)) {
				t.Errorf("timer %d: due %d, fired %d", i, due[i], fired[i])
			}
		}
	})
}

func TestTimersOfTheLoop(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		var c fiber.Cond
		n := 0
		var again fiber.Timer
		again.Do = func() { // sets itself
			if n++; n < 5 {
				again.Set(w, w.Now().Add(time.Millisecond))
				return
			}
			c.Signal()
		}
		start := w.Now()
		again.Set(w, start) // in the past: with the next tick
		_ = c.Wait(w)
		if d := w.Now() - start; d < fiber.Time(4*time.Millisecond) || n != 5 {
			t.Error(d, n)
		}
	})
}

func TestSleepAndLimitInABubble(t *testing.T) {
	bubble(t, func(t *testing.T, w *fiber.Worker) {
		start := time.Now()
		a, b := fiber.Pipe(w)
		f := w.Current()
		before := f.SetLimit(fiber.Limit{At: w.Now().Add(15 * time.Second)})
		if _, err := a.Read(make([]byte, 1)); err != fiber.ErrTimeout {
			t.Error(err)
		}
		f.Restore(before)
		if d := time.Since(start); d < 15*time.Second || d > 15*time.Second+2*time.Millisecond {
			t.Error(d)
		}
		_ = a.Close()
		_ = b.Close()
	})
}

func TestDate(t *testing.T) {
	bubble(t, func(t *testing.T, w *fiber.Worker) {
		if got := w.Date(); got != "Sat, 01 Jan 2000 00:00:00 GMT" { // when bubbles begin
			t.Error(got)
		}
		_ = w.Sleep(1500 * time.Millisecond)
		if got := w.Date(); got != "Sat, 01 Jan 2000 00:00:01 GMT" || w.Wall().UTC().Year() != 2000 {
			t.Error(got)
		}
	})
}
