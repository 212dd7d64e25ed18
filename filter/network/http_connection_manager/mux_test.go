package hcm_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

const muxed = `
stat_prefix: test
delayed_close_timeout: 0.01s
http2_protocol_options: {allow_connect: true}
upgrade_configs: [{upgrade_type: websocket}]
route_config:
  virtual_hosts:
  - name: v
    domains: ['*']
    routes:
    - match: {path: /direct}
      direct_response: {status: 201, body: {inline_string: made}}
    - match: {path: /short}
      route: {cluster: up, timeout: 0.05s}
    - match: {prefix: /}
      route: {cluster: up}
`

// client is the other end of a connection to a house.
type client struct {
	http2.Conn

	w     *fiber.Worker
	free  http2.Streams
	o     http2.Options
	ended fiber.Cond
	done  bool
}

func (c *client) Serve(*http2.Stream) {}
func (c *client) Changed()            {}
func (c *client) Closed(error)        { c.done = true; c.ended.Broadcast() }

// multiplexed runs f on a fiber with a client that speaks HTTP/2 to h, and waits for the end of the connection.
func (h *house) multiplexed(f func(c *client)) {
	h.t.Helper()
	over := make(chan struct{})
	h.w.Post(func() {
		a, b := fiber.Pipe(h.w)
		h.open(b).Ended = func() { close(over) }
		h.w.Go(func() {
			c := &client{w: h.w, o: http2.UpstreamDefaults()}
			c.Client(h.w, a, &c.o, c, &c.free)
			f(c)
			c.Close()
			for !c.done {
				_ = c.ended.Wait(h.w)
			}
		})
	})
	<-over
}

// do makes an exchange and says what came of it.
func (c *client) do(method, path, body string) string {
	q := stream.Request{Method: method, Path: path, Authority: "a", Scheme: "http"}
	if body != "" {
		q.Body = &stream.Bytes{B: []byte(body)}
	}
	s := c.Open()
	defer s.Release()
	if err := s.Request(&q, ""); err != nil {
		return err.Error()
	}
	_, _ = s.Run(true)
	var r stream.Response
	if err := s.ReadResponse(&r); err != nil {
		return err.Error()
	}
	all, _, err := stream.Collect(nil, r.Body, 1<<20)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(r.Status, " ", string(all))
}

// host answers over HTTP/1 with what it was asked.
func host(_ int, head string) string {
	line, _, _ := strings.Cut(head, "\r\n")
	switch {
	case strings.Contains(line, "/die"):
		return ""
	case strings.Contains(line, "/short"):
		return "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"
	case strings.Contains(head, "upgrade: websocket"):
		return "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\nwelcome"
	}
	return fmt.Sprintf("HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", len(line), line)
}

func TestMux(t *testing.T) {
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, engine, muxed, upstream(t, host))
			h.multiplexed(func(c *client) {
				for _, x := range [][3]string{
					{"GET", "/a", "200 GET /a HTTP/1.1"},
					{"GET", "/direct", "201 made"},
					{"HEAD", "/direct", "201 "},
					{"OPTIONS", "*", "404 "},
					{"GET", "/die", "503 upstream connect error or disconnect/reset before headers. reset reason: connection termination"},
				} {
					if got := c.do(x[0], x[1], ""); got != x[2] {
						t.Errorf("%s %s: %q", x[0], x[1], got)
					}
				}
			})
			h.wants(map[string]uint64{
				"http.test.downstream_cx_http2_total": 1, "http.test.downstream_rq_http2_total": 5, "http.test.downstream_cx_http1_total": 0,
				"http.test.downstream_cx_http2_active": 0, "http.test.downstream_rq_active": 0, "http.test.downstream_cx_destroy_remote": 1,
			})
		})
	}
}

// TestMuxMalformed sends a head that is none: the connection ends, and the stream is counted.
func TestMuxMalformed(t *testing.T) {
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, engine, muxed, upstream(t, host))
			h.multiplexed(func(c *client) {
				if got := c.do("GET", "abc", ""); got != "http2: the connection ended" {
					t.Error(got)
				}
			})
			h.wants(map[string]uint64{
				"http.test.downstream_cx_protocol_error": 1, "http.test.downstream_rq_total": 1, "http.test.downstream_rq_active": 0,
				"http.test.downstream_rq_rx_reset": 1, "http.test.downstream_rq_completed": 0, "http2.rx_messaging_error": 1, "http2.streams_active": 0,
			})
		})
	}
}

// TestMuxTunnel is a websocket over extended CONNECT (RFC 8441) to a host of HTTP/1.
func TestMuxTunnel(t *testing.T) {
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, engine, muxed, upstream(t, host))
			h.multiplexed(func(c *client) {
				s := c.Open()
				defer s.Release()
				s.Hold()
				if err := s.Request(&stream.Request{Method: "GET", Path: "/", Authority: "a", Scheme: "http"}, "websocket"); err != nil {
					t.Error(err)
					return
				}
				var r stream.Response
				if err := s.ReadResponse(&r); err != nil || r.Status != 200 {
					t.Errorf("%d %v", r.Status, err)
					return
				}
				b := make([]byte, 7)
				if _, err := io.ReadFull(s.Tunnel(), b); string(b) != "welcome" {
					t.Errorf("%q %v", b, err)
				}
			})
		})
	}
}

// TestMuxReset lets a stream of a connection end without the others.
func TestMuxReset(t *testing.T) {
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, engine, muxed, upstream(t, host))
			h.multiplexed(func(c *client) {
				var reset *http2.Reset
				q := stream.Request{Method: "POST", Path: "/", Authority: "a", Scheme: "http", Body: &stream.Bytes{B: []byte("x")}}
				s := c.Open()
				_ = s.Request(&q, "") // and never the body
				s.Release()
				s = c.Open()
				_ = s.Request(&stream.Request{Method: "GET", Path: "/short", Authority: "a", Scheme: "http"}, "")
				var r stream.Response
				err := s.ReadResponse(&r)
				if err == nil {
					_, _, err = stream.Collect(nil, r.Body, 100)
				}
				if !errors.As(err, &reset) || reset.Code != http2.InternalError {
					t.Error(err)
				}
				s.Release()
				if got := c.do("GET", "/a", ""); got != "200 GET /a HTTP/1.1" {
					t.Error(got)
				}
			})
		})
	}
}

// TestMuxDrain tells a client to go after so many requests.
func TestMuxDrain(t *testing.T) {
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, engine, muxed+"common_http_protocol_options: {max_requests_per_connection: 2}\ndrain_timeout: 0.01s\n", upstream(t, host))
			h.multiplexed(func(c *client) {
				for range 2 {
					if got := c.do("GET", "/direct", ""); got != "201 made" {
						t.Error(got)
					}
				}
				for !c.done {
					_ = c.ended.Wait(h.w)
				}
			})
			h.wants(map[string]uint64{"http.test.downstream_cx_max_requests_reached": 1, "http2.goaway_sent": 2})
		})
	}
}
