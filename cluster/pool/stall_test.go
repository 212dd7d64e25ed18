package pool

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
)

// kernel says what the kernel would say of every connection.
type kernel struct{ p atomic.Pointer[Progress] }

func (k *kernel) say(p Progress) { k.p.Store(&p) }

var (
	moves    = Progress{Silent: time.Hour} // nothing is waited for
	isSilent = Progress{Waiting: true, Silent: 200 * time.Millisecond, RTT: time.Millisecond}
	isDead   = Progress{Waiting: true, Silent: time.Second, RTT: time.Millisecond, Repeated: 3}
)

func stalling(k *kernel) func(*Config) {
	k.say(moves)
	return func(c *Config) { c.Progress = func(fiber.Conn) Progress { return *k.p.Load() } }
}

func TestProgress(t *testing.T) {
	for _, c := range []struct {
		p            Progress
		silent, dead bool
	}{
		{moves, false, false},
		{isSilent, true, false},
		{isDead, true, true},
		{Progress{Waiting: true, Silent: 100 * time.Millisecond}, false, false},
		{Progress{Waiting: true, Silent: 300 * time.Millisecond, RTT: 100 * time.Millisecond}, false, false}, // far away
		{Progress{Waiting: true, Silent: time.Minute, Repeated: 1}, true, false},
	} {
		if c.p.silent() != c.silent || c.p.dead() != c.dead {
			t.Errorf("%+v: silent %v, dead %v", c.p, c.p.silent(), c.p.dead())
		}
	}
}

// TestLostHost loses a host under a request, and finds it again.
func TestLostHost(t *testing.T) {
	k := &kernel{}
	each(t, maxima(), stalling(k), func(r *rig, u *upstream) {
		r.cfg.Workers = []*fiber.Worker{r.w}
		dial := r.cfg.Dial
		var away atomic.Bool
		r.cfg.Dial = func(w *fiber.Worker, to Target, i *Info) (fiber.Conn, error) {
			if away.Load() {
				return nil, unix.EHOSTUNREACH
			}
			return dial(w, to, i)
		}
		if _, err := r.get("/"); err != nil { // leaves a connection that rests
			r.Fatal(err)
		}
		var under fiber.Task
		under.Start(r.w, func() {
			if _, err := r.get("/hang"); !errors.Is(err, fiber.ErrClosed) {
				r.Errorf("%v", err)
			}
		})
		r.settle("the request is under way", func() bool { return r.s.RqActive.Value() == 1 })
		k.say(isSilent)
		r.settle("suspected", r.peer.Suspect)
		if r.s.HostStalled.Value() != 1 || r.s.RqActive.Value() != 1 {
			r.Error("the request has ended, or nobody has counted")
		}
		away.Store(true)
		k.say(isDead)
		if err := under.Wait(r.w); err != nil {
			r.Fatal(err)
		}
		if !r.peer.Suspect() {
			r.Error("nobody is there, and yet there is no suspicion")
		}
		k.say(moves)
		away.Store(false)
		r.settle("found again", func() bool { return !r.peer.Suspect() })
		close(u.release)
		if reused, err := r.get("/"); err != nil || reused {
			r.Errorf("reused %v, %v", reused, err)
		}
		r.settle("the probe has ended", func() bool { return !r.peer.probing.Load() })
	})
}

// TestHostThatIsOnlySlow is suspected for a moment, and loses nothing.
func TestHostThatIsOnlySlow(t *testing.T) {
	k := &kernel{}
	each(t, maxima(), stalling(k), func(r *rig, u *upstream) {
		var under fiber.Task
		under.Start(r.w, func() {
			if _, err := r.get("/hang"); err != nil {
				r.Error(err)
			}
		})
		r.settle("the request is under way", func() bool { return r.s.RqActive.Value() == 1 })
		k.say(isSilent)
		r.settle("suspected", r.peer.Suspect)
		k.say(moves)
		r.settle("pardoned", func() bool { return !r.peer.Suspect() })
		close(u.release)
		if err := under.Wait(r.w); err != nil {
			r.Fatal(err)
		}
	})
}

