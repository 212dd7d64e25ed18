package health

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// serve accepts connections until the test ends.
func serve(t *testing.T, f func(c net.Conn)) (stream.Address, func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []net.Conn
	go func() { // ends when the listener is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
			go f(c) // ends with the connection
		}
	}()
	return stream.Address{AddrPort: l.Addr().(*net.TCPAddr).AddrPort()}, func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range all {
			c.Close()
		}
	}
}

func TestHTTP(t *testing.T) {
	for _, c := range []struct {
		name, config, answer string
		want                 string // of the flags, and of the request
	}{
		{"passes", "path: /healthz", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "healthy|GET /healthz HTTP/1.1|c||"},
		{"fails", "path: /, host: h", "HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n", "/failed_active_hc|GET / HTTP/1.1|h||"},
		{"another status", "path: /, expected_statuses: [{start: 300, end: 400}]", "HTTP/1.1 302 x\r\ncontent-length: 0\r\n\r\n", "healthy|GET / HTTP/1.1|c||"},
		{"interim responses are passed over", "path: /", "HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n", "healthy|GET / HTTP/1.1|c||"},
		{"degraded", "path: /", "HTTP/1.1 200 x\r\ncontent-length: 0\r\nx-envoy-degraded: 1\r\n\r\n", "/degraded_active_hc|GET / HTTP/1.1|c||"},
		{"excluded", "path: /", "HTTP/1.1 503 x\r\ncontent-length: 0\r\nx-envoy-immediate-health-check-fail: 1\r\n\r\n", "/failed_active_hc/excluded_via_immediate_hc_fail|GET / HTTP/1.1|c||"},
		{"a body", "path: /, method: POST, send: {text: '6869'}, request_headers_to_add: [{header: {key: x, value: '%UPSTREAM_METADATA([\"envoy.lb\", \"v\"])%'}}]", "HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n", "healthy|POST / HTTP/1.1|c|1|hi"},
		{"the answer holds it", "path: /, receive: [{text: '6f'}, {binary: aw==}]", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n-ok-", "healthy|GET / HTTP/1.1|c||"},
		{"in its order", "path: /, receive: [{text: '6b'}, {text: '6f'}]", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n-ok-", "/failed_active_hc|GET / HTTP/1.1|c||"},
		{"too late in the body", "path: /, response_buffer_size: 2, receive: [{text: '6b'}]", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n-ok-", "/failed_active_hc|GET / HTTP/1.1|c||"},
		{"the right service", "path: /, service_name_matcher: {prefix: loc}", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-envoy-upstream-healthchecked-cluster: locations\r\n\r\n", "healthy|GET / HTTP/1.1|c||"},
		{"the wrong service", "path: /, service_name_matcher: {prefix: loc}", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "/failed_active_hc|GET / HTTP/1.1|c||"},
		{"no HTTP", "path: /", "+PONG\r\n\r\n", "/failed_active_hc|GET / HTTP/1.1|c||"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
				var got string
				var mu sync.Mutex
				to, stop := serve(t, func(n net.Conn) {
					b := bufio.NewReader(n)
					for {
						q, err := http.ReadRequest(b)
						if err != nil {
							return
						}
						body, _ := io.ReadAll(q.Body)
						mu.Lock()
						got = fmt.Sprintf("%s %s %s|%s|%s|%s", q.Method, q.RequestURI, q.Proto, q.Host, q.Header.Get("X"), body)
						if q.UserAgent() != "Envoy/HC" {
							got += " of a stranger"
						}
						mu.Unlock()
						io.WriteString(n, c.answer)
					}
				})
				defer stop()
				r := newRig(t, "http_health_check: {"+c.config+"}", w)
				r.to = to
				r.check()
				r.s.Close()
				mu.Lock()
				defer mu.Unlock()
				if s := r.flags.String() + "|" + got; s != c.want {
					t.Errorf("\n got %s\nwant %s", s, c.want)
				}
			})
		})
	}
}

// TestReuse counts the connections of three checks.
func TestReuse(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n"
	for _, c := range []struct {
		config, answer string
		conns          int
	}{
		{"http_health_check: {path: /}", ok + "\r\n", 1},
		{"http_health_check: {path: /}", ok + "connection: close\r\n\r\n", 3},
		{"http_health_check: {path: /}, reuse_connection: false", ok + "\r\n", 3},
		{"tcp_health_check: {}", "", 3},
		{"tcp_health_check: {send: {text: '6869'}, receive: [{text: '6869'}]}", "echo", 1},
		{"tcp_health_check: {send: {text: '6869'}, receive: [{text: '6869'}]}, reuse_connection: false", "echo", 3},
	} {
		fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
			var mu sync.Mutex
			conns := 0
			to, stop := serve(t, func(n net.Conn) {
				mu.Lock()
				conns++
				mu.Unlock()
				if c.answer == "echo" {
					io.Copy(n, n)
					return
				}
				b := bufio.NewReader(n)
				for {
					if _, err := http.ReadRequest(b); err != nil {
						return
					}
					io.WriteString(n, c.answer)
				}
			})
			defer stop()
			r := newRig(t, c.config, w)
			r.to = to
			for i := range 3 {
				if v := r.check(); !v.Passed || v.First != (i == 0) {
					t.Errorf("check %d: %+v", i, v)
				}
			}
			r.s.Close()
			for range 1000 { // the last of them may not have been accepted yet
				mu.Lock()
				n := conns
				mu.Unlock()
				if n == c.conns {
					return
				}
				if err := w.Sleep(time.Millisecond); err != nil {
					t.Fatal(err)
				}
			}
			t.Errorf("%s: %d connections, want %d", c.config, conns, c.conns)
		})
	}
}

