package http2_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// end is one end of a connection and what it was told.
type end struct {
	http2.Conn

	t      *testing.T
	w      *fiber.Worker
	free   http2.Streams
	serve  func(s *http2.Stream)
	ended  fiber.Cond
	done   bool
	err    error
	served int
}

func (e *end) Serve(s *http2.Stream) {
	e.served++
	e.serve(s)
}
func (e *end) Changed() {}
func (e *end) Closed(err error) {
	e.done, e.err = true, err
	e.ended.Broadcast()
}

// wait waits until the connection is closed.
func (e *end) wait() error {
	for !e.done {
		if err := e.ended.Wait(e.w); err != nil {
			e.t.Fatal(err)
		}
	}
	return e.err
}

// echo answers with the body of the request and its trailers; the path may ask for something else.
func echo(s *http2.Stream) {
	var q stream.Request
	if _, err := s.ReadRequest(&q); err != nil {
		return
	}
	r := stream.Response{Status: 200, Body: q.Body}
	if q.Body != nil {
		r.Body = &stream.Tap{Body: q.Body, See: func(_ []byte, err error) error {
			r.Trailer.CopyFrom(&q.Trailer)
			return err
		}}
	}
	r.Header.Add("x-method", q.Method)
	r.Header.Add("x-path", q.Path)
	if q.Path == "/early" {
		r.Status = 103
		_ = s.Respond(&r, false)
		r.Status = 200
	}
	if q.Path == "/void" {
		r.Body = nil
	}
	if s.Respond(&r, q.Method == "HEAD") != nil {
		return
	}
	for r.Body != nil {
		done, err := s.Run(true)
		if done || err != nil {
			return
		}
	}
}

// pair connects a client and a server of ours.
func pair(t *testing.T, w *fiber.Worker, o http2.Options, serve func(*http2.Stream)) (client, server *end) {
	a, b := fiber.Pipe(w)
	client, server = &end{t: t, w: w}, &end{t: t, w: w, serve: serve}
	server.Server(w, b, &o, server, &server.free, nil)
	client.Client(w, a, &o, client, &client.free)
	return client, server
}

func (e *end) over() {
	e.Close()
	_ = e.wait()
}

// do makes an exchange.
func (e *end) do(path, body string, trailers ...string) (status int, got string, trailer string, err error) {
	q := stream.Request{Method: "POST", Path: path, Authority: "a", Scheme: "http"}
	if body != "" {
		q.Body = &stream.Bytes{B: []byte(body)}
	}
	for _, tr := range trailers {
		q.Trailer.Add("x-t", tr)
	}
	s := e.Open()
	defer s.Release()
	if err = s.Request(&q, ""); err != nil {
		return
	}
	var up fiber.Task
	up.Start(e.w, func() { _, _ = s.Run(true) })
	defer up.Join(e.w)
	var r stream.Response
	for r.Status < 200 {
		if err = s.ReadResponse(&r); err != nil {
			return
		}
	}
	all, _, err := stream.Collect(nil, r.Body, 1<<30)
	if r.Header.Len() > 0 && r.Header.All()[1].Value != path {
		e.t.Errorf("path %q", r.Header.All())
	}
	trailer, _ = r.Trailer.Get("x-t")
	return r.Status, string(all), trailer, err
}

func TestExchanges(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		c, s := pair(t, w, http2.Defaults(), echo)
		for _, body := range []string{"", "x", strings.Repeat("ab", 500), strings.Repeat("0123456789", 100000)} {
			for _, path := range []string{"/", "/early", "/" + strings.Repeat("long", 8000)} {
				status, got, trailer, err := c.do(path, body, "1")
				want := "1"
				if body == "" {
					want = ""
				}
				if status != 200 || got != body || trailer != want || err != nil {
					t.Fatalf("%d, %d bytes of %d, %q, %v", status, len(got), len(body), trailer, err)
				}
			}
		}
		if c.Active() != 0 || s.served != 12 {
			t.Errorf("%d streams left, %d served", c.Active(), s.served)
		}
		c.over()
		if err := s.wait(); err != io.EOF {
			t.Error(err)
		}
	})
}

