package fiber_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
)

func TestBindHooksAndMode(t *testing.T) {
	var order []string
	hook := func(name string) func(int) error {
		return func(fd int) error { order = append(order, name); return nil }
	}
	path := filepath.Join(t.TempDir(), "s")
	s, err := fiber.Bind(fiber.ListenConfig{
		Address: fiber.Address{Path: path}, Mode: 0o620, Backlog: 7,
		Control: hook("socket"), Bound: hook("bind"), Listening: hook("listen"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !slices.Equal(order, []string{"socket", "bind"}) {
		t.Error(order)
	}
	if _, err := net.Dial("unix", path); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("before Listen: %v", err)
	}
	for range 2 {
		if err := s.Listen(); err != nil || !slices.Equal(order, []string{"socket", "bind", "listen"}) {
			t.Error(order, err)
		}
	}
	if i, err := os.Stat(path); err != nil || i.Mode().Perm() != 0o620 {
		t.Error(i, err)
	}
}

func TestBindErrors(t *testing.T) {
	mine := errors.New("mine")
	fail := func(int) error { return mine }
	s, err := fiber.Bind(fiber.ListenConfig{Address: fibertest.Loopback()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config fiber.ListenConfig
		want   error
	}{
		"in use":    {fiber.ListenConfig{Address: s.Address()}, syscall.EADDRINUSE},
		"control":   {fiber.ListenConfig{Address: fibertest.Loopback(), Control: fail}, mine},
		"bound":     {fiber.ListenConfig{Address: fibertest.Loopback(), Bound: fail}, mine},
		"listening": {fiber.ListenConfig{Address: fibertest.Loopback(), Listening: fail}, mine},
		"no folder": {fiber.ListenConfig{Address: fiber.Address{Path: "/nonexistent/s"}}, syscall.ENOENT},
	} {
		s, err := fiber.Bind(c.config)
		if err == nil {
			err = s.Listen()
			s.Close()
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestDialErrors(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		s, err := fiber.Bind(fiber.ListenConfig{Address: fibertest.Loopback()})
		if err != nil {
			t.Fatal(err)
		}
		at := s.Address()
		s.Close()
		if _, err := w.Dial(at, nil); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
		if _, err := w.Dial(fiber.Address{Path: "/nonexistent/s"}, nil); !errors.Is(err, syscall.ENOENT) {
			t.Error(err)
		}
		mine := errors.New("mine")
		if _, err := w.Dial(at, &fiber.Dialer{Control: func(int) error { return mine }}); !errors.Is(err, mine) {
			t.Error(err)
		}
		local, _ := fiber.ParseAddress("192.0.2.1:0")
		if _, err := w.Dial(at, &fiber.Dialer{Local: local}); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Error(err)
		}
	})
}

func TestDialEndsWithLimit(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		s, err := fiber.Bind(fiber.ListenConfig{Address: fibertest.Loopback(), Backlog: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Listen(); err != nil {
			t.Fatal(err)
		}
		f := w.Current()
		mine := errors.New("mine")
		var open []fiber.Conn
		for range 10 { // the backlog is full after two or three: the kernel drops the next SYN
			before := f.SetLimit(fiber.Limit{At: w.Now().Add(50 * time.Millisecond), Cause: mine})
			var c fiber.Conn
			c, err = w.Dial(s.Address(), nil)
			f.Restore(before)
			if err != nil {
				break
			}
			open = append(open, c)
		}
		if err != mine {
			t.Error(err)
		}
		for _, c := range open {
			_ = c.Close()
		}
	})
}

func TestDialer(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		got := make([]fiber.Conn, 0, 1)
		var c fiber.Cond
		l := fibertest.Listen(t, w, fibertest.Loopback(), func(s fiber.Conn) { got = append(got, s); c.Broadcast() })
		local, _ := fiber.ParseAddress("127.0.0.7:0")
		called := false
		a, err := w.Dial(l.Address(), &fiber.Dialer{Local: local, Control: func(int) error { called = true; return nil }})
		if err != nil {
			t.Fatal(err)
		}
		for len(got) == 0 {
			_ = c.Wait(w)
		}
		if r := got[0].Remote(); r.Addr() != local.Addr() || r.Port() == 0 || !called {
			t.Error(r, called)
		}
		_ = got[0].Close()
		_ = a.Close()
		l.Close()
	})
}

// TestAcceptOfAborted: connections that were reset while they waited in the backlog.
func TestAcceptOfAborted(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		accepted, ended := 0, 0
		var c fiber.Cond
		l := fibertest.Listen(t, w, fibertest.Loopback(), func(s fiber.Conn) {
			accepted++
			s.OnIdle(0, func(bool) { _, _ = s.Read(make([]byte, 1)); _ = s.Close(); ended++; c.Signal() })
		})
		l.Pause()
		for range 5 {
			a, err := w.Dial(l.Address(), nil)
			if err != nil {
				t.Fatal(err)
			}
			a.Abort()
		}
		_ = w.Sleep(10 * time.Millisecond)
		if accepted != 0 {
			t.Errorf("%d accepted while paused", accepted)
		}
		l.Resume()
		a, err := w.Dial(l.Address(), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = a.CloseWrite()
		for ended < accepted || accepted == 0 {
			if err := c.Wait(w); err != nil {
				t.Fatal(err)
			}
		}
		_ = a.Close()
		l.Close()
		l.Close()
	})
}