func TestTCP(t *testing.T) {
	for _, c := range []struct {
		config string
		want   string // what the host gets
		passed bool
	}{
		{"send: {text: '6869'}, receive: [{text: '6f6b'}]", "hi", true},
		{"send: {binary: aGk=}, receive: [{text: '6e6f'}]", "hi", false},
		{"proxy_protocol_config: {version: V2}, receive: [{text: '6f6b'}]", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", true},
		{"proxy_protocol_config: {version: V1}, receive: [{text: '6f6b'}]", "PROXY TCP4 127.0.0.1 127.0.0.1 ", true},
	} {
		fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
			got := make(chan string, 1)
			to, stop := serve(t, func(n net.Conn) {
				b := make([]byte, 100)
				k, _ := n.Read(b)
				got <- string(b[:k])
				io.WriteString(n, "-ok-")
				n.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, n)
			})
			defer stop()
			r := newRig(t, "tcp_health_check: {"+c.config+"}", w)
			r.to = to
			if v := r.check(); v.Passed != c.passed {
				t.Errorf("%s: %+v", c.config, v)
			}
			r.s.Close()
			if s := <-got; !strings.HasPrefix(s, c.want) {
				t.Errorf("%s: the host got %q", c.config, s)
			}
		})
	}
}

// TestIdleEnd closes a TCP connection between two checks, which is a failure too.
func TestIdleEnd(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		over := make(chan struct{})
		to, stop := serve(t, func(n net.Conn) {
			b := make([]byte, 10)
			k, _ := n.Read(b)
			n.Write(b[:k])
			<-over
			n.Close()
		})
		defer stop()
		r := newRig(t, "tcp_health_check: {send: {text: '6869'}, receive: [{text: '6869'}]}", w)
		r.to = to
		if v := r.check(); !v.Passed {
			t.Error("not passed")
		}
		close(over)
		for range 5000 {
			r.mu.Lock()
			n := len(r.posted)
			r.mu.Unlock()
			if n > 0 {
				break
			}
			if err := w.Sleep(time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		r.posted[0]()
		if v := <-r.results; v.Passed || r.c.stats.NetworkFailure.Value() != 1 {
			t.Errorf("%+v", v)
		}
		r.s.Close()
	})
}

func TestTimeout(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		to, stop := serve(t, func(n net.Conn) { io.Copy(io.Discard, n) })
		defer stop()
		r := newRig(t, "http_health_check: {path: /}", w)
		r.c.config.timeout = 20 * time.Millisecond
		r.to = to
		if v := r.check(); v.Passed || r.flags != FailedActive|ActiveTimeout {
			t.Errorf("%+v %v", v, r.flags)
		}
		r.s.begin()
		r.s.Close() // in the middle of a check
	})
}

func TestNobodyThere(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		to, stop := serve(t, func(net.Conn) {})
		stop()
		for _, config := range []string{"http_health_check: {path: /}", "tcp_health_check: {}"} {
			r := newRig(t, config, w)
			r.to = to
			if v := r.check(); v.Passed || r.flags != FailedActive || r.c.stats.NetworkFailure.Value() != 1 {
				t.Errorf("%s: %+v %v", config, v, r.flags)
			}
			r.s.Close()
		}
	})
}

func FuzzPayload(f *testing.F) {
	f.Add("00ff", []byte("abc"), []byte("b"), []byte("c"))
	f.Fuzz(func(t *testing.T, text string, b, first, second []byte) {
		if p, err := payload(&corev3.HealthCheck_Payload{Payload: &corev3.HealthCheck_Payload_Text{Text: text}}); err == nil && fmt.Sprintf("%x", p) != strings.ToLower(text) {
			t.Errorf("%q is read as %x", text, p)
		}
		if contains(b, [][]byte{first, second}) && len(b) < len(first)+len(second) {
			t.Error("the parts overlap")
		}
	})
}