// TestTurns lets streams that have much to say share a connection, through small windows.
func TestTurns(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		o := http2.Defaults()
		o.FirstWindow, o.StreamWindow, o.FirstConn, o.ConnWindow = 65535, 65535, 65535, 65535
		c, s := pair(t, w, o, echo)
		var tasks [8]fiber.Task
		var ends []int
		for i := range tasks {
			tasks[i].Start(w, func() {
				body := strings.Repeat(fmt.Sprint(i), 1<<20)
				if status, got, _, err := c.do("/", body); status != 200 || got != body || err != nil {
					t.Errorf("%d: %d, %d bytes, %v", i, status, len(got), err)
				}
				ends = append(ends, i)
			})
		}
		for i := range tasks {
			_ = tasks[i].Wait(w)
		}
		c.over()
		_ = s.wait()
	})
}

// TestStalled lets a stream that nobody reads hold up no other one.
func TestStalled(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		o := http2.Defaults()
		o.FirstWindow = 65535
		c, s := pair(t, w, o, func(s *http2.Stream) {
			var q stream.Request
			_, _ = s.ReadRequest(&q)
			r := stream.Response{Status: 200, Body: &stream.Bytes{B: bytes.Repeat([]byte("x"), 1<<20)}}
			if q.Path == "/void" {
				r.Body = nil
			}
			if s.Respond(&r, false) == nil {
				_, _ = s.Run(true)
			}
		})
		stalled := c.Open()
		if err := stalled.Request(&stream.Request{Method: "GET", Path: "/", Authority: "a", Scheme: "http"}, ""); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if _, err := stalled.Run(true); err != nil {
				t.Fatal(err)
			}
			g := c.Open()
			_ = g.Request(&stream.Request{Method: "GET", Path: "/void", Authority: "a", Scheme: "http"}, "")
			var r stream.Response
			if err := g.ReadResponse(&r); err != nil || r.Status != 200 || r.Body != nil {
				t.Fatal(err)
			}
			g.Release()
		}
		if n := o.Stats.PendingSend.Value(); n <= 0 || n > 1<<20 {
			t.Errorf("%d bytes wait for a window", n)
		}
		stalled.Release()
		for s.Active() > 0 || o.Stats.PendingSend.Value() != 0 {
			w.Yield()
		}
		c.over()
		_ = s.wait()
	})
}

// TestEnds are streams that end early, one way or the other.
func TestEnds(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		var seen error
		c, s := pair(t, w, http2.Defaults(), func(s *http2.Stream) {
			var q stream.Request
			_, _ = s.ReadRequest(&q)
			switch q.Path {
			case "/reset":
				s.Reset(http2.RefusedStream)
			case "/wait":
				seen = w.Sleep(time.Hour)
			case "/void": // answers before the request has ended
				_ = s.Respond(&stream.Response{Status: 200}, false)
			}
		})
		var reset *http2.Reset
		for path, code := range map[string]http2.Code{"/reset": http2.RefusedStream, "/nothing": http2.InternalError} {
			if _, _, _, err := c.do(path, "x"); !errors.As(err, &reset) || reset.Code != code || !reset.Remote {
				t.Errorf("%s: %v", path, err)
			}
		}
		st := c.Open()
		_ = st.Request(&stream.Request{Method: "GET", Path: "/wait", Authority: "a", Scheme: "http"}, "")
		for s.served < 3 {
			w.Yield()
		}
		st.Release()
		for seen == nil {
			w.Yield()
		}
		if !errors.As(seen, &reset) || reset.Code != http2.Cancel {
			t.Errorf("the fiber of a reset stream ended with %v", seen)
		}
		if status, _, _, err := c.do("/void", strings.Repeat("x", 1<<20)); status != 200 || err != nil {
			t.Errorf("%d %v", status, err)
		}
		st = c.Open()
		_ = st.Request(&stream.Request{Method: "GET", Path: "/wait", Authority: "a", Scheme: "http"}, "")
		s.Abort(nil)
		var r stream.Response
		if err := st.ReadResponse(&r); !errors.Is(err, http2.ErrGone) {
			t.Error(err)
		}
		st.Release()
		_ = c.wait()
	})
}

// TestGoAway refuses streams that came too late, and serves the others.
func TestGoAway(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		c, s := pair(t, w, http2.Defaults(), echo)
		if _, _, _, err := c.do("/", "x"); err != nil {
			t.Fatal(err)
		}
		st := c.Open()
		body := &stream.Bytes{B: []byte("late")}
		_ = st.Request(&stream.Request{Method: "POST", Path: "/", Authority: "a", Scheme: "http", Body: body}, "")
		for s.Active() == 0 {
			w.Yield()
		}
		s.GoAway()
		for !c.Draining() {
			w.Yield()
		}
		s.GoAway()
		if n := c.Limit(); n != 0 {
			t.Error(n)
		}
		if err := c.Open().Request(&stream.Request{Method: "GET", Path: "/", Authority: "a", Scheme: "http"}, ""); !errors.Is(err, http2.ErrGoAway) {
			t.Error(err)
		}
		_, _ = st.Run(true)
		var r stream.Response
		if err := st.ReadResponse(&r); err != nil || r.Status != 200 {
			t.Error(err)
		}
		if all, _, err := stream.Collect(nil, r.Body, 100); string(all) != "late" || err != nil {
			t.Errorf("%q %v", all, err)
		}
		st.Release()
		s.Close()
		_ = c.wait()
		_ = s.wait()
	})
}

