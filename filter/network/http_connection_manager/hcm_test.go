package hcm_test

import (
	"net"
	"net/netip"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &hcmv3.HttpConnectionManager{}, &hcmv3.LocalReplyConfig{}, &hcmv3.ResponseMapper{}, &hcmv3.HttpFilter{},
		&hcmv3.RequestIDExtension{}, &hcmv3.ForwardProtoConfig{})
}

var varying = regexp.MustCompile(`(?m)^(date|x-request-id|x-envoy-upstream-service-time): .*\r\n`)

func plain(s string) string { return varying.ReplaceAllString(s, "") }

func TestAnswers(t *testing.T) {
	for _, c := range []struct{ name, extra, request, want string }{
		{
			"direct response", "", "GET /direct HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
			"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\nserver: envoy\r\nconnection: close\r\n\r\nhello",
		},
		{
			"redirect", "", "GET /moved HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
			"HTTP/1.1 301 Moved Permanently\r\nlocation: http://a/there\r\nserver: envoy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
		},
		{
			"HEAD has no body", "", "HEAD /direct HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
			"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\nserver: envoy\r\nconnection: close\r\n\r\n",
		},
		{
			"nonsense", "delayed_close_timeout: 0.01s", "BAD\r\n\r\n",
			"HTTP/1.1 400 Bad Request\r\ncontent-length: 11\r\ncontent-type: text/plain\r\nserver: envoy\r\nconnection: close\r\n\r\nBad Request",
		},
		{
			"no host", "", "GET / HTTP/1.1\r\nconnection: close\r\n\r\n",
			"HTTP/1.1 400 Bad Request\r\nserver: envoy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
		},
		{
			"a fragment in the path", "", "GET /a#b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
			"HTTP/1.1 400 Bad Request\r\nserver: envoy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
		},
		{
			"server name", "server_name: me", "GET /direct HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
			"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\nserver: me\r\nconnection: close\r\n\r\nhello",
		},
		{
			"one request per connection", "common_http_protocol_options: {max_requests_per_connection: 1}", "GET /direct HTTP/1.1\r\nhost: a\r\n\r\n",
			"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\nserver: envoy\r\nconnection: close\r\n\r\nhello",
		},
		{
			"gRPC gets a gRPC reply", "", "POST /direct HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
			"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 2\r\ngrpc-message: hello\r\nserver: envoy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
		},
		{
			"normalised path", "normalize_path: true", "GET /x/../direct HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
			"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\nserver: envoy\r\nconnection: close\r\n\r\nhello",
		},
		{
			"escaped slash redirected", "path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT", "GET /a%2Fb HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
			"HTTP/1.1 307 Temporary Redirect\r\nlocation: /a/b\r\nserver: envoy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
		},
		{
			"QUERY that does not say what its body is", "delayed_close_timeout: 0.01s", "QUERY /direct HTTP/1.1\r\nhost: a\r\n\r\n",
			"HTTP/1.1 400 Bad Request\r\nserver: envoy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
		},
		{
			"a 400 of our own that keeps the connection", "stream_error_on_invalid_http_message: true",
			"GET /a#b HTTP/1.1\r\nhost: a\r\n\r\nHEAD /direct HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
			"HTTP/1.1 400 Bad Request\r\nserver: envoy\r\ncontent-length: 0\r\n\r\n" +
				"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\nserver: envoy\r\nconnection: close\r\n\r\n",
		},
		{
			"100-continue without a body", "", "HEAD /direct HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
			"HTTP/1.1 100 Continue\r\n\r\n" +
				"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\nserver: envoy\r\nconnection: close\r\n\r\n",
		},
		{
			"pipelined", "", "GET /direct HTTP/1.1\r\nhost: a\r\n\r\nGET /direct HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
			"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\nserver: envoy\r\n\r\nhello" +
				"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\nserver: envoy\r\nconnection: close\r\n\r\nhello",
		},
	} {
		for engine, start := range engines {
			t.Run(c.name+"/"+engine, func(t *testing.T) {
				h := newHouse(t, start, routes+c.extra, "127.0.0.1:1")
				if got := plain(h.talk(c.request, 0)); got != c.want {
					t.Errorf("got\n%q, want\n%q", got, c.want)
				}
			})
		}
	}
}

const ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

func TestUpstream(t *testing.T) {
	for _, c := range []struct {
		name, request, want string
		script              func(n int, head string) string
	}{
		{
			"answers", "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "HTTP/1.1 200 OK",
			func(int, string) string { return ok },
		},
		{
			"is told", "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "x-seen: yes",
			func(_ int, head string) string {
				if strings.Contains(head, "x-envoy-expected-rq-timeout-ms: 15000") && strings.Contains(head, "x-forwarded-proto: http\r\n") {
					return "HTTP/1.1 200 OK\r\nx-seen: yes\r\ncontent-length: 0\r\n\r\n"
				}
				return ok
			},
		},
		{
			"is asked again", "GET /retry HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "HTTP/1.1 200 OK",
			func(n int, _ string) string {
				if n == 0 {
					return "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"
				}
				return ok
			},
		},
		{
			"hangs up", "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "reset reason: connection termination",
			func(int, string) string { return "" },
		},
		{
			"talks nonsense", "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "HTTP/1.1 502 Bad Gateway",
			func(int, string) string { return "nonsense\r\n\r\n" },
		},
		{
			"gets a body", "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc", "HTTP/1.1 200 OK",
			func(_ int, head string) string {
				if strings.HasSuffix(head, "abc") {
					return ok
				}
				return "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"
			},
		},
	} {
		for engine, start := range engines {
			t.Run(c.name+"/"+engine, func(t *testing.T) {
				h := newHouse(t, start, routes, upstream(t, c.script))
				if got := h.talk(c.request, 0); !strings.Contains(got, c.want) {
					t.Errorf("got\n%q, want %q in it", got, c.want)
				}
			})
		}
	}
}

