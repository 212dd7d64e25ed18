package http1_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// TestBodies reads bodies of every size around those of the slabs, sized and chunked, with a pipelined request behind.
func TestBodies(t *testing.T) {
	sizes := []int{1, 100, 4 << 10, 12 << 10, 16<<10 - 60, 16 << 10, 16<<10 + 1, 40 << 10, 64 << 10, 64<<10 + 1, 100 << 10, 300 << 10}
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		for _, n := range sizes {
			for _, chunk := range []int{0, 7000, 70000} {
				for _, step := range []int{0, 1000, 16 << 10} {
					bodyOf(t, w, n, chunk, step)
				}
			}
		}
	})
}

func bodyOf(t *testing.T, w *fiber.Worker, n, chunk, step int) {
	t.Helper()
	var text strings.Builder
	for text.Len() < n {
		fmt.Fprintf(&text, "%d,", text.Len())
	}
	want := text.String()[:n]
	in := "POST /1 HTTP/1.1\r\nHost: a\r\nX: y\r\n"
	if chunk == 0 {
		in += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", n, want)
	} else {
		in += "Transfer-Encoding: chunked\r\n\r\n"
		for rest := want; rest != ""; {
			k := min(chunk, len(rest))
			in += fmt.Sprintf("%x\r\n%s\r\n", k, rest[:k])
			rest = rest[k:]
		}
		in += "0\r\nT: u\r\n\r\n"
	}
	wire := int64(len(in))
	in += "GET /2 HTTP/1.1\r\nHost: b\r\n\r\n"
	var task fiber.Task
	var c http1.Conn
	c.Reset(w, feed(w, in, step, &task))
	o := http1.Defaults()
	o.Trailers = true
	c.Options = &o
	var q stream.Request
	if err := c.ReadRequest(&q); err != nil {
		t.Fatal(err)
	}
	got, ok, err := stream.Collect(nil, q.Body, 1<<20)
	if !ok || err != nil || string(got) != want {
		t.Errorf("%d bytes in chunks of %d, pieces of %d: %v, %d bytes", n, chunk, step, err, len(got))
	}
	if x, _ := q.Header.Get("x"); x != "y" || q.Path != "/1" || q.Authority != "a" {
		t.Errorf("the head was overwritten: %q %q %q", x, q.Path, q.Authority)
	}
	if u, _ := q.Trailer.Get("t"); (u == "u") != (chunk > 0) || !c.Drained() || c.BodyBytes != int64(n) || c.WireBytes != wire {
		t.Errorf("trailer %q, drained %v, %d bytes of body, %d of %d on the wire", u, c.Drained(), c.BodyBytes, c.WireBytes, wire)
	}
	if err := c.ReadRequest(&q); err != nil || q.Path != "/2" || q.Authority != "b" {
		t.Errorf("next request: %v %q", err, q.Path)
	}
	c.Release()
	_ = c.Net.Close()
	_ = task.Wait(w)
}

// TestBigHead reads heads that grow out of a slab, up to the limit.
func TestBigHead(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		for _, n := range []int{16 << 10, 40 << 10, 60<<10 - 100, 60 << 10, 80 << 10} {
			in := "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("v", n) + "\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
			for _, step := range []int{0, 1000} {
				got := requests(w, in, step, nil)
				want := "GET / @a {x: " + strings.Repeat("v", n) + "}; GET /2 @a; EOF"
				if n >= 60<<10 {
					want = "431 http1.headers_too_large"
				}
				if got != want {
					t.Errorf("%d in pieces of %d: %.60s, %d long, not %d", n, step, got, len(got), len(want))
				}
			}
		}
	})
}

// TestIdleOwnsNothing says that nothing is lent while a connection waits for a message, or a body for its next piece.
func TestIdleOwnsNothing(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		a, b := fiber.Pipe(w)
		lent := func() int { return w.Buffers.Lent() + w.Bulk.Lent() }
		before := lent()
		var c http1.Conn
		c.Reset(w, b)
		var q stream.Request
		var read fiber.Task
		read.Start(w, func() {
			if err := c.ReadRequest(&q); err != nil {
				t.Error(err)
				return
			}
			if p, err := q.Body.Next(true); string(p) != "abc" || err != nil {
				t.Errorf("%q %v", p, err)
			}
			if p, err := q.Body.Next(false); p != nil || err != nil {
				t.Errorf("%q %v", p, err)
			}
			p, err := q.Body.Next(true)
			if len(p) == 0 || err != nil {
				t.Errorf("%q %v", p, err)
			}
		})
		_, _ = a.Write([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc"))
		for range 10 {
			w.Yield()
		}
		if n := lent() - before; n > 1 {
			t.Errorf("%d slabs are lent while a body is waited for: the head needs one", n)
		}
		_, _ = a.Write([]byte("defg"))
		_ = read.Wait(w)
		if c.Release(); lent() != before {
			t.Errorf("%d slabs are lent after Release", lent()-before)
		}
		_, _ = a.Close(), b.Close()
	})
}