func TestKeepalive(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		o := http2.Defaults()
		o.Keepalive = http2.Keepalive{Interval: 2 * time.Millisecond, Timeout: 20 * time.Millisecond}
		c, s := pair(t, w, o, echo)
		_ = w.Sleep(60 * time.Millisecond)
		if c.done || s.done {
			t.Error("a live connection was closed")
		}
		c.over()
		_ = s.wait()
		a, b := fiber.Pipe(w)
		deaf := &end{t: t, w: w}
		deaf.Client(w, a, &o, deaf, &deaf.free)
		if err := deaf.wait(); !errors.Is(err, http2.ErrKeepalive) {
			t.Error(err)
		}
		_ = b.Close()
	})
}

// script is a peer that says whatever it wants.
type script struct {
	*xhttp2.Framer

	net fiber.Conn
	buf bytes.Buffer
	enc *hpack.Encoder
}

func (p *script) head(fields ...string) []byte {
	p.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(p.buf.Bytes())
}

func (p *script) get(id uint32, end bool) {
	_ = p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, EndStream: end, EndHeaders: true, BlockFragment: p.head(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a")})
}

func (p *script) raw(kind xhttp2.FrameType, flags xhttp2.Flags, id uint32, b []byte) {
	_ = p.WriteRawFrame(kind, flags, id, b)
}

// outcome reads until the connection ends: the code of the GOAWAY, or what became of the streams.
func (p *script) outcome() string {
	said := ""
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return said + "closed"
		}
		switch f := f.(type) {
		case *xhttp2.GoAwayFrame:
			return fmt.Sprint(said, "goaway ", f.ErrCode)
		case *xhttp2.RSTStreamFrame:
			said += fmt.Sprint("rst ", f.StreamID, " ", f.ErrCode, " ")
		case *xhttp2.PingFrame:
			if f.IsAck() {
				return strings.TrimSpace(said)
			}
		}
	}
}

