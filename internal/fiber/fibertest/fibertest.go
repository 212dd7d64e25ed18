// Package fibertest runs tests on fibers, on both engines, and checks that nothing is left behind.
package fibertest

import (
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// Engines are the ways to make a worker, by the names that OUTRIGGER_ENGINE knows.
func Engines() map[string]func(id int) (*fiber.Worker, error) {
	return map[string]func(int) (*fiber.Worker, error){"epoll": fiber.New, "goroutine": fiber.NewGoroutines}
}

// patience is for what ought to happen at once: builds under the race detector on busy machines are slow.
const patience = 20 * time.Second

// Each runs f as a subtest on a fiber of a fresh worker of each engine. The subtest fails if f hangs, if a fiber holds its loop for
// 5 s, or if fibers, buffers, descriptors or goroutines are left when f has returned and the worker was stopped. f closes what it
// opens. t.Fatal in f works as usual; in a fiber that f starts use t.Error and return. Tests that use it must not run in parallel.
func Each(t *testing.T, f func(t *testing.T, w *fiber.Worker)) {
	t.Helper()
	for name, engine := range Engines() {
		t.Run(name, func(t *testing.T) { run(t, engine, f) })
	}
}

func run(t *testing.T, engine func(int) (*fiber.Worker, error), f func(*testing.T, *fiber.Worker)) {
	t.Helper()
	warm(t)
	fds, goroutines := descriptors(), runtime.NumGoroutine()
	w, err := engine(0)
	if err != nil {
		t.Fatal(err)
	}
	Serve(t, w, func() { f(t, w) })
	if n := w.Buffers.Lent() + w.Bulk.Lent(); n != 0 && !t.Failed() {
		t.Errorf("%d buffers are not given back", n)
	}
	if !eventually(func() bool { return runtime.NumGoroutine() <= goroutines }) {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), goroutines, buf[:runtime.Stack(buf, true)])
	}
	if !eventually(func() bool { return descriptors() <= fds }) {
		t.Errorf("%d descriptors, %d before", descriptors(), fds)
	}
}

// Serve runs w, and f on a fiber of it, until f is done; then it stops w and waits for its end. It reports fibers that are left
// and stalls of the loop.
func Serve(t *testing.T, w *fiber.Worker, f func()) {
	t.Helper()
	w.Watch(5*time.Second, func(s fiber.Stall) { t.Errorf("%s holds the loop for %v:\n%s", s.Fiber, s.Held, s.Stack) })
	ended, done := make(chan struct{}), make(chan struct{})
	w.Go(func() { defer close(done); f() })
	go func() { defer close(ended); w.Run() }() // ends with Stop
	select {
	case <-done:
	case <-ended: // Fatal on the epoll engine takes the loop along
	case <-time.After(patience):
		buf := make([]byte, 1<<20)
		t.Fatalf("hangs:\n%s", buf[:runtime.Stack(buf, true)])
	}
	if live := -1; !eventually(func() bool { live = livingFibers(w); return live == 0 }) && !t.Failed() {
		t.Errorf("%d fibers are left", live)
	}
	w.Stop()
	<-ended
}

func livingFibers(w *fiber.Worker) int {
	live := make(chan int, 1)
	if !w.Post(func() { live <- w.Live() }) {
		return 0
	}
	return <-live
}

// eventually asks until the answer is yes, for as long as a cancelled fiber or a goroutine may need to come to its end.
func eventually(ok func() bool) bool {
	for until := time.Now().Add(3 * time.Second); !ok(); {
		if time.Now().After(until) {
			return false
		}
		runtime.Gosched()
	}
	return true
}

// warm makes the runtime open what it keeps open.
func warm(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

func descriptors() int {
	d, _ := os.ReadDir("/proc/self/fd")
	return len(d)
}

// Loopback is an address for a listener: 127.0.0.1 with a port of the system's choice.
func Loopback() fiber.Address {
	a, _ := fiber.ParseAddress("127.0.0.1:0")
	return a
}

// Pair connects two sockets of w over loopback. It is called on a fiber.
func Pair(t *testing.T, w *fiber.Worker) (client, server fiber.Conn) {
	t.Helper()
	return PairOn(t, w, Loopback())
}

// PairOn is Pair on another address: of a unix socket, for instance.
func PairOn(t *testing.T, w *fiber.Worker, at fiber.Address) (client, server fiber.Conn) {
	t.Helper()
	var c fiber.Cond
	l := Listen(t, w, at, func(s fiber.Conn) { server = s; c.Broadcast() })
	defer l.Close()
	client, err := w.Dial(l.Address(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for server == nil {
		if err := c.Wait(w); err != nil {
			t.Fatal(err)
		}
	}
	return client, server
}

// Listen binds and accepts on w; closing the listener closes the socket.
func Listen(t *testing.T, w *fiber.Worker, at fiber.Address, accept func(fiber.Conn)) fiber.Listener {
	t.Helper()
	s, err := fiber.Bind(fiber.ListenConfig{Address: at})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l, err := w.Accept(s, fiber.AcceptOptions{}, accept)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