func TestRouteTimeout(t *testing.T) {
	for engine, start := range engines {
		t.Run(engine, func(t *testing.T) {
			release := newGate(t)
			h := newHouse(t, start, routes, upstream(t, func(int, string) string { <-release; return "" }))
			got := h.talk("GET /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 0)
			if !strings.HasPrefix(got, "HTTP/1.1 504 Gateway Timeout\r\n") || !strings.HasSuffix(got, "upstream request timeout") {
				t.Errorf("got %q", got)
			}
		})
	}
}

// newGate is closed when the test ends.
func newGate(t *testing.T) chan struct{} {
	c := make(chan struct{})
	t.Cleanup(func() { close(c) })
	return c
}

func TestHeadersTimeout(t *testing.T) {
	for engine, start := range engines {
		t.Run(engine, func(t *testing.T) {
			h := newHouse(t, start, routes+"request_headers_timeout: 0.02s\ndelayed_close_timeout: 0.01s\n", "127.0.0.1:1")
			if got := h.talk("GET /x HT", 0); !strings.HasPrefix(got, "HTTP/1.1 408 Request Timeout\r\n") {
				t.Errorf("got %q", got)
			}
		})
	}
}

// A bug panics where it is told to, and counts ends.
type bug struct {
	in   string
	ends int
}

func (b *bug) OnRequest(*filter.Stream) filter.Status {
	if b.in == "request" {
		panic("bug")
	}
	return filter.Continue
}

func (b *bug) OnResponse(*filter.Stream) filter.Status {
	if b.in == "response" {
		panic("bug")
	}
	return filter.Continue
}

func (b *bug) OnEnd(*filter.Stream) { b.ends++ }

func TestPanicTakesOneStream(t *testing.T) {
	for _, in := range []string{"request", "response"} {
		for engine, start := range engines {
			t.Run(in+"/"+engine, func(t *testing.T) {
				b := &bug{in: in}
				h := newHouse(t, start, routes, "127.0.0.1:1", b)
				got := h.talk("GET /direct HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 0)
				if !strings.HasPrefix(got, "HTTP/1.1 500 Internal Server Error\r\n") {
					t.Errorf("got %q", got)
				}
				if h.panics != 1 || b.ends != 1 {
					t.Errorf("%d panics, %d ends", h.panics, b.ends)
				}
			})
		}
	}
}

// pass is a filter with all hooks.
type pass struct{}

func (p *pass) OnRequest(*filter.Stream) filter.Status  { return filter.Continue }
func (p *pass) OnResponse(*filter.Stream) filter.Status { return filter.Continue }
func (p *pass) OnEnd(*filter.Stream)                    {}

func TestNoAllocationPerRequest(t *testing.T) {
	h := newHouse(t, fiber.New, routes, steady(t), &pass{}, &pass{}, &pass{})
	const rounds = 2000
	result := make(chan uint64)
	h.w.Post(func() {
		a, b := fiber.Pipe(h.w)
		h.open(b)
		h.w.Go(func() {
			defer a.Close()
			request, buffer := []byte("GET /x HTTP/1.1\r\nhost: a\r\nuser-agent: test\r\n\r\n"), make([]byte, 4096)
			var before, after runtime.MemStats
			for i := range rounds {
				if i == rounds/2 {
					runtime.ReadMemStats(&before)
				}
				if _, err := a.Write(request); err != nil {
					break
				}
				for got := 0; got < 2 || buffer[got-1] != 'k'; {
					n, err := a.Read(buffer[got:])
					if got += n; err != nil {
						break
					}
				}
			}
			runtime.ReadMemStats(&after)
			result <- after.Mallocs - before.Mallocs
		})
	})
	if n := <-result; n > 50 { // the runtime's own
		t.Errorf("%d allocations in %d requests", n, rounds/2)
	}
}

func TestIdleConnectionIsSmall(t *testing.T) {
	h := newHouse(t, fiber.New, routes, "127.0.0.1:1")
	live := make(chan int)
	got := make(chan string)
	h.w.Post(func() {
		a, b := fiber.Pipe(h.w)
		h.open(b)
		h.w.Go(func() { got <- exchange(h.w, a, "GET /direct HTTP/1.1\r\nhost: a\r\n\r\n", 100) })
	})
	<-got
	deadline := time.Now().Add(5 * time.Second)
	for n := -1; n != 0 && time.Now().Before(deadline); {
		h.w.Post(func() { live <- h.w.Live() })
		n = <-live
		if n == 0 {
			return
		}
	}
	t.Error("an idle connection holds a fiber")
}

// A connection that comes after a long silence has all of its idle time before it, as its limit counts from the moment it came.
func TestIdleTimeoutCountsFromTheConnection(t *testing.T) {
	h := newHouse(t, fiber.New, routes+"common_http_protocol_options: {idle_timeout: 0.2s}\n", "127.0.0.1:1")
	accepted := make(chan fiber.Time, 1)
	l, err := fiber.Bind(fiber.ListenConfig{Address: stream.Address{AddrPort: netip.MustParseAddrPort("127.0.0.1:0")}, Backlog: 8})
	if err != nil {
		t.Fatal(err)
	}
	h.w.Post(func() {
		_, err = h.w.Accept(l, fiber.AcceptOptions{}, func(c fiber.Conn) { accepted <- h.w.Now(); h.open(c) })
	})
	time.AfterFunc(300*time.Millisecond, func() { // nothing wakes the worker before
		if c, err := net.Dial("tcp", l.Address().AddrPort.String()); err == nil {
			t.Cleanup(func() { c.Close() })
		}
	})
	if at := <-accepted; at < fiber.Time(300*time.Millisecond) {
		t.Errorf("the clock stood at %v when the connection came", time.Duration(at))
	}
}