// TestFaults are what a client may not say, and what we answer. A PING behind it tells that the connection goes on.
func TestFaults(t *testing.T) {
	data := func(p *script, id uint32, end bool, n int) { _ = p.WriteData(id, end, make([]byte, n)) }
	for name, c := range map[string]struct {
		say  func(p *script)
		want string
	}{
		"fine":                    {func(p *script) { p.get(1, true) }, ""},
		"even id":                 {func(p *script) { p.get(2, true) }, "goaway PROTOCOL_ERROR"},
		"falling id":              {func(p *script) { p.get(5, true); p.get(3, true) }, "goaway STREAM_CLOSED"},
		"stream 0":                {func(p *script) { p.raw(0, 0, 0, []byte("x")) }, "goaway PROTOCOL_ERROR"},
		"data on idle":            {func(p *script) { data(p, 1, true, 1) }, "goaway PROTOCOL_ERROR"},
		"reset on idle":           {func(p *script) { _ = p.WriteRSTStream(1, 0) }, "goaway PROTOCOL_ERROR"},
		"update on idle":          {func(p *script) { _ = p.WriteWindowUpdate(1, 1) }, "goaway PROTOCOL_ERROR"},
		"update of 0":             {func(p *script) { p.raw(8, 0, 0, make([]byte, 4)) }, "goaway PROTOCOL_ERROR"},
		"update of 0 on a stream": {func(p *script) { p.get(1, false); p.raw(8, 0, 1, make([]byte, 4)) }, "rst 1 PROTOCOL_ERROR"},
		"window overflow":         {func(p *script) { _ = p.WriteWindowUpdate(0, 1<<31-1) }, "goaway FLOW_CONTROL_ERROR"},
		"beyond the window":       {func(p *script) { p.get(1, false); data(p, 1, false, 10000); data(p, 1, true, 10000) }, "rst 1 FLOW_CONTROL_ERROR"},
		"long frame":              {func(p *script) { p.raw(0, 0, 1, make([]byte, 16385)) }, "goaway FRAME_SIZE_ERROR"},
		"short ping":              {func(p *script) { p.raw(6, 0, 0, make([]byte, 7)) }, "goaway FRAME_SIZE_ERROR"},
		"push":                    {func(p *script) { p.raw(5, 4, 1, make([]byte, 8)) }, "goaway PROTOCOL_ERROR"},
		"unknown frame":           {func(p *script) { p.raw(99, 255, 7, []byte("x")) }, ""},
		"unknown setting":         {func(p *script) { _ = p.WriteSettings(xhttp2.Setting{ID: 77, Val: 1}) }, ""},
		"bad setting":             {func(p *script) { _ = p.WriteSettings(xhttp2.Setting{ID: 2, Val: 2}) }, "goaway PROTOCOL_ERROR"},
		"padding":                 {func(p *script) { p.get(1, false); p.raw(0, 8, 1, []byte{5, 1, 2}) }, "goaway PROTOCOL_ERROR"},
		"self-dependency":         {func(p *script) { p.raw(2, 0, 3, []byte{0, 0, 0, 3, 1}) }, "goaway PROTOCOL_ERROR"},
		"interrupted block":       {func(p *script) { p.raw(1, 0, 1, p.head(":method", "GET")); data(p, 1, true, 1) }, "goaway PROTOCOL_ERROR"},
		"lone continuation":       {func(p *script) { p.raw(9, 4, 1, p.head(":method", "GET")) }, "goaway PROTOCOL_ERROR"},
		"bad compression":         {func(p *script) { p.raw(1, 5, 1, []byte{0xff, 0xff, 0xff, 0xff, 0xff}) }, "goaway COMPRESSION_ERROR"},
		"malformed":               {func(p *script) { p.raw(1, 5, 1, p.head(":method", "GET")) }, "closed"},
		"trailers without end":    {func(p *script) { p.get(1, false); p.raw(1, 4, 1, p.head("a", "b")) }, "closed"},
		"data behind the end":     {func(p *script) { p.get(1, true); data(p, 1, true, 1) }, "rst 1 STREAM_CLOSED"},
		"long body": {func(p *script) {
			p.raw(1, 4, 1, p.head(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a", "content-length", "1"))
			data(p, 1, true, 2)
		}, "rst 1 PROTOCOL_ERROR"},
		"short body": {func(p *script) {
			p.raw(1, 4, 1, p.head(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a", "content-length", "3"))
			data(p, 1, true, 2)
		}, "rst 1 PROTOCOL_ERROR"},
		"too many streams": {func(p *script) {
			for id := uint32(1); id < 9; id += 2 {
				p.get(id, false)
			}
		}, "rst 7 REFUSED_STREAM"},
		"big head": {func(p *script) {
			b := p.head(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a", "y", strings.Repeat("y", 20000))
			p.raw(1, 1, 1, b[:10000])
			p.raw(9, 4, 1, b[10000:])
		}, "rst 1 INTERNAL_ERROR"},
		"continuations": {func(p *script) {
			p.raw(1, 1, 1, []byte{0x82})
			for range 20 {
				p.raw(9, 0, 1, []byte{0x86})
			}
		}, "goaway ENHANCE_YOUR_CALM"},
		"empty data": {func(p *script) { p.get(1, false); data(p, 1, false, 0); data(p, 1, false, 0) }, "goaway ENHANCE_YOUR_CALM"},
		"priorities": {func(p *script) {
			for range 101 {
				p.raw(2, 0, 3, []byte{0, 0, 0, 1, 1})
			}
		}, "goaway ENHANCE_YOUR_CALM"},
		"updates": {func(p *script) {
			for range 6 {
				_ = p.WriteWindowUpdate(0, 1)
			}
		}, "goaway ENHANCE_YOUR_CALM"},
		"rapid reset": {func(p *script) {
			for id := uint32(1); id < 100; id += 2 {
				p.get(id, true)
				_ = p.WriteRSTStream(id, 8)
			}
		}, "goaway INTERNAL_ERROR"},
		"many settings": {func(p *script) { p.raw(4, 0, 0, make([]byte, 6*33)) }, "goaway ENHANCE_YOUR_CALM"},
		"http/1":        {func(p *script) { _, _ = p.net.Write([]byte("GET / HTTP/1.1\r\n\r\n")) }, "goaway FRAME_SIZE_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
				o := http2.Defaults()
				o.FirstWindow, o.MaxStreams, o.HeadLimit, o.ResetBurst, o.ResetRate = 65535, 3, 8000, 20, 0
				if name == "beyond the window" {
					o.FirstWindow = 16000
				}
				a, b := fiber.Pipe(w)
				s := &end{t: t, w: w, serve: func(s *http2.Stream) { _ = w.Sleep(time.Hour) }}
				s.Server(w, b, &o, s, &s.free, nil)
				p := &script{Framer: xhttp2.NewFramer(a, a), net: a}
				p.AllowIllegalWrites, p.AllowIllegalReads = true, true
				p.enc = hpack.NewEncoder(&p.buf)
				_, _ = a.Write([]byte(http2.Preface))
				_ = p.WriteSettings()
				c.say(p)
				_ = p.WritePing(false, [8]byte{1})
				if got := p.outcome(); got != c.want {
					t.Errorf("%q, not %q", got, c.want)
				}
				_ = a.Close()
				_ = s.wait()
			})
		})
	}
}

// TestOutbound bounds what a peer can make us write while it reads nothing.
func TestOutbound(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		for _, kind := range []xhttp2.FrameType{xhttp2.FramePing, xhttp2.FrameSettings} {
			o := http2.Defaults()
			a, b := fiber.Pipe(w)
			s := &end{t: t, w: w, serve: echo}
			s.Server(w, b, &o, s, &s.free, nil)
			p := xhttp2.NewFramer(a, a)
			_, _ = a.Write([]byte(http2.Preface))
			_ = p.WriteSettings()
			payload := []byte(nil)
			if kind == xhttp2.FramePing {
				payload = make([]byte, 8)
			}
			for range 1 << 20 {
				if p.WriteRawFrame(kind, 0, 0, payload) != nil || o.Stats.ControlFlood.Value() > 0 {
					break
				}
			}
			if o.Stats.ControlFlood.Value() != 1 {
				t.Error("not noticed")
			}
			_ = a.Close()
			_ = s.wait()
		}
	})
}

