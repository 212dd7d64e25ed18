package fiber_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
)

// eachConn runs f on both ends of each kind of connection, on both engines.
func eachConn(t *testing.T, f func(t *testing.T, w *fiber.Worker, a, b fiber.Conn)) {
	kinds := map[string]func(t *testing.T, w *fiber.Worker) (a, b fiber.Conn){
		"tcp":  fibertest.Pair,
		"pipe": func(_ *testing.T, w *fiber.Worker) (a, b fiber.Conn) { return fiber.Pipe(w) },
		"unix": func(t *testing.T, w *fiber.Worker) (a, b fiber.Conn) {
			return fibertest.PairOn(t, w, fiber.Address{Path: filepath.Join(t.TempDir(), "s")})
		},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
				a, b := kind(t, w)
				f(t, w, a, b)
				_ = a.Close()
				_ = b.Close()
			})
		})
	}
}

// pattern is n bytes that differ from their neighbours a power of two away.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7 / 3)
	}
	return p
}

// collect reads c to its end.
func collect(c fiber.Conn) ([]byte, error) {
	var all bytes.Buffer
	p := make([]byte, 32<<10)
	for {
		n, err := c.Read(p)
		all.Write(p[:n])
		if err != nil {
			return all.Bytes(), err
		}
	}
}

func TestEcho(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		var echo fiber.Task
		echo.Start(w, func() {
			p := make([]byte, 100)
			for {
				n, err := b.Read(p)
				if err != nil {
					_ = b.Close()
					return
				}
				_, _ = b.Write(p[:n])
			}
		})
		p := make([]byte, 10)
		for range 100 {
			_, _ = a.Write([]byte("hello"))
			if n, err := io.ReadFull(a, p[:5]); err != nil || string(p[:n]) != "hello" {
				t.Fatalf("%q %v", p[:n], err)
			}
		}
		_ = a.CloseWrite()
		if err := echo.Wait(w); err != nil {
			t.Error(err)
		}
		if _, err := a.Read(p); err != io.EOF {
			t.Error(err)
		}
	})
}

func TestHalfClose(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		_, _ = a.Write([]byte("request"))
		_ = a.CloseWrite()
		if got, err := collect(b); string(got) != "request" || err != io.EOF {
			t.Errorf("b reads %q, %v", got, err)
		}
		if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write after CloseWrite: %v", err)
		}
		if _, err := b.Write([]byte("response")); err != nil {
			t.Errorf("the other direction: %v", err)
		}
		_ = b.Close()
		if got, err := collect(a); string(got) != "response" || err != io.EOF {
			t.Errorf("a reads %q, %v", got, err)
		}
	})
}

func TestResetEndsReaderAndWriter(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		var reader, writer fiber.Task
		var rerr, werr error
		reader.Start(w, func() { _, rerr = b.Read(make([]byte, 1)) })
		writer.Start(w, func() {
			for werr == nil {
				_, werr = b.Write(make([]byte, 1<<20))
			}
		})
		_ = w.Sleep(5 * time.Millisecond)
		a.Abort()
		_, _ = reader.Wait(w), writer.Wait(w)
		if rerr == nil || werr == nil || errors.Is(rerr, fiber.ErrClosed) || errors.Is(werr, fiber.ErrClosed) {
			t.Errorf("read %v, write %v", rerr, werr)
		}
		if _, err := a.Read(make([]byte, 1)); err != fiber.ErrClosed {
			t.Errorf("own end: %v", err)
		}
	})
}

func TestCloseWithUnreadInputResets(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		_, _ = a.Write([]byte("never read"))
		_ = b.WaitReadable()
		_ = b.Close()
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	})
}