// TestContinue calls the hook once, at the first pull, and not if the body is already there.
func TestContinue(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		for _, early := range []string{"", "a"} {
			var task fiber.Task
			var c http1.Conn
			c.Reset(w, feed(w, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"+early, 0, &task))
			var q stream.Request
			if err := c.ReadRequest(&q); err != nil {
				t.Fatal(err)
			}
			calls := 0
			c.Continue = func() error { calls++; return nil }
			for range 3 {
				_, _ = q.Body.Next(false)
			}
			if want := 1 - len(early); calls != want {
				t.Errorf("%q: %d calls, not %d", early, calls, want)
			}
			c.Release()
			_ = c.Net.Close()
			_ = task.Wait(w)
		}
	})
}

// TestCancelledPull leaves the body to another attempt: the fiber failed, not the message.
func TestCancelledPull(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		a, b := fiber.Pipe(w)
		var c http1.Conn
		c.Reset(w, b)
		_, _ = a.Write([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab"))
		var q stream.Request
		if err := c.ReadRequest(&q); err != nil {
			t.Fatal(err)
		}
		if p, err := q.Body.Next(true); string(p) != "ab" {
			t.Fatalf("%q %v", p, err)
		}
		var pull fiber.Task
		var failed error
		pull.Start(w, func() { _, failed = q.Body.Next(true) })
		w.Yield()
		if pull.Join(w); failed == nil {
			t.Error("the pull was not cancelled")
		}
		_, _ = a.Write([]byte("c\r\n0\r\n\r\n"))
		if p, err := q.Body.Next(true); string(p) != "c" || err != nil {
			t.Errorf("%q %v", p, err)
		}
		if _, err := q.Body.Next(true); err != io.EOF || c.Close {
			t.Errorf("%v, close %v", err, c.Close)
		}
		c.Release()
		_, _ = a.Close(), b.Close()
	})
}

// TestFailureStays returns the same error again.
func TestFailureStays(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		var task fiber.Task
		var c http1.Conn
		c.Reset(w, feed(w, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", 0, &task))
		var q stream.Request
		if err := c.ReadRequest(&q); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := q.Body.Next(true); !errors.Is(err, http1.ErrProtocol) || c.Drained() || !c.Close {
				t.Errorf("%v, drained %v, close %v", err, c.Drained(), c.Close)
			}
		}
		c.Release()
		_ = c.Net.Close()
		_ = task.Wait(w)
	})
}

// TestSpelling keeps the case of names and the reason through both codecs (preserve_case).
func TestSpelling(t *testing.T) {
	keep := with(func(o *http1.Options) { o.KeepCase, o.KeepReason = true, true })
	own := with(func(o *http1.Options) { o.KeepCase, o.OwnCase = true, http1.ProperCase })
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		for _, o := range []*http1.Options{keep, own} {
			var task fiber.Task
			var c http1.Conn
			c.Reset(w, feed(w, "HTTP/1.1 200 Fine\r\nconTENT-length: 0\r\nX-FOO-bAR: 1\r\nx-foo-bar: 2\r\n\r\n", 0, &task))
			c.Options = o
			var r stream.Response
			if err := c.ReadResponse(&r, http1.Plain); err != nil {
				t.Fatal(err)
			}
			r.Header.Add("x-own", "3")
			var to sink
			var s http1.Sender
			s.Response(w, &to, &r, http1.Reply{})
			_, _ = s.Run(true)
			want := "HTTP/1.1 200 Fine\r\nconTENT-length: 0\r\nX-FOO-bAR: 1\r\nX-FOO-bAR: 2\r\nx-own: 3\r\n\r\n"
			if o == own {
				want = strings.Replace(strings.Replace(want, "Fine", "OK", 1), "x-own", "X-Own", 1)
			}
			if string(to.b) != want {
				t.Errorf("got  %q\nwant %q", to.b, want)
			}
			c.Release()
			_ = c.Net.Close()
			_ = task.Wait(w)
		}
	})
}

// TestCounts are the bytes that Envoy 1.40 counted for the same messages.
func TestCounts(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		for _, c := range []struct {
			in         string
			head, wire int64
		}{
			{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 8, 27},
			{"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 15, 37},
			{"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", 12, 31},
			{"GET / HTTP/1.1\r\nHost: a\r\nX: \t 1 \t \r\n\r\n", 13, 38},
			{"GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", 0, 34},
			{"GET /\r\n\r\n", 3, 9},
			{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 53, 80},
		} {
			var task fiber.Task
			var h http1.Conn
			h.Reset(w, feed(w, c.in, 0, &task))
			var q stream.Request
			if _ = h.ReadRequest(&q); h.Protocol != stream.HTTP11 || h.HeadBytes != c.head || h.WireBytes != c.wire {
				t.Errorf("%q: %v, %d and %d, not %d and %d", c.in, h.Protocol, h.HeadBytes, h.WireBytes, c.head, c.wire)
			}
			h.Release()
			_ = h.Net.Close()
			_ = task.Wait(w)
		}
		var task fiber.Task
		var h http1.Conn
		h.Reset(w, feed(w, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 0, &task))
		var r stream.Response
		for r.Status < 200 {
			if err := h.ReadResponse(&r, http1.Plain); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := content(r.Body); err != nil || h.HeadBytes != 26 || h.WireBytes != 78 {
			t.Errorf("%v, %d and %d, not 26 and 78", err, h.HeadBytes, h.WireBytes)
		}
		h.Release()
		_ = h.Net.Close()
		_ = task.Wait(w)
	})
}
