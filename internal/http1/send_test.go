package http1_test

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// sink is a connection that collects what is written, and counts the writes.
type sink struct {
	fiber.Conn

	b      []byte
	writes int
}

func (s *sink) Write(p []byte) (int, error) {
	s.writes++
	s.b = append(s.b, p...)
	return len(p), nil
}

// pieces is a body that hands out one piece after the other; an empty one says that it would wait.
type pieces []string

func (p *pieces) Next(wait bool) ([]byte, error) {
	for len(*p) > 0 {
		s := (*p)[0]
		if *p = (*p)[1:]; s != "" {
			return []byte(s), nil
		} else if !wait {
			return nil, nil
		}
	}
	return nil, io.EOF
}

func body(p ...string) stream.Body {
	b := pieces(p)
	return &b
}

func request(method, path, host string, b stream.Body, f ...string) *stream.Request {
	q := &stream.Request{Method: method, Path: path, Authority: host, Scheme: "http", Body: b}
	for i := 0; i < len(f); i += 2 {
		q.Header.Add(f[i], f[i+1])
	}
	return q
}

func response(status int, b stream.Body, f ...string) *stream.Response {
	r := &stream.Response{Status: status, Body: b}
	for i := 0; i < len(f); i += 2 {
		r.Header.Add(f[i], f[i+1])
	}
	return r
}

func TestSendRequest(t *testing.T) {
	full, proper := http1.Options{FullURL: true}, http1.Options{Case: http1.ProperCase}
	cases := []struct {
		name   string
		q      *stream.Request
		o      *http1.Options
		want   string
		writes int
	}{
		{"get", request("GET", "/a?b", "h", nil, "x", "1", "x", "2"), nil, "GET /a?b HTTP/1.1\r\nhost: h\r\nx: 1\r\nx: 2\r\n\r\n", 1},
		{"post without a body", request("POST", "/", "h", nil), nil, "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n", 1},
		{"options", request("OPTIONS", "*", "h", nil), nil, "OPTIONS * HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n", 1},
		{"delete", request("DELETE", "/", "h", nil), nil, "DELETE / HTTP/1.1\r\nhost: h\r\n\r\n", 1},
		{"sized", request("POST", "/", "h", body("abc", "de"), "content-length", "5"), nil, "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nabcde", 1},
		{"chunked, in two writes", request("POST", "/", "h", body("abc", "", "de")), nil, "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 2},
		{"connect", request("CONNECT", "", "h:1", nil), nil, "CONNECT h:1 HTTP/1.1\r\nhost: h:1\r\n\r\n", 1},
		{"upgrade", request("GET", "/", "h", nil, "connection", "Upgrade", "upgrade", "websocket"), nil, "GET / HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n", 1},
		{"full url", request("GET", "/x", "h", nil), &full, "GET http://h/x HTTP/1.1\r\nhost: h\r\n\r\n", 1},
		{"proper case", request("GET", "/", "h", nil, "x_a-b'c.d~e9f", "1"), &proper, "GET / HTTP/1.1\r\nHost: h\r\nX_A-B'C.D~E9f: 1\r\n\r\n", 1},
	}
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		for _, c := range cases {
			if p, ok := c.q.Body.(*pieces); ok { // each engine needs its own
				again := append(pieces(nil), *p...)
				c.q = request(c.q.Method, c.q.Path, c.q.Authority, &again)
				if c.name == "sized" {
					c.q.Header.Add("content-length", "5")
				}
			}
			var to sink
			var s http1.Sender
			s.Request(w, &to, c.q, c.o)
			done, err := s.Run(true)
			if !done || err != nil || string(to.b) != c.want || to.writes != c.writes {
				t.Errorf("%s: %v %v, %d writes:\n  got  %q\n  want %q", c.name, done, err, to.writes, to.b, c.want)
			}
			if s.WireBytes != int64(len(c.want)) {
				t.Errorf("%s: %d bytes counted, %d sent", c.name, s.WireBytes, len(c.want))
			}
			line := strings.Index(c.want, "\r\n") + 2
			if end := strings.Index(c.want, "\r\n\r\n") + 2; s.HeadBytes != int64(end-line) {
				t.Errorf("%s: %d bytes of fields counted, %d sent", c.name, s.HeadBytes, end-line)
			}
		}
	})
}

