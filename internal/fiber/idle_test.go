package fiber_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// rest waits until the next of the OnIdle calls has run.
type rest struct {
	calls []bool
	c     fiber.Cond
}

func (r *rest) next(expired bool) { r.calls = append(r.calls, expired); r.c.Broadcast() }

func TestOnIdle(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		var r rest
		b.OnIdle(0, r.next)
		_, _ = a.Write([]byte("x"))
		_ = r.c.Wait(w)
		b.OnIdle(0, r.next) // still unread: at once
		_ = r.c.Wait(w)
		_, _ = b.Read(make([]byte, 10))
		b.OnIdle(w.Now().Add(10*time.Millisecond), r.next)
		_ = r.c.Wait(w)
		if len(r.calls) != 3 || r.calls[0] || r.calls[1] || !r.calls[2] {
			t.Error(r.calls)
		}
		b.OnIdle(0, r.next)
		_ = a.Close()
		_ = r.c.Wait(w) // the end counts as input
		if len(r.calls) != 4 || r.calls[3] || !b.Readable() {
			t.Error(r.calls)
		}
	})
}

// TestOnIdleTakenBack: next does not run, not even when its input has come in the same turn.
func TestOnIdleTakenBack(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		var r rest
		b.OnIdle(w.Now().Add(time.Millisecond), r.next)
		b.OnIdle(0, nil)
		_ = w.Sleep(4 * time.Millisecond)
		_, _ = a.Write([]byte("x"))
		_ = b.WaitReadable()
		b.OnIdle(0, r.next) // due now
		b.OnIdle(0, nil)
		_ = w.Sleep(time.Millisecond)
		b.OnIdle(0, r.next) // due, taken back and given again
		_, _ = b.Read(make([]byte, 10))
		b.OnIdle(0, nil)
		b.OnIdle(0, r.next)
		_ = w.Sleep(time.Millisecond)
		if len(r.calls) != 0 {
			t.Error(r.calls)
		}
		_, _ = a.Write([]byte("x"))
		_ = r.c.Wait(w)
		b.OnIdle(0, r.next)
		_ = b.Close()
		_ = w.Sleep(time.Millisecond)
		if len(r.calls) != 1 {
			t.Error("Close drops it", r.calls)
		}
	})
}

// TestOnIdleLimitMoves: an earlier rest's limit ends no later rest.
func TestOnIdleLimitMoves(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, _, b fiber.Conn) {
		var r rest
		b.OnIdle(w.Now().Add(2*time.Millisecond), r.next)
		b.OnIdle(0, nil)
		b.OnIdle(0, r.next)
		_ = w.Sleep(5 * time.Millisecond)
		start := w.Now()
		b.OnIdle(start.Add(2*time.Millisecond), r.next)
		b.OnIdle(start.Add(8*time.Millisecond), r.next)
		_ = r.c.Wait(w)
		if d := w.Now() - start; len(r.calls) != 1 || !r.calls[0] || d < fiber.Time(8*time.Millisecond) {
			t.Error(r.calls, d)
		}
	})
}

func TestGuardCancels(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		c, d := fiber.Pipe(w)
		var stream fiber.Task
		var got, again error
		stream.Start(w, func() {
			b.Guard(w.Current())
			_, got = c.Read(make([]byte, 1)) // the upstream is silent
			again = w.Sleep(time.Hour)
		})
		_ = w.Sleep(5 * time.Millisecond)
		a.Abort()
		if err := stream.Wait(w); err != nil {
			t.Error(err)
		}
		if got != fiber.ErrPeerGone || again != fiber.ErrPeerGone {
			t.Error(got, again)
		}
		stream.Start(w, func() { b.Guard(w.Current()); again = w.Current().Err(); b.Guard(nil) })
		_ = stream.Wait(w)
		if again != fiber.ErrPeerGone {
			t.Error("the peer had gone before", again)
		}
		_ = c.Close()
		_ = d.Close()
	})
}

// TestGuardEndsWithItsFiber: the pooled fiber's next life is none of the connection's business.
func TestGuardEndsWithItsFiber(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		var task fiber.Task
		task.Start(w, func() { b.Guard(w.Current()) })
		_ = task.Wait(w)
		var err error
		task.Start(w, func() { err = w.Sleep(5 * time.Millisecond) })
		_ = w.Sleep(time.Millisecond)
		_ = a.Close()
		_ = task.Wait(w)
		if err != nil {
			t.Error(err)
		}
	})
}

// TestIdleConnectionIsSmall counts what an idle connection costs: no fiber, no buffer, less than 400 bytes.
func TestIdleConnectionIsSmall(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		const n = 1000
		var conns []fiber.Conn
		next := func(bool) {}
		before := heap()
		for range n {
			a, b := fiber.Pipe(w)
			for _, c := range []fiber.Conn{a, b} {
				c.OnIdle(w.Now().Add(time.Hour), next)
				conns = append(conns, c)
			}
		}
		if each := int64(heap()-before) / (2 * n); each > 400 {
			t.Errorf("%d bytes", each)
		}
		if w.Live() != 1 || w.Buffers.Lent()+w.Bulk.Lent() != 0 {
			t.Error(w.Live(), w.Buffers.Lent(), w.Bulk.Lent())
		}
		for _, c := range conns {
			_ = c.Close()
		}
	})
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