func TestCloseWakesOwnFibers(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		var reader, writer fiber.Task
		var rerr, werr error
		reader.Start(w, func() { _, rerr = a.Read(make([]byte, 1)) })
		writer.Start(w, func() {
			for werr == nil {
				_, werr = a.Write(make([]byte, 1<<20))
			}
		})
		_ = w.Sleep(5 * time.Millisecond)
		_ = a.Close()
		_ = a.Close()
		_, _ = reader.Wait(w), writer.Wait(w)
		if rerr != fiber.ErrClosed || werr != fiber.ErrClosed {
			t.Errorf("read %v, write %v", rerr, werr)
		}
		if err := a.CloseWrite(); err != fiber.ErrClosed {
			t.Error(err)
		}
	})
}

// TestStorm moves data through buffers that are full all the time, both ways at once, in odd pieces.
func TestStorm(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		for _, c := range []fiber.Conn{a, b} {
			_ = c.Control(func(fd int) error { return syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 4096) })
		}
		want := pattern(3<<19 + 17)
		var tasks [3]fiber.Task
		send := func(c fiber.Conn) func() {
			return func() {
				for rest := want; len(rest) > 0; {
					n := min(len(rest), 77_777)
					if _, err := c.Write(rest[:n]); err != nil {
						t.Error(err)
						return
					}
					rest = rest[n:]
				}
				_ = c.CloseWrite()
			}
		}
		var atA []byte
		tasks[0].Start(w, send(a))
		tasks[1].Start(w, send(b))
		tasks[2].Start(w, func() { atA, _ = collect(a) })
		atB, err := collect(b)
		for i := range tasks {
			_ = tasks[i].Wait(w)
		}
		if err != io.EOF || !bytes.Equal(atA, want) || !bytes.Equal(atB, want) {
			t.Errorf("%v, %d and %d bytes of %d", err, len(atA), len(atB), len(want))
		}
	})
}

func TestTryRead(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		p := make([]byte, 8)
		if _, err := b.TryRead(p); err != fiber.ErrWouldWait || b.Readable() {
			t.Error(err)
		}
		_, _ = a.Write([]byte("abc"))
		if err := b.WaitReadable(); err != nil || !b.Readable() {
			t.Error(err)
		}
		if n, err := b.TryRead(nil); n != 0 || err != nil {
			t.Error(n, err)
		}
		if n, err := b.TryRead(p[:2]); n != 2 || err != nil || !b.Readable() {
			t.Error(n, err, "a full read may have left something")
		}
		if n, err := b.TryRead(p); n != 1 || err != nil {
			t.Error(n, err)
		}
	})
}

func TestPeek(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		var writer fiber.Task
		writer.Start(w, func() {
			for _, s := range []string{"GE", "T / HT", "TP/1.1"} {
				_ = w.Sleep(2 * time.Millisecond)
				_, _ = a.Write([]byte(s))
			}
			_ = a.CloseWrite()
		})
		if p, err := b.Peek(4); len(p) < 4 || string(p[:4]) != "GET " || err != nil {
			t.Errorf("%q %v", p, err)
		}
		b.Discard(2)
		if p, err := b.Peek(100); string(p) != "T / HTTP/1.1" || err != io.EOF {
			t.Errorf("%q %v", p, err)
		}
		if !b.Readable() {
			t.Error("readable")
		}
		p := make([]byte, 3)
		if n, err := b.Read(p); string(p[:n]) != "T /" || err != nil {
			t.Errorf("%q %v", p[:n], err)
		}
		if rest, err := collect(b); string(rest) != " HTTP/1.1" || err != io.EOF {
			t.Errorf("%q %v", rest, err)
		}
		_ = writer.Wait(w)
	})
}

func TestPeekGrowsToItsEnd(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		want := pattern(100_000)
		var writer fiber.Task
		writer.Start(w, func() { _, _ = a.Write(want); _ = a.CloseWrite() })
		for _, n := range []int{1, 16 << 10, 16<<10 + 1, 64 << 10} {
			if p, err := b.Peek(n); len(p) < n || !bytes.Equal(p, want[:len(p)]) || err != nil {
				t.Fatalf("peek %d: %d bytes, %v", n, len(p), err)
			}
		}
		if p, err := b.Peek(fiber.MaxPeek + 1); len(p) != fiber.MaxPeek || err != fiber.ErrPeekTooLong {
			t.Errorf("%d bytes, %v", len(p), err)
		}
		if got, _ := collect(b); !bytes.Equal(got, want) {
			t.Errorf("%d bytes", len(got))
		}
		_ = writer.Wait(w)
	})
}

