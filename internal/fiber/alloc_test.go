package fiber_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// TestSteadyStateAllocatesNothing: a round trip between a fiber and an idle connection's pump, with limits, on the engine that counts.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		if engine := w.Engine(); engine != "epoll" {
			return // the other is not built for speed
		}
		var pump func(bool)
		pump = func(bool) {
			p := w.Buffers.Get()
			n, err := b.Read(p)
			if err == nil {
				_, err = b.Write(p[:n])
			}
			w.Buffers.Put(p)
			if err == nil {
				b.OnIdle(w.Now().Add(time.Hour), pump)
			}
		}
		b.OnIdle(0, pump)
		f := w.Current()
		msg, in := []byte("ping"), make([]byte, 16)
		var task fiber.Task
		nothing := func() {}
		trip := func() {
			before := f.SetLimit(fiber.Limit{At: w.Now().Add(time.Hour)})
			_, _ = a.Write(msg)
			_, _ = a.Read(in)
			f.Restore(before)
			task.Start(w, nothing)
			_ = task.Wait(w)
		}
		for range 100 {
			trip()
		}
		var m1, m2 runtime.MemStats
		runtime.ReadMemStats(&m1)
		for range 1000 {
			trip()
		}
		runtime.ReadMemStats(&m2)
		if n := m2.Mallocs - m1.Mallocs; n > 50 { // others of the process may have some
			t.Errorf("%d allocations in 1000 round trips", n)
		}
	})
}

// TestOneFiberServesABatch: idle connections whose input comes in one batch do not get a stack each.
func TestOneFiberServesABatch(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		const n = 100
		var c fiber.Cond
		served := 0
		var all []fiber.Conn
		for range n {
			a, b := fiber.Pipe(w)
			b.OnIdle(0, func(bool) {
				if served++; served == n {
					c.Signal()
				}
			})
			_, _ = a.Write([]byte("x"))
			all = append(all, a, b)
		}
		_ = c.Wait(w)
		if p := w.Parked() + w.Live(); p > 3 {
			t.Errorf("%d fibers", p)
		}
		for _, x := range all {
			_ = x.Close()
		}
	})
}
