package http1_test

import (
	"io"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// repeat is a connection on which the same message comes again and again, in one read each, and which swallows what is written.
type repeat struct {
	fiber.Conn

	in      string
	written int64
	writes  int
}

func (r *repeat) Read(p []byte) (int, error)    { return copy(p, r.in), nil }
func (r *repeat) TryRead(p []byte) (int, error) { return copy(p, r.in), nil }
func (r *repeat) Readable() bool                { return true }
func (r *repeat) Write(p []byte) (int, error) {
	r.written += int64(len(p))
	r.writes++
	return len(p), nil
}

const (
	smallGet = "GET /api/v1/users/42?fields=name,email HTTP/1.1\r\nHost: users.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n" +
		"Accept: application/json\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.5\r\n" +
		"X-Request-Id: 6c1d0d8e-4d6f-4a7e-9d5f-0123456789ab\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n" +
		"X-Forwarded-For: 10.1.2.3\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyz0123456789\r\n\r\n"
	smallOK = "HTTP/1.1 200 OK\r\ncontent-length: 13\r\ncontent-type: application/json\r\ndate: Mon, 23 Nov 2026 10:00:00 GMT\r\n" +
		"server: app\r\ncache-control: no-store\r\nvary: accept-encoding\r\n\r\n{\"name\":\"ada\"}"
	chunkedPost = "POST /upload HTTP/1.1\r\nHost: users.example.com\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
)

// rig is a codec without a loop: what it reads is there, so nothing waits.
type rig struct {
	w    *fiber.Worker
	net  *repeat
	conn http1.Conn
	send http1.Sender
	q    stream.Request
	r    stream.Response
}

func newRig(tb testing.TB, in string) *rig {
	w, err := fiber.New(0)
	if err != nil {
		tb.Fatal(err)
	}
	g := &rig{w: w, net: &repeat{in: in}}
	g.conn.Reset(w, g.net)
	return g
}

// request reads a request with its body and gives the slab back, as between requests.
func (g *rig) request() {
	if err := g.conn.ReadRequest(&g.q); err != nil {
		panic(err)
	}
	for g.q.Body != nil {
		if _, err := g.q.Body.Next(true); err == io.EOF {
			break
		}
	}
	g.conn.Release()
}

func (g *rig) response() {
	if err := g.conn.ReadResponse(&g.r, http1.Plain); err != nil {
		panic(err)
	}
	g.send.Response(g.w, g.net, &g.r, http1.Reply{})
	if done, err := g.send.Run(true); !done || err != nil {
		panic(err)
	}
	g.conn.Release()
}

func (g *rig) forward() {
	if err := g.conn.ReadRequest(&g.q); err != nil {
		panic(err)
	}
	g.send.Request(g.w, g.net, &g.q, nil)
	if done, err := g.send.Run(true); !done || err != nil {
		panic(err)
	}
	g.conn.Release()
}

// TestNoAllocation holds each way through the codec to no allocation in steady state, and to one write per message.
func TestNoAllocation(t *testing.T) {
	for _, c := range []struct {
		name, in string
		do       func(*rig)
		writes   int
	}{
		{"read", smallGet, (*rig).request, 0},
		{"read chunked", chunkedPost, (*rig).request, 0},
		{"forward request", smallGet, (*rig).forward, 1},
		{"forward chunked request", chunkedPost, (*rig).forward, 1},
		{"forward response", smallOK, (*rig).response, 1},
		{"joined fields", "GET / HTTP/1.1\r\nHost: a\r\nAccept: a\r\nAccept: b\r\n\r\n", (*rig).forward, 1},
		{"keep-alive", "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x\r\nX: 1\r\n\r\n", (*rig).forward, 1},
	} {
		g := newRig(t, c.in)
		c.do(g)
		g.net.writes = 0
		const runs = 100
		if n := testing.AllocsPerRun(runs-1, func() { c.do(g) }); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
		if g.net.writes != c.writes*runs {
			t.Errorf("%s: %d writes for %d messages", c.name, g.net.writes, runs)
		}
	}
}

func bench(b *testing.B, in string, do func(*rig)) {
	g := newRig(b, in)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		do(g)
	}
}

func BenchmarkRequest(b *testing.B)         { bench(b, smallGet, (*rig).request) }
func BenchmarkRequestForward(b *testing.B)  { bench(b, smallGet, (*rig).forward) }
func BenchmarkResponseForward(b *testing.B) { bench(b, smallOK, (*rig).response) }
func BenchmarkChunked(b *testing.B)         { bench(b, chunkedPost, (*rig).request) }