func TestPeekEndsWithLimit(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		_, _ = a.Write([]byte("ab"))
		f := w.Current()
		before := f.SetLimit(fiber.Limit{At: w.Now().Add(5 * time.Millisecond)})
		if p, err := b.Peek(3); string(p) != "ab" || err != fiber.ErrTimeout {
			t.Errorf("%q %v", p, err)
		}
		f.Restore(before)
		called := false
		var c fiber.Cond
		b.OnIdle(0, func(bool) { called = true; c.Signal() })
		if err := c.Wait(w); err != nil || !called {
			t.Error("bytes that were shown count as input", err)
		}
		b.Discard(2)
		if b.Readable() || w.Buffers.Lent() != 0 {
			t.Error("all is discarded")
		}
	})
}

func TestPipeHasNoSocket(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		a, b := fiber.Pipe(w)
		if err := a.Control(func(int) error { return nil }); err != fiber.ErrNoSocket {
			t.Error(err)
		}
		if !a.Local().IsZero() || a.Remote().String() != "" {
			t.Error(a.Local(), a.Remote())
		}
		if _, err := fiber.Splice(a, b); err != fiber.ErrNoSplice {
			t.Error(err)
		}
		_ = a.Close()
		_ = b.Close()
	})
}

func TestAddressesAndControl(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker) {
		a, b := pair(t, w)
		if a.Local() != b.Remote() || a.Remote() != b.Local() || a.Local().Port() == 0 {
			t.Error(a.Local(), a.Remote(), b.Local(), b.Remote())
		}
		for _, c := range []fiber.Conn{a, b} {
			err := c.Control(func(fd int) error {
				v, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
				if v == 0 {
					return fmt.Errorf("TCP_NODELAY is off (%v)", err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			_ = c.Close()
			if err := c.Control(nil); err != fiber.ErrClosed {
				t.Error(err)
			}
		}
		path := filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(path, nil, 0o600); err != nil { // a left-over is removed
			t.Fatal(err)
		}
		for _, at := range []string{path, "@outrigger-fiber-test"} {
			a, b := fibertest.PairOn(t, w, fiber.Address{Path: at})
			if a.Remote().String() != at || b.Local().String() != at || b.Remote().String() != "" {
				t.Error(a.Remote(), b.Local(), b.Remote())
			}
			_ = a.Close()
			_ = b.Close()
		}
	})
}

func TestWriteBoth(t *testing.T) {
	eachConn(t, func(t *testing.T, w *fiber.Worker, a, b fiber.Conn) {
		var want []byte
		var writer fiber.Task
		sizes := [][2]int{{0, 1}, {1, 0}, {300, 100}, {16 << 10, 100_000}, {3_000_000, 10}, {10, 3_000_000}} // the last ones find no room
		for _, z := range sizes {
			want = append(append(want, pattern(z[0])...), pattern(z[1])...)
		}
		writer.Start(w, func() {
			for _, z := range sizes {
				if n, err := fiber.WriteBoth(a, pattern(z[0]), pattern(z[1])); n != z[0]+z[1] || err != nil {
					t.Errorf("%v: %d, %v", z, n, err)
				}
			}
			_ = a.CloseWrite()
		})
		if got, _ := collect(b); !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d came, or others", len(got), len(want))
		}
		_ = writer.Wait(w)
		_ = b.Close()
		w.Yield()
		if _, err := fiber.WriteBoth(a, []byte("x"), []byte("y")); err == nil {
			if _, err = fiber.WriteBoth(a, []byte("x"), []byte("y")); err == nil {
				t.Error("nobody is there to read it")
			}
		}
	})
}
