package http2_test

import (
	"errors"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// TestWindow lets a stream that is read as fast as it comes send more and more at a time where the way is long, and one that nobody reads
// no more than at first.
func TestWindow(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		for _, read := range []bool{true, false} {
			o := http2.Defaults()
			a, b := fiber.Pipe(w)
			s := &end{t: t, w: w, serve: func(s *http2.Stream) {
				var q stream.Request
				_, err := s.ReadRequest(&q)
				var never fiber.Cond
				for err == nil && !read {
					err = never.Wait(w)
				}
				for err == nil {
					_, err = q.Body.Next(true)
				}
			}}
			s.Server(w, b, &o, s, &s.free, nil)
			p := &script{Framer: xhttp2.NewFramer(a, a), net: a}
			p.enc = hpack.NewEncoder(&p.buf)
			_, _ = a.Write([]byte(http2.Preface))
			_ = p.WriteSettings()
			_ = w.Sleep(50 * time.Millisecond)
			_ = p.WriteSettingsAck()
			p.get(1, false)
			window, sent := uint32(64<<10), uint32(0)
			for sent < 8<<20 && window > 0 {
				n := min(window, 16<<10)
				_ = p.WriteData(1, false, make([]byte, n))
				_ = p.WritePing(false, [8]byte{1})
				sent += n
				window += p.updates(1) - n
			}
			if most := sent + window; read && window < 2<<20 || !read && most != 64<<10 {
				t.Errorf("read: %v: %d bytes sent, %d more may be", read, sent, window)
			}
			_ = a.Close()
			_ = s.wait()
		}
	})
}

// updates is what a stream may send more, up to the answer to a PING.
func (p *script) updates(id uint32) (n uint32) {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return 0
		}
		switch f := f.(type) {
		case *xhttp2.WindowUpdateFrame:
			if f.StreamID == id {
				n += f.Increment
			}
		case *xhttp2.PingFrame:
			return n
		}
	}
}

// TestTunnelLeft ends a stream while somebody writes to its tunnel: the writer is told, and the next stream is none of its business.
func TestTunnelLeft(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		o := http2.Defaults()
		o.FirstWindow = 65535
		var writer fiber.Task
		var result error
		wrote := false
		c, s := pair(t, w, o, func(s *http2.Stream) {
			var q stream.Request
			_, _ = s.ReadRequest(&q)
			s.Hold()
			_ = s.Respond(&stream.Response{Status: 200}, false)
			if q.Path == "/tunnel" {
				n := s.Tunnel()
				writer.Start(w, func() {
					_, result = n.Write(make([]byte, 1<<20))
					wrote = true
				})
				w.Yield()
			}
		})
		for _, path := range []string{"/tunnel", "/"} {
			st := c.Open()
			_ = st.Request(&stream.Request{Method: "GET", Path: path, Authority: "a", Scheme: "http"}, "")
			var r stream.Response
			if err := st.ReadResponse(&r); err != nil || r.Status != 200 {
				t.Errorf("%s: %d %v", path, r.Status, err)
			}
			st.Release()
		}
		_ = writer.Wait(w)
		var reset *http2.Reset
		if !wrote || !errors.As(result, &reset) {
			t.Errorf("%v %v", wrote, result)
		}
		c.over()
		_ = s.wait()
	})
}

// TestRefusedResponses are heads that no client may see: what is wrong with them is the answer.
func TestRefusedResponses(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		for name, c := range map[string]struct {
			fields []string
			end    bool
		}{
			"connection": {[]string{":status", "200", "connection", "close"}, true}, "line feed": {[]string{":status", "200", "x", "a\nb"}, true},
			"no status": {[]string{"x", "1"}, true}, "switching": {[]string{":status", "101"}, false}, "two": {[]string{":status", "200", ":status", "200"}, true},
			"promised": {[]string{":status", "200", "content-length", "5"}, true}, "length": {[]string{":status", "200", "content-length", "x"}, false},
		} {
			a, b := fiber.Pipe(w)
			o := http2.UpstreamDefaults()
			e := &end{t: t, w: w}
			e.Client(w, a, &o, e, &e.free)
			s := e.Open()
			_ = s.Request(&stream.Request{Method: "GET", Path: "/", Authority: "a", Scheme: "http"}, "")
			p := &script{Framer: xhttp2.NewFramer(b, b), net: b}
			p.enc = hpack.NewEncoder(&p.buf)
			_ = p.WriteSettings()
			_ = p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndStream: c.end, EndHeaders: true, BlockFragment: p.head(c.fields...)})
			var r stream.Response
			var bad *http2.Error
			if err := s.ReadResponse(&r); !errors.As(err, &bad) {
				t.Errorf("%s: %d %v", name, r.Status, err)
			}
			s.Release()
			_ = b.Close()
			_ = e.wait()
		}
	})
}
