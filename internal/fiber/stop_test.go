package fiber_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
)

// TestStopEndsEveryFiber, whatever it waits for. fibertest looks for what is left.
func TestStopEndsEveryFiber(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		var causes []error
		fibers := 0
		start := func(wait func() error) {
			fibers++
			w.Go(func() {
				err := wait()
				if again := w.Sleep(time.Hour); again != err {
					t.Errorf("%v, then %v", err, again)
				}
				causes = append(causes, err)
				if len(causes) == fibers {
					for _, err := range causes {
						if err != fiber.ErrStopped {
							t.Error(err)
						}
					}
				}
			})
		}
		a, b := pair(t, w)
		p, q := fiber.Pipe(w)
		_, _ = p, b
		var c fiber.Cond
		var endless fiber.Task
		start(func() error { _, err := a.Read(make([]byte, 1)); return err })
		start(func() error { _, err := q.Read(make([]byte, 1)); return err })
		start(func() error { _, err := q.Write(make([]byte, 1<<20)); return err })
		start(func() error { return c.Wait(w) })
		start(func() error { return w.Sleep(time.Hour) })
		start(func() error {
			_, err := fiber.Await(w, func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, context.Cause(ctx) })
			return err
		})
		start(func() error {
			endless.Start(w, func() { _ = w.Sleep(time.Hour) })
			return endless.Wait(w)
		})
		_, _ = p.Peek(1) // q has written by now
		_ = w.Sleep(2 * time.Millisecond)
		p.Discard(1 << 20)
		w.Stop()
		_ = w.Sleep(time.Hour)
		_ = p.Close()
		_ = q.Close()
	})
}

func TestStopBeforeRun(t *testing.T) {
	for name, engine := range fibertest.Engines() {
		t.Run(name, func(t *testing.T) {
			w, err := engine(0)
			if err != nil {
				t.Fatal(err)
			}
			var got error
			w.Go(func() { got = w.Sleep(time.Hour) })
			w.Stop()
			w.Stop()
			w.Run()
			if got != fiber.ErrStopped {
				t.Error(got)
			}
			if w.Post(func() {}) {
				t.Error("Post to a worker that has ended")
			}
		})
	}
}

func TestPostFromManyGoroutines(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		var wg sync.WaitGroup
		var c fiber.Cond
		n := 0
		for range 8 {
			wg.Go(func() {
				for range 1000 {
					w.Post(func() { n++; c.Signal() })
				}
			})
		}
		for n < 8000 {
			if err := c.Wait(w); err != nil {
				t.Fatal(err)
			}
		}
		wg.Wait()
	})
}

// TestPanics: the worker is told and goes on, whether a fiber panics or a callback.
func TestPanics(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		var told []any
		w.Panicked = func(p any) { told = append(told, p) }
		var task fiber.Task
		task.Start(w, func() { panic("fiber") })
		if err := task.Wait(w); err != nil {
			t.Error(err)
		}
		w.Post(func() { panic("post") })
		timer := fiber.Timer{Do: func() { panic("timer") }}
		timer.Set(w, w.Now().Add(time.Millisecond))
		l := fibertest.Listen(t, w, fibertest.Loopback(), func(c fiber.Conn) { _ = c.Close(); panic("accept") })
		a, err := w.Dial(l.Address(), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = a.Read(make([]byte, 1))
		_ = a.Close()
		l.Close()
		_ = w.Sleep(5 * time.Millisecond)
		if len(told) != 4 {
			t.Errorf("%v", told)
		}
		w.Panicked = func(p any) { panic(p) }
	})
}

func TestAwaitPanics(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		defer func() {
			if p, _ := recover().(string); !strings.HasPrefix(p, "oh\n") || !strings.Contains(p, "stop_test.go") {
				t.Errorf("%q", p)
			}
		}()
		_, _ = fiber.Await(w, func(context.Context) (int, error) { panic("oh") })
	})
}

func TestAwaitHeedsLimitAndIsNotStartedWhenCancelled(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		mine := errors.New("mine")
		f := w.Current()
		before := f.SetLimit(fiber.Limit{At: w.Now().Add(2 * time.Millisecond), Cause: mine})
		_, err := fiber.Await(w, func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, context.Cause(ctx) })
		if err != mine {
			t.Error(err)
		}
		f.Restore(before)
		var task fiber.Task
		var calls []error
		task.Start(w, func() {
			calls = append(calls, w.Sleep(time.Hour))
			_, err := fiber.Await(w, func(context.Context) (int, error) { t.Error("called"); return 0, nil })
			calls = append(calls, err)
		})
		_ = w.Sleep(time.Millisecond)
		task.Cancel(mine)
		task.Cancel(errors.New("the first counts"))
		task.Join(w)
		if len(calls) != 2 || calls[0] != mine || calls[1] != mine {
			t.Error(calls)
		}
	})
}

func hogTheLoop(until chan struct{}) { <-until }

func TestWatchdogNamesTheFiber(t *testing.T) {
	for name, engine := range fibertest.Engines() {
		t.Run(name, func(t *testing.T) {
			w, err := engine(0)
			if err != nil {
				t.Fatal(err)
			}
			free, stalls := make(chan struct{}), make(chan fiber.Stall, 10)
			w.Watch(20*time.Millisecond, func(s fiber.Stall) { stalls <- s; free <- struct{}{} })
			w.Go(func() {
				_ = w.Sleep(50 * time.Millisecond) // waiting is no stall
				hogTheLoop(free)
				w.Post(func() { <-free; w.Stop() })
			})
			w.Run()
			s := <-stalls
			if !strings.Contains(s.Fiber, "TestWatchdogNamesTheFiber") || !strings.Contains(s.Stack, "hogTheLoop") || s.Held < 20*time.Millisecond {
				t.Errorf("%+v", s)
			}
			if s := <-stalls; s.Fiber != "loop" {
				t.Errorf("%+v", s)
			}
			if len(stalls) != 0 {
				t.Errorf("%+v", <-stalls)
			}
		})
	}
}

// TestPostIsNeverLost: what Post has accepted runs, even if the worker ends meanwhile.
func TestPostIsNeverLost(t *testing.T) {
	for name, engine := range fibertest.Engines() {
		t.Run(name, func(t *testing.T) {
			for range 50 {
				w, err := engine(0)
				if err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				accepted := 0
				ran := make(chan struct{}, 1<<16)
				wg.Go(func() {
					for w.Post(func() { ran <- struct{}{} }) && accepted < 1<<15 {
						accepted++
						if accepted == 20 {
							w.Stop()
						}
					}
				})
				w.Run()
				wg.Wait()
				if len(ran) < accepted {
					t.Fatalf("%d of %d", len(ran), accepted)
				}
			}
		})
	}
}
