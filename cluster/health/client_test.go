package health

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// serveHTTP2 serves HTTP/2 without TLS until the test ends, and counts connections.
func serveHTTP2(t *testing.T, h http.HandlerFunc) (to stream.Address, conns func() int, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	n := 0
	s := &http.Server{Handler: h, Protocols: &http.Protocols{}, ReadHeaderTimeout: time.Minute, ConnState: func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			mu.Lock()
			defer mu.Unlock()
			n++
		}
	}}
	s.Protocols.SetUnencryptedHTTP2(true)
	go s.Serve(l) // ends with Close
	return stream.Address{AddrPort: l.Addr().(*net.TCPAddr).AddrPort()}, func() int { mu.Lock(); defer mu.Unlock(); return n }, func() { s.Close() }
}

func TestHTTP2(t *testing.T) {
	for _, c := range []struct {
		config string
		status int
		want   string
		conns  int
	}{
		{"http_health_check: {path: /healthz, codec_client_type: HTTP2, receive: [{text: '6f6b'}]}", 200, "healthy GET /healthz HTTP/2.0 c Envoy/HC", 1},
		{"http_health_check: {path: /, codec_client_type: HTTP2}, reuse_connection: false", 200, "healthy GET / HTTP/2.0 c Envoy/HC", 3},
		{"http_health_check: {path: /, codec_client_type: HTTP2}", 500, "/failed_active_hc GET / HTTP/2.0 c Envoy/HC", 1},
	} {
		fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
			var mu sync.Mutex
			var got string
			to, conns, stop := serveHTTP2(t, func(a http.ResponseWriter, q *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				got = fmt.Sprint(q.Method, " ", q.RequestURI, " ", q.Proto, " ", q.Host, " ", q.UserAgent())
				a.WriteHeader(c.status)
				io.WriteString(a, "-ok-")
			})
			defer stop()
			r := newRig(t, c.config, w)
			r.to = to
			for range 3 {
				r.check()
			}
			mu.Lock()
			if s := r.flags.String() + " " + got; s != c.want || conns() != c.conns {
				t.Errorf("%s\n got %s, %d connections\nwant %s, %d", c.config, s, conns(), c.want, c.conns)
			}
			mu.Unlock()
			r.s.Close()
			_ = w.Sleep(time.Millisecond) // the session closes its connection
		})
	}
}

func TestGRPC(t *testing.T) {
	serving, not := "\x00\x00\x00\x00\x02\x08\x01", "\x00\x00\x00\x00\x02\x08\x02"
	for _, c := range []struct {
		name, body, status string
		code               int
		contentType        string
		passed             bool
	}{
		{"serving", serving, "0", 200, "application/grpc", true},
		{"with a subtype", serving, "0", 200, "application/grpc+proto", true},
		{"not serving", not, "0", 200, "application/grpc", false},
		{"an unknown field", "\x00\x00\x00\x00\x05\x12\x01x\x08\x01", "0", 200, "application/grpc", true},
		{"no status in it", "\x00\x00\x00\x00\x00", "0", 200, "application/grpc", false},
		{"two messages", serving + serving, "0", 200, "application/grpc", false},
		{"compressed", "\x01\x00\x00\x00\x02\x08\x01", "0", 200, "application/grpc", false},
		{"cut off", "\x00\x00\x00\x00\x03\x08\x01", "0", 200, "application/grpc", false},
		{"no message", "", "0", 200, "application/grpc", false},
		{"unimplemented", "", "12", 200, "application/grpc", false},
		{"an error after the answer", serving, "13", 200, "application/grpc", false},
		{"no status", serving, "", 200, "application/grpc", false},
		{"another content type", serving, "0", 200, "text/plain", false},
		{"another status", serving, "0", 503, "application/grpc", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
				var mu sync.Mutex
				var got string
				to, _, stop := serveHTTP2(t, func(a http.ResponseWriter, q *http.Request) {
					b, _ := io.ReadAll(q.Body)
					mu.Lock()
					got = fmt.Sprint(q.Method, q.RequestURI, " ", q.Host, " ", q.Header.Get("Content-Type"), " ", q.Header.Get("TE"), " ", q.Header.Get("Grpc-Timeout"), " ", q.Header.Get("X-A"), " ", q.UserAgent()) + fmt.Sprintf(" %q", b)
					mu.Unlock()
					a.Header().Set("Content-Type", c.contentType)
					a.WriteHeader(c.code)
					io.WriteString(a, c.body)
					if c.status != "" {
						a.Header().Set(http.TrailerPrefix+"grpc-status", c.status)
					}
				})
				defer stop()
				r := newRig(t, "grpc_health_check: {service_name: s, authority: own, initial_metadata: [{header: {key: x-a, value: '%PROTOCOL%'}}]}", w)
				r.to = to
				if v := r.check(); v.Passed != c.passed {
					t.Errorf("%+v", v)
				}
				r.s.Close()
				_ = w.Sleep(time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				if want := `POST/grpc.health.v1.Health/Check own application/grpc trailers 5000m HTTP/2 Envoy/HC "\x00\x00\x00\x00\x03\n\x01s"`; got != want {
					t.Errorf("\n got %s\nwant %s", got, want)
				}
			})
		})
	}
}

// TestGRPCIsAnsweredByNobody has the host end the connection instead of answering: that is the network's fault.
func TestGRPCIsAnsweredByNobody(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		to, stop := serve(t, func(c net.Conn) { c.Close() })
		defer stop()
		r := newRig(t, "grpc_health_check: {}", w)
		r.to = to
		if v := r.check(); v.Passed || r.c.stats.NetworkFailure.Value() != 1 {
			t.Errorf("%+v", v)
		}
		r.s.Close()
	})
}

func FuzzServingStatus(f *testing.F) {
	f.Add([]byte("\x08\x01"))
	f.Add([]byte("\x12\x01x\x08\x02"))
	f.Fuzz(func(_ *testing.T, m []byte) { servingStatus(m) })
}