func TestSendResponse(t *testing.T) {
	ten := &http1.Options{AcceptHTTP10: true}
	trailers := &http1.Options{Trailers: true}
	withTrailer := func() *stream.Response {
		r := response(200, body("abc"))
		r.Trailer.Add("x-t", "1")
		return r
	}
	cases := []struct {
		name string
		r    func() *stream.Response
		a    http1.Reply
		want string
	}{
		{"sized", func() *stream.Response { return response(200, body("abc"), "content-length", "3") }, http1.Reply{}, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"},
		{"empty", func() *stream.Response { return response(404, nil) }, http1.Reply{Close: true}, "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"},
		{"unknown status", func() *stream.Response { return response(299, nil) }, http1.Reply{}, "HTTP/1.1 299 Unknown\r\ncontent-length: 0\r\n\r\n"},
		{"chunked", func() *stream.Response { return response(200, body("abc")) }, http1.Reply{}, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
		{"chunked, empty", func() *stream.Response { return response(200, body()) }, http1.Reply{}, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"trailers", withTrailer, http1.Reply{Options: trailers}, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n"},
		{"trailers dropped", withTrailer, http1.Reply{}, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
		{"head", func() *stream.Response { return response(200, body("abc"), "content-length", "3") }, http1.Reply{Kind: http1.Head}, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"},
		{"head of unknown length", func() *stream.Response { return response(200, nil) }, http1.Reply{Kind: http1.Head}, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"},
		{"204", func() *stream.Response { return response(204, nil) }, http1.Reply{}, "HTTP/1.1 204 No Content\r\n\r\n"},
		{"204 with a body", func() *stream.Response { return response(204, body("abc")) }, http1.Reply{}, "HTTP/1.1 204 No Content\r\n\r\n"},
		{"304", func() *stream.Response { return response(304, nil, "content-length", "7") }, http1.Reply{}, "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n"},
		{"100", func() *stream.Response { return response(100, nil) }, http1.Reply{Close: true}, "HTTP/1.1 100 Continue\r\n\r\n"},
		{"103", func() *stream.Response { return response(103, nil, "link", "x") }, http1.Reply{}, "HTTP/1.1 103 Unknown\r\nlink: x\r\n\r\n"},
		{"101", func() *stream.Response { return response(101, nil, "connection", "upgrade", "upgrade", "x") }, http1.Reply{Kind: http1.Upgrading}, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"},
		{"connect", func() *stream.Response { return response(200, nil) }, http1.Reply{Kind: http1.Connect}, "HTTP/1.1 200 OK\r\n\r\n"},
		{"1.0, sized", func() *stream.Response { return response(200, body("abc"), "content-length", "3") }, http1.Reply{Options: ten, Protocol: stream.HTTP10}, "HTTP/1.0 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive\r\n\r\nabc"},
		{"1.0, unknown length", func() *stream.Response { return response(200, body("abc")) }, http1.Reply{Options: ten, Protocol: stream.HTTP10}, "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nabc"},
		{"1.0 is refused", func() *stream.Response { return response(426, nil) }, http1.Reply{Protocol: stream.HTTP10, Close: true}, "HTTP/1.1 426 Upgrade Required\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"},
	}
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		for _, c := range cases {
			var to sink
			var s http1.Sender
			s.Response(w, &to, c.r(), c.a)
			done, err := s.Run(true)
			if !done || err != nil || string(to.b) != c.want || to.writes != 1 || s.WireBytes != int64(len(c.want)) {
				t.Errorf("%s: %v %v, %d writes, %d bytes of %d:\n  got  %q\n  want %q", c.name, done, err, to.writes, s.WireBytes, len(c.want), to.b, c.want)
			}
			if s.Close != strings.Contains(c.want, "connection: close") && c.name != "100" {
				t.Errorf("%s: close %v", c.name, s.Close)
			}
		}
	})
}

// TestSendLength holds the sender to the length that the head promises: more would be read as the next message.
func TestSendLength(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		for _, c := range []struct{ length, body, want string }{
			{"3", "abcd", ""}, {"5", "abcd", "abcd"}, {"x", "abcd", ""}, {"", "abcd", ""}, {"-4", "abcd", ""}, {"99999999999999999999", "abcd", ""}, {"4", "", ""},
		} {
			q := request("POST", "/", "h", nil, "content-length", c.length)
			if c.body != "" {
				q.Body = body(c.body)
			}
			var to sink
			var s http1.Sender
			s.Request(w, &to, q, nil)
			done, err := s.Run(true)
			_, sent, _ := strings.Cut(string(to.b), "\r\n\r\n")
			if done || !errors.Is(err, http1.ErrBodyLength) || !s.BodyFailed || sent != c.want {
				t.Errorf("%+v: %v %v, failed %v, sent %q", c, done, err, s.BodyFailed, sent)
			}
		}
	})
}

// TestSendWithoutWaiting stops where the body would wait, and goes on from there.
func TestSendWithoutWaiting(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		var to sink
		var s http1.Sender
		s.Request(w, &to, request("POST", "/", "h", body("a", "", "b"), "content-length", "2"), nil)
		if done, err := s.Run(false); done || err != nil || !strings.HasSuffix(string(to.b), "\r\n\r\na") {
			t.Fatalf("%v %v %q", done, err, to.b)
		}
		if done, err := s.Run(true); !done || err != nil || !strings.HasSuffix(string(to.b), "\r\n\r\nab") || s.Sent != 2 {
			t.Fatalf("%v %v %q", done, err, to.b)
		}
	})
}

// TestSendBig sends pieces and heads that no slab holds, and whatever fits just so.
func TestSendBig(t *testing.T) {
	trailers := http1.Options{Trailers: true}
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		for n := 16<<10 - 200; n < 16<<10+40; n++ {
			big := strings.Repeat("b", n)
			for _, f := range [][]string{nil, {"content-length", strconv.Itoa(n)}, {"x", big}} {
				r := response(200, body(big), f...)
				r.Trailer.Add("x-t", "1")
				var to sink
				var s http1.Sender
				s.Response(w, &to, r, http1.Reply{Options: &trailers})
				if done, err := s.Run(true); !done || err != nil || s.WireBytes != int64(len(to.b)) || s.Sent != int64(n) {
					t.Fatalf("%d: %v %v %d %d", n, done, err, s.WireBytes, len(to.b))
				}
				if !strings.Contains(string(to.b), big) {
					t.Fatal("content is lost")
				}
			}
		}
	})
}