// TestSlowConnect has a connection that does not come about.
func TestSlowConnect(t *testing.T) {
	each(t, maxima(), nil, func(r *rig, _ *upstream) {
		dial, calls := r.cfg.Dial, 0
		r.cfg.Dial = func(w *fiber.Worker, to Target, i *Info) (fiber.Conn, error) {
			if calls++; calls == 1 {
				return nil, w.Sleep(time.Minute) // up to the connect timeout
			}
			return dial(w, to, i)
		}
		r.cfg.ConnectTimeout = 1500 * time.Millisecond
		var under fiber.Task
		under.Start(r.w, func() {
			var failed *ConnectError
			if _, err := r.get("/"); !errors.As(err, &failed) || !failed.Timeout {
				r.Errorf("%v", err)
			}
		})
		r.settle("suspected", func() bool { return r.s.HostStalled.Value() == 1 })
		if err := under.Wait(r.w); err != nil {
			r.Fatal(err)
		}
		r.settle("the probe has come through", func() bool { return !r.peer.Suspect() && !r.peer.probing.Load() })
	})
}

// TestFailClosesTCP has a host fail its health check under connections of TCP.
func TestFailClosesTCP(t *testing.T) {
	for _, at := range []bool{true, false} {
		each(t, maxima(), func(c *Config) { c.CloseOnFailure = at }, func(r *rig, u *upstream) {
			first, err := r.peer.TCP(r.w, Options{})
			if err != nil {
				r.Fatal(err)
			}
			second, err := r.peer.TCP(r.w, Options{})
			if err != nil {
				r.Fatal(err)
			}
			killed := false
			first.OnKill(func() { killed = true })
			r.peer.Fail([]*fiber.Worker{r.w})
			if err := r.w.Sleep(10 * time.Millisecond); err != nil {
				r.Fatal(err)
			}
			if killed != at || second.Conn().Readable() != at {
				r.Errorf("close_connections_on_host_health_failure: %v: killed %v, ended %v", at, killed, second.Conn().Readable())
			}
			first.Release(false)
			second.Release(false)
		})
	}
}

// TestFailDrainsHTTP lets an exchange come to its end, and takes another connection for the next one.
func TestFailDrainsHTTP(t *testing.T) {
	each(t, maxima(), nil, func(r *rig, u *upstream) {
		var under fiber.Task
		under.Start(r.w, func() {
			if _, err := r.get("/hang"); err != nil {
				r.Error(err)
			}
		})
		r.settle("the request is under way", func() bool { return r.s.RqActive.Value() == 1 })
		r.peer.Fail([]*fiber.Worker{r.w})
		if err := r.w.Sleep(10 * time.Millisecond); err != nil {
			r.Fatal(err)
		}
		close(u.release)
		if err := under.Wait(r.w); err != nil {
			r.Fatal(err)
		}
		if reused, err := r.get("/"); err != nil || reused {
			r.Errorf("reused %v, %v", reused, err)
		}
	})
}

// TestLostMux loses a host under the streams of an HTTP/2 connection.
func TestLostMux(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		r, u, l := muxRig(t, w, maxima(), 1000)
		k := &kernel{}
		stalling(k)(r.cfg)
		r.cfg.Workers = []*fiber.Worker{w}
		var tasks [3]fiber.Task
		for i := range tasks {
			tasks[i].Start(w, func() {
				if _, err := r.get("/hold"); err == nil {
					t.Error("an answer from nobody")
				}
			})
		}
		r.settle("the requests are under way", func() bool { return r.s.RqActive.Value() == 3 })
		k.say(isSilent)
		r.settle("suspected", r.peer.Suspect)
		k.say(isDead)
		for i := range tasks {
			_ = tasks[i].Wait(w)
		}
		k.say(moves)
		r.settle("found again", func() bool { return !r.peer.Suspect() && !r.peer.probing.Load() })
		u.hold.Broadcast()
		if reused, err := r.get("/"); reused || err != nil {
			t.Error(reused, err)
		}
		r.finish(l)
	})
}
