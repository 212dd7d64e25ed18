package transport

import (
	"bytes"
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
)

// pair joins two TLS connections over a pipe, or over sockets.
func pair(t *testing.T, w *fiber.Worker, version uint16, pipe bool) (client, server *conn) {
	t.Helper()
	var a, b fiber.Conn
	if pipe {
		a, b = fiber.Pipe(w)
	} else {
		a, b = fibertest.Pair(t, w)
	}
	ca := pkitest.Authority(t, "ca")
	id := ca.Issue(t, pkitest.Leaf{DNS: []string{"server.test"}})
	client, server = newConn(w, a), newConn(w, b)
	client.tls = tls.Client(&client.wire, &tls.Config{InsecureSkipVerify: true, MaxVersion: version, DynamicRecordSizingDisabled: true})
	server.tls = tls.Server(&server.wire, &tls.Config{Certificates: []tls.Certificate{id.TLS()}, DynamicRecordSizingDisabled: true})
	var other fiber.Task
	var failed error
	other.Start(w, func() { failed = server.handshake() })
	if err := client.handshake(); err != nil {
		t.Fatal(err)
	}
	if err := other.Wait(w); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return client, server
}

// each runs f over both versions, pipes and sockets, on both engines.
func each(t *testing.T, f func(t *testing.T, w *fiber.Worker, client, server *conn)) {
	t.Helper()
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, pipe := range []bool{true, false} {
			name := versionName(v) + map[bool]string{true: " pipe", false: " socket"}[pipe]
			t.Run(name, func(t *testing.T) {
				fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
					client, server := pair(t, w, v, pipe)
					f(t, w, client, server)
					_ = client.Close()
					_ = server.Close()
				})
			})
		}
	}
}

func TestBulkBothWays(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker, client, server *conn) {
		data := bytes.Repeat([]byte("0123456789abcdef"), 20<<10)
		var tasks [2]fiber.Task
		for i, c := range []*conn{client, server} {
			tasks[i].Start(w, func() {
				if n, err := c.Write(data); n != len(data) || err != nil {
					t.Error(n, err)
				}
				if err := c.CloseWrite(); err != nil {
					t.Error(err)
				}
			})
		}
		for _, c := range []*conn{client, server} {
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		}
		for i := range tasks {
			if err := tasks[i].Wait(w); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestPeek(t *testing.T) {
	each(t, func(t *testing.T, _ *fiber.Worker, client, server *conn) {
		mustWrite(t, client, "abc")
		b, err := server.Peek(2)
		if err != nil || string(b) != "abc" {
			t.Errorf("%q %v", b, err)
		}
		server.Discard(1)
		mustWrite(t, client, "def")
		if b, err = server.Peek(5); err != nil || string(b) != "bcdef" {
			t.Errorf("%q %v", b, err)
		}
		p := make([]byte, 3)
		if n, err := server.Read(p); n != 3 || err != nil || string(p) != "bcd" {
			t.Errorf("%q %v", p[:n], err)
		}
		if !server.Readable() {
			t.Error("the rest is not readable")
		}
		if n, err := server.TryRead(p); n != 2 || err != nil {
			t.Error(n, err)
		}
		if n, err := server.TryRead(p); n != 0 || err != fiber.ErrWouldWait || server.Readable() {
			t.Error(n, err)
		}
		if _, err := server.Peek(fiber.MaxPeek + 1); err != fiber.ErrPeekTooLong {
			t.Error(err)
		}
		_ = client.Close()
		if b, err := server.Peek(1); len(b) != 0 || err != io.EOF {
			t.Error(b, err)
		}
		if n, err := server.Read(p); n != 0 || err != io.EOF {
			t.Error(n, err)
		}
	})
}

func mustWrite(t *testing.T, c fiber.Conn, s string) {
	t.Helper()
	if n, err := c.Write([]byte(s)); n != len(s) || err != nil {
		t.Fatal(n, err)
	}
}

// TestIdle: a resting connection has no buffer; what is not for the application wakes nobody; a taken back callback does not run.
func TestIdle(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker, client, server *conn) {
		var woken fiber.Cond
		calls, expired := 0, false
		next := func(e bool) { calls++; expired = e; woken.Broadcast() }
		rest := func(limit fiber.Time) {
			server.OnIdle(limit, next)
			if n := w.Buffers.Lent() + w.Bulk.Lent(); n != 0 {
				t.Errorf("%d buffers while idle", n)
			}
		}
		rest(0)
		mustWrite(t, client, "x")
		for calls == 0 {
			_ = woken.Wait(w)
		}
		if expired || !server.Readable() {
			t.Error("woken for nothing")
		}
		p := make([]byte, 10)
		if n, err := server.Read(p); n != 1 || err != nil {
			t.Error(n, err)
		}
		rest(w.Now().Add(time.Millisecond))
		for calls == 1 {
			_ = woken.Wait(w)
		}
		if !expired {
			t.Error("the limit is not told")
		}
		mustWrite(t, client, "y")
		if err := server.WaitReadable(); err != nil {
			t.Error(err)
		}
		server.OnIdle(0, next) // there is something already
		server.OnIdle(0, nil)
		w.Yield()
		w.Yield()
		if calls != 2 {
			t.Errorf("called %d times", calls)
		}
		if n, err := server.Read(p); n != 1 || err != nil {
			t.Error(n, err)
		}
		rest(0)
		_ = client.Close()
		for calls == 2 {
			_ = woken.Wait(w)
		}
		if n, err := server.Read(p); n != 0 || err != io.EOF {
			t.Error(n, err)
		}
	})
}

