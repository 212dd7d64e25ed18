package tunnel_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/tunnel"
)

// rig is a pair between two connections, whose other ends the test has, and which it owns.
type rig struct {
	tunnel.Pair

	client, down, up, host fiber.Conn
	worker                 *fiber.Worker
	over                   []error
	moved                  int
	idle                   fiber.Cond
	rested                 bool
	pass                   bool // ends go on to the other side
}

func (r *rig) Moved(bool) { r.moved++ }

func (r *rig) Over(h *tunnel.Half, err error) {
	r.over = append(r.over, err)
	switch {
	case !r.pass || err != io.EOF || len(r.over) == 2:
		r.Stop()
		_ = r.down.Close()
		_ = r.up.Close()
	default:
		_ = h.To.CloseWrite()
	}
}

func (r *rig) Idle() {
	r.rested = true
	r.Stop()
	r.idle.Broadcast()
}

// each runs f on the first fiber of a pair of pipes and of a pair of sockets, on both engines.
func each(t *testing.T, f func(t *testing.T, r *rig)) {
	for name, pair := range map[string]func(*testing.T, *fiber.Worker) (a, b fiber.Conn){
		"pipe": func(_ *testing.T, w *fiber.Worker) (a, b fiber.Conn) { return fiber.Pipe(w) },
		"tcp":  fibertest.Pair,
	} {
		t.Run(name, func(t *testing.T) {
			fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
				r := &rig{worker: w}
				r.client, r.down = pair(t, w)
				r.up, r.host = pair(t, w)
				r.Join(w, r, r.down, r.up)
				f(t, r)
				r.Stop()
				for _, c := range []fiber.Conn{r.client, r.down, r.up, r.host} {
					_ = c.Close()
				}
			})
		})
	}
}

func says(t *testing.T, c fiber.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Error(err)
	}
}

func hears(t *testing.T, c fiber.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Errorf("%q %v, want %q", b, err, want)
	}
}

func TestBothWays(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.Begin(0)
		says(t, r.client, "ping")
		hears(t, r.host, "ping")
		says(t, r.host, "pong!")
		hears(t, r.client, "pong!")
		if r.Up.Moved() != 4 || r.Down.Moved() != 5 || r.Up.Take() != 4 || r.Up.Take() != 0 || r.moved < 2 {
			t.Errorf("up %d, down %d, %d moves", r.Up.Moved(), r.Down.Moved(), r.moved)
		}
		r.Stop()
	})
}

func TestPrependedBytesGoFirst(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		early := []byte("early ")
		r.Up.Prepend(early)
		copy(early, "XXXXXX") // it was copied
		says(t, r.client, "late")
		r.Begin(0)
		hears(t, r.host, "early late")
		r.Stop()
	})
}

func TestBulk(t *testing.T) {
	const size = 4 << 20
	each(t, func(t *testing.T, r *rig) {
		r.pass = true
		r.Begin(0)
		var send fiber.Task
		send.Start(r.worker, func() { // ends with the last byte
			b := bytes.Repeat([]byte("0123456789abcdef"), size/16)
			_, _ = r.client.Write(b)
			_ = r.client.CloseWrite()
		})
		b, err := io.ReadAll(r.host)
		if err != nil || len(b) != size || r.Up.Moved() != size {
			t.Errorf("%d bytes, %d moved, %v", len(b), r.Up.Moved(), err)
		}
		_ = send.Wait(r.worker)
		r.Stop()
	})
}

func TestHalfCloseIsTheOwnersToPassOn(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.pass = true
		r.Begin(0)
		_ = r.client.CloseWrite()
		if _, err := r.host.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("host: %v", err)
		}
		says(t, r.host, "still here")
		hears(t, r.client, "still here")
		_ = r.host.CloseWrite()
		if _, err := r.client.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("client: %v", err)
		}
		if len(r.over) != 2 || r.over[0] != io.EOF || r.over[1] != io.EOF {
			t.Errorf("%v", r.over)
		}
	})
}

func TestReset(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.Begin(0)
		r.host.Abort()
		if _, err := r.client.Read(make([]byte, 1)); err == nil {
			t.Error("the client was not told")
		}
		var w *tunnel.WriteError
		if len(r.over) != 1 || r.over[0] == nil || errors.As(r.over[0], &w) {
			t.Errorf("%v", r.over)
		}
	})
}

func TestStopDropsWhatIsDue(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.Begin(0)
		r.Stop()
		r.Stop()
		says(t, r.client, "unheard")
		_ = r.worker.Sleep(time.Millisecond)
		if !r.Stopped() || r.Up.Moved() != 0 || r.moved != 0 {
			t.Errorf("moved %d", r.Up.Moved())
		}
	})
}

func TestIdle(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		began := r.worker.Now()
		r.Begin(20 * time.Millisecond)
		says(t, r.client, "x")
		for !r.rested {
			if err := r.idle.Wait(r.worker); err != nil {
				t.Error(err)
				return
			}
		}
		if d := r.worker.Now() - began; time.Duration(d) < 20*time.Millisecond {
			t.Errorf("after %v", time.Duration(d))
		}
		hears(t, r.host, "x")
	})
}
