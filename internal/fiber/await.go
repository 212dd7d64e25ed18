package fiber

import (
	"context"
	"fmt"
	"runtime/debug"
)

// Await runs f, which may block, on an ordinary goroutine and parks the fiber until it is done. f must heed ctx, which the
// limit or the cancellation of the fiber ends with its cause: Await itself does not return before f, so f may use what the fiber owns.
// In a fiber that is cancelled already f is not called and the cause is returned. A panic of f comes out of Await.
func Await[T any](w *Worker, f func(ctx context.Context) (T, error)) (T, error) {
	a := &await[T]{w: w, fiber: w.cur}
	if cause := a.fiber.cause; cause != nil {
		return a.value, cause
	}
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	go a.call(ctx, f) // ends with f
	shield := a.fiber.shield
	for !a.done {
		if err := a.fiber.wait(); err != nil {
			stop(err)
			a.fiber.shield = true
		}
	}
	a.fiber.shield = shield
	if a.panicked != nil {
		panic(a.panicked)
	}
	return a.value, a.err
}

type await[T any] struct {
	w        *Worker
	fiber    *Fiber
	value    T
	err      error
	panicked any
	done     bool // set on the loop
}

func (a *await[T]) call(ctx context.Context, f func(context.Context) (T, error)) {
	defer func() {
		if p := recover(); p != nil {
			a.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
		a.w.Post(func() { a.done = true; a.fiber.ready(nil) })
	}()
	a.value, a.err = f(ctx)
}