// TestTryWrite: it stops where the peer does not read, and what it has taken arrives.
func TestTryWrite(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker, client, server *conn) {
		block, sent := make([]byte, 64<<10), 0
		for {
			n, err := client.TryWrite(block)
			sent += n
			if err == fiber.ErrWouldWait {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		var reader fiber.Task
		got := 0
		reader.Start(w, func() {
			p := make([]byte, 16<<10)
			for got < sent+1 {
				n, err := server.Read(p)
				if got += n; err != nil {
					t.Error(err)
					return
				}
			}
		})
		mustWrite(t, client, "!")
		if err := reader.Wait(w); err != nil || got != sent+1 {
			t.Errorf("%d of %d, %v", got, sent+1, err)
		}
	})
}

// TestLimits: a read and a write that a limit ends do no harm.
func TestLimits(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker, client, server *conn) {
		f := w.Current()
		prev := f.SetLimit(fiber.Limit{At: w.Now().Add(time.Millisecond)})
		if _, err := server.Read(make([]byte, 1)); err != fiber.ErrTimeout {
			t.Error(err)
		}
		f.Restore(prev)
		big := bytes.Repeat([]byte("z"), 16<<20)
		prev = f.SetLimit(fiber.Limit{At: w.Now().Add(5 * time.Millisecond)})
		n, err := client.Write(big)
		f.Restore(prev)
		if err != fiber.ErrTimeout {
			t.Fatal(n, err)
		}
		var reader fiber.Task
		got := 0
		reader.Start(w, func() {
			p := make([]byte, 64<<10)
			for {
				n, err := server.Read(p)
				got += n
				if err != nil {
					return
				}
			}
		})
		mustWrite(t, client, "end")
		_ = client.CloseWrite()
		if err := reader.Wait(w); err != nil || got != n+3 {
			t.Errorf("%d, %v", got, err)
		}
	})
}

// TestGoneAndClosed: resets cancel a guarded fiber; what is closed says so.
func TestGoneAndClosed(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker, client, server *conn) {
		var guarded fiber.Task
		var err error
		guarded.Start(w, func() {
			server.Guard(w.Current())
			err = w.Sleep(time.Minute)
		})
		w.Yield()
		client.Abort()
		if e := guarded.Wait(w); e != nil || err != fiber.ErrPeerGone {
			t.Error(e, err)
		}
		if _, err := client.Read(make([]byte, 1)); err != fiber.ErrClosed {
			t.Error(err)
		}
		if _, err := client.Write(nil); err != fiber.ErrClosed {
			t.Error(err)
		}
		if err := client.CloseWrite(); err != fiber.ErrClosed {
			t.Error(err)
		}
		client.OnIdle(0, func(bool) { t.Error("closed, and woken") })
	})
}

// TestNoDeadlockWithKeyUpdates: a peer that asks for key updates while nobody reads what we write holds up nobody.
func TestWriteWhileReading(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker, client, server *conn) {
		var writer fiber.Task
		data := bytes.Repeat([]byte("w"), 4<<20)
		writer.Start(w, func() {
			if _, err := server.Write(data); err != nil { // parks: the client does not read yet
				t.Error(err)
			}
		})
		w.Yield()
		mustWrite(t, client, "ping")
		p := make([]byte, 4)
		if _, err := io.ReadFull(server, p); err != nil || string(p) != "ping" {
			t.Errorf("%q %v", p, err)
		}
		if _, err := io.ReadFull(client, make([]byte, len(data))); err != nil {
			t.Error(err)
		}
		if err := writer.Wait(w); err != nil {
			t.Error(err)
		}
	})
}

func TestFailedHandshakes(t *testing.T) {
	for name, c := range map[string]struct{ send, want string }{
		"http":    {"GET / HTTP/1.1\r\n\r\n", "TLS_error:|268435612:SSL routines:OPENSSL_internal:HTTP_REQUEST:TLS_error_end"},
		"garbage": {"garbage, not TLS", "TLS_error:|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end"},
		"nothing": {"", ""},
		"alert":   {"\x15\x03\x01\x00\x02\x02\x30", "TLS_error:|268436504:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA:TLS_error_end"},
	} {
		t.Run(name, func(t *testing.T) {
			fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
				a, b := fiber.Pipe(w)
				id := pkitest.Authority(t, "ca").Issue(t, pkitest.Leaf{})
				server := newConn(w, b)
				server.tls = tls.Server(&server.wire, &tls.Config{Certificates: []tls.Certificate{id.TLS()}})
				if c.send != "" {
					mustWrite(t, a, c.send)
				}
				_ = a.CloseWrite()
				err := server.handshake()
				if err == nil {
					t.Fatal("no error")
				}
				if got, _ := words(err); got != c.want {
					t.Errorf("%q (%v), want %q", got, err, c.want)
				}
				server.Abort()
				_ = a.Close()
			})
		})
	}
}

func TestAddresses(t *testing.T) {
	each(t, func(t *testing.T, _ *fiber.Worker, client, server *conn) {
		if client.Local() != server.Remote() || !strings.Contains(client.wire.LocalAddr().String()+client.wire.RemoteAddr().String(), client.Local().String()) {
			t.Error(client.Local(), server.Remote())
		}
		if err := client.Control(func(int) error { return nil }); err != nil && err != fiber.ErrNoSocket {
			t.Error(err)
		}
	})
}