func TestSteadyAllocations(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		n, c := steady(t, w)
		for range 10 {
			n()
		}
		if got := testing.AllocsPerRun(200, n); got > 0.5 {
			t.Errorf("%v allocations", got)
		}
		c()
	})
}

// steady returns an exchange that costs as little as it can.
func steady(t *testing.T, w *fiber.Worker) (once, over func()) {
	var q stream.Request
	answer := stream.Response{Status: 200}
	answer.Header.Add("content-type", "text/plain")
	body := stream.Bytes{B: []byte("hello")}
	c, s := pair(t, w, http2.Defaults(), func(s *http2.Stream) {
		_, _ = s.ReadRequest(&q)
		body.Rewind()
		answer.Body = &body
		_ = s.Respond(&answer, false)
		_, _ = s.Run(true)
	})
	ask := stream.Request{Method: "GET", Path: "/path", Authority: "a", Scheme: "http"}
	for i := range 8 {
		ask.Header.Add(fmt.Sprint("x-", i), "value")
	}
	var r stream.Response
	return func() {
		st := c.Open()
		_ = st.Request(&ask, "")
		_, _ = st.Run(true)
		if err := st.ReadResponse(&r); err != nil {
			t.Error(err)
			return
		}
		for {
			if _, err := r.Body.Next(true); err != nil {
				break
			}
		}
		st.Release()
	}, func() { c.over(); _ = s.wait() }
}

func BenchmarkExchange(b *testing.B) {
	w, _ := fiber.New(0)
	w.Go(func() {
		once, over := steady(&testing.T{}, w)
		for b.Loop() {
			once()
		}
		over()
		w.Stop()
	})
	w.Run()
}

// FuzzServer gives a server whatever comes: it must end, with nothing left.
func FuzzServer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 0})
	f.Add([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		w, err := fiber.New(0)
		if err != nil {
			t.Fatal(err)
		}
		fibertest.Serve(t, w, func() {
			a, b := fiber.Pipe(w)
			o := http2.Defaults()
			o.Linger = 0
			s := &end{t: t, w: w, serve: echo}
			s.Server(w, b, &o, s, &s.free, nil)
			var drain fiber.Task
			drain.Start(w, func() {
				buf := make([]byte, 4096)
				for {
					if _, err := a.Read(buf); err != nil {
						return
					}
				}
			})
			_, _ = a.Write([]byte(http2.Preface))
			_, _ = a.Write(in)
			_ = a.CloseWrite()
			_ = s.wait()
			_ = drain.Wait(w)
			_ = a.Close()
			for s.Active() > 0 {
				w.Yield()
			}
		})
		if n := w.Buffers.Lent() + w.Bulk.Lent(); n != 0 {
			t.Errorf("%d buffers left", n)
		}
	})
}