// TestDescriptorsRunOut: accepting backs off, the loop sleeps, and all goes on when descriptors are there again.
func TestDescriptorsRunOut(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		s, err := fiber.Bind(fiber.ListenConfig{Address: fibertest.Loopback()})
		if err != nil {
			t.Fatal(err)
		}
		failed, accepted := 0, 0
		var c fiber.Cond
		l, err := w.Accept(s, fiber.AcceptOptions{Failed: func(err error) {
			if !errors.Is(err, syscall.EMFILE) {
				t.Error(err)
			}
			failed++
			c.Broadcast()
		}}, func(x fiber.Conn) { accepted++; _ = x.Close(); c.Broadcast() })
		if err != nil {
			t.Fatal(err)
		}
		a, err := net.DialTimeout("tcp", s.Address().String(), time.Second) // the kernel completes it
		if err != nil {
			t.Fatal(err)
		}
		for accepted == 0 {
			_ = c.Wait(w)
		}
		b, restore := exhaust(t, s.Address().String())
		for failed == 0 {
			_ = c.Wait(w)
		}
		turns := w.Turns
		for failed < 3 {
			_ = c.Wait(w)
		}
		if n := w.Turns - turns; n > 100 {
			t.Errorf("the loop spins: %d turns", n)
		}
		restore()
		for accepted < 2 {
			_ = c.Wait(w)
		}
		_ = a.Close()
		_ = b.Close()
		l.Close()
		s.Close()
	})
}

// exhaust connects to address and leaves no descriptor for the other end.
func exhaust(t *testing.T, address string) (c net.Conn, restore func()) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	probe, err := syscall.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	_ = syscall.Close(probe)
	// The descriptor that the client gets is the last.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(probe) + 1, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	restore = func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old) }
	c, err = net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		restore()
		t.Fatal(err)
	}
	return c, restore
}

// TestDescriptorReuse: a socket is closed while an event of it is pending, and its number is in use again when the event comes.
func TestDescriptorReuse(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		victimPeer, victim := pair(t, w)
		var got []fiber.Conn
		var c fiber.Cond
		l := fibertest.Listen(t, w, fibertest.Loopback(), func(s fiber.Conn) {
			if len(got) == 0 {
				_ = victim.Close() // the next accept, in the same batch of events, gets its number
			}
			got = append(got, s)
			c.Broadcast()
		})
		var clients [2]net.Conn
		w.Post(func() { // blocks the loop so that all events come in one batch: the listener's first
			for i := range clients {
				var err error
				if clients[i], err = net.Dial("tcp", l.Address().String()); err != nil {
					t.Error(err)
				}
			}
			_ = victimPeer.Control(func(fd int) error { _, err := syscall.Write(fd, []byte("x")); return err })
		})
		for len(got) < 2 {
			_ = c.Wait(w)
		}
		_ = w.Sleep(3 * time.Millisecond)
		for i, s := range got {
			if s.Readable() {
				t.Errorf("connection %d has seen an event of the one before", i)
			}
			_ = s.Close()
			_ = clients[i].Close()
		}
		_ = victimPeer.Close()
		l.Close()
	})
}

// TestWorkersShareAPort: with a socket of each worker's own (SO_REUSEPORT), and with one socket for all.
func TestWorkersShareAPort(t *testing.T) {
	for name, engine := range fibertest.Engines() {
		for _, reuse := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s reuse %v", name, reuse), func(t *testing.T) { sharePort(t, engine, reuse) })
		}
	}
}

func sharePort(t *testing.T, engine func(int) (*fiber.Worker, error), reuse bool) {
	const workers, clients = 3, 60
	at := fibertest.Loopback()
	var served [workers]atomic.Int64
	var ends [workers]chan struct{}
	var all [workers]*fiber.Worker
	var s *fiber.Socket
	for i := range workers {
		w, err := engine(i)
		if err != nil {
			t.Fatal(err)
		}
		if s == nil || reuse {
			if s, err = fiber.Bind(fiber.ListenConfig{Address: at, ReusePort: reuse}); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			at = s.Address()
		}
		if _, err := w.Accept(s, fiber.AcceptOptions{PerEvent: 1}, func(c fiber.Conn) {
			served[i].Add(1)
			w.Go(func() { _, _ = c.Write([]byte("x")); _ = c.Close() })
		}); err != nil {
			t.Fatal(err)
		}
		all[i], ends[i] = w, make(chan struct{})
		go func() { w.Run(); close(ends[i]) }() // ends with Stop
	}
	for range clients {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	}
	sum := int64(0)
	for i := range all {
		all[i].Stop()
		<-ends[i]
		sum += served[i].Load()
		if reuse && served[i].Load() == 0 {
			t.Errorf("worker %d got nothing", i)
		}
	}
	if sum != clients {
		t.Errorf("%d of %d", sum, clients)
	}
}
