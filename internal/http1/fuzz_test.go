package http1_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// source is a connection whose input is all there: it comes in pieces of step bytes.
type source struct {
	fiber.Conn

	in   []byte
	step int
}

func (s *source) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	if s.step > 0 {
		p = p[:min(len(p), s.step)]
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	return n, nil
}
func (s *source) TryRead(p []byte) (int, error) { return s.Read(p) }
func (s *source) Readable() bool                { return true }
func (s *source) WaitReadable() error           { return nil }

// outcome is how it ended. Which of two faults is told may depend on how much of them has come.
func outcome(err error) string {
	if _, ok := errors.AsType[*http1.Error](err); ok {
		return "refused"
	}
	return err.Error()
}

// seeds are the rows of a corpus.
func seeds(f *testing.F, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if i := strings.IndexByte(line, '"'); i >= 0 && line[0] != '#' {
			if q, err := strconv.QuotedPrefix(line[i:]); err == nil {
				s, _ := strconv.Unquote(q)
				f.Add([]byte(s))
			}
		}
	}
}

// forwardAll reads the requests of in and returns what an upstream would get for each, and what became of them.
func forwardAll(w *fiber.Worker, in []byte, step int) (forwarded [][]byte, bodies, told []string) {
	var c http1.Conn
	c.Reset(w, &source{in: bytes.Clone(in), step: step})
	o := http1.Defaults()
	o.Trailers, o.AcceptHTTP10 = true, true
	c.Options = &o
	defer c.Release()
	for {
		var q stream.Request
		if err := c.ReadRequest(&q); err != nil {
			return forwarded, bodies, append(told, outcome(err))
		}
		all, _, err := stream.Collect(nil, q.Body, 1<<30)
		told = append(told, fmt.Sprintf("%s %s %s%s %q%s", q.Method, q.Path, q.Authority, fields(&q.Header), all, fields(&q.Trailer)))
		if err != nil {
			return forwarded, bodies, append(told, outcome(err))
		}
		if c.Upgrade {
			return forwarded, bodies, append(told, "upgrade")
		}
		if q.Body != nil {
			q.Body = &stream.Bytes{B: all}
		}
		var to sink
		var s http1.Sender
		s.Request(w, &to, &q, &o)
		if done, err := s.Run(true); !done || err != nil {
			return forwarded, bodies, append(told, fmt.Sprint("not sent: ", err))
		}
		forwarded, bodies = append(forwarded, to.b), append(bodies, string(all))
		if c.Close {
			return forwarded, bodies, append(told, "close")
		}
	}
}

// FuzzRequest reads requests whole and in pieces with one outcome, and holds this against smuggling: whatever we forward is one
// request with the same body to net/http, and a list of requests that net/http accepts too is the same list.
func FuzzRequest(f *testing.F) {
	seeds(f, "testdata/requests.txt")
	w, err := fiber.New(0)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		forwarded, bodies, told := forwardAll(w, in, 0)
		for _, step := range []int{1, 5} {
			if _, _, again := forwardAll(w, in, step); strings.Join(again, "\n") != strings.Join(told, "\n") {
				t.Fatalf("in pieces of %d: %q, not %q", step, again, told)
			}
		}
		for i, out := range forwarded {
			r := bufio.NewReader(bytes.NewReader(out))
			q, err := http.ReadRequest(r)
			if err != nil {
				continue // net/http is stricter about hosts and targets
			}
			b, err := io.ReadAll(q.Body)
			if rest, _ := io.ReadAll(r); err != nil || string(b) != bodies[i] || len(rest) > 0 {
				t.Fatalf("forwarded %q\nis read as a body of %q, %v, and then %q", out, b, err, rest)
			}
		}
		sameAsStandard(t, in, bodies)
	})
}

func sameAsStandard(t *testing.T, in []byte, bodies []string) {
	if bytes.HasPrefix(in, []byte("\n")) || bytes.HasPrefix(in, []byte("\r")) {
		return
	}
	r := bufio.NewReader(bytes.NewReader(in))
	for i := range bodies {
		q, err := http.ReadRequest(r)
		if err != nil || !q.ProtoAtLeast(1, 1) {
			return // we are more lenient, and see an encoding in HTTP/1.0
		}
		b, err := io.ReadAll(q.Body)
		if err != nil {
			return
		}
		if string(b) != bodies[i] {
			t.Fatalf("request %d: body %q, net/http reads %q", i, bodies[i], b)
		}
		if n, _ := r.Peek(1); len(n) > 0 && (n[0] == '\r' || n[0] == '\n') {
			return // empty lines before a request: net/http refuses them
		}
	}
}

// FuzzResponse does the same with responses.
func FuzzResponse(f *testing.F) {
	seeds(f, "testdata/responses.txt")
	w, err := fiber.New(0)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for k := http1.Plain; k <= http1.Head; k++ {
			told, out, content := oneResponse(w, in, 0, k)
			for _, step := range []int{1, 5} {
				if again, _, _ := oneResponse(w, in, step, k); again != told {
					t.Fatalf("in pieces of %d: %q, not %q", step, again, told)
				}
			}
			if out == nil {
				continue
			}
			r := bufio.NewReader(bytes.NewReader(out))
			method := "GET"
			if k == http1.Head {
				method, content = "HEAD", ""
			}
			p, err := http.ReadResponse(r, &http.Request{Method: method})
			if err != nil {
				continue
			}
			b, err := io.ReadAll(p.Body)
			if rest, _ := io.ReadAll(r); err != nil || string(b) != content || len(rest) > 0 {
				t.Fatalf("forwarded %q\nis read as a body of %q, %v, and then %q", out, b, err, rest)
			}
		}
	})
}

func oneResponse(w *fiber.Worker, in []byte, step int, k http1.Kind) (told string, out []byte, content string) {
	var c http1.Conn
	c.Reset(w, &source{in: bytes.Clone(in), step: step})
	defer c.Release()
	var r stream.Response
	for {
		if err := c.ReadResponse(&r, k); err != nil {
			return told + outcome(err), nil, ""
		}
		if told += fmt.Sprint(r.Status, fields(&r.Header), " "); r.Status >= 200 || r.Status == 101 {
			break
		}
	}
	all, _, err := stream.Collect(nil, r.Body, 1<<30)
	if told += fmt.Sprintf("%q", all); err != nil || r.Status == 101 {
		if err != nil {
			told += outcome(err)
		}
		return told, nil, ""
	}
	if r.Body != nil {
		r.Body = &stream.Bytes{B: all}
	}
	var to sink
	var s http1.Sender
	s.Response(w, &to, &r, http1.Reply{Kind: k})
	if done, err := s.Run(true); !done || err != nil {
		return told + fmt.Sprint(err), nil, ""
	}
	return told, to.b, string(all)
}

// FuzzChunked decodes a chunked body; where the standard library accepts it too, the contents are the same.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"3\r\nabc\r\n0\r\n\r\n", "3;a=b\r\nabc\r\n0\r\n\r\n", "0\r\n\r\n", "0\r\nX: y\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n",
		"ffffffffffffffff\r\n", "00003\r\nabc\r\n00\r\n\r\n", "-1\r\n", "3 \r\nabc\r\n0\r\n\r\n", "3;\ra\r\nabc\r\n0\r\n\r\n", "1\r\na\r\n1\r\nb\r\n0\r\n\r\nrest",
	} {
		f.Add([]byte(s))
	}
	w, err := fiber.New(0)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		one, failed := chunked(w, in, 0)
		for _, step := range []int{1, 3} {
			if again, err := chunked(w, in, step); !bytes.Equal(one, again) || (failed == nil) != (err == nil) {
				t.Fatalf("in pieces of %d: %q %v, not %q %v", step, again, err, one, failed)
			}
		}
		if failed != nil {
			return
		}
		if std, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(in))); err == nil && !bytes.Equal(std, one) {
			t.Fatalf("%q, the standard library reads %q", one, std)
		}
	})
}

func chunked(w *fiber.Worker, in []byte, step int) ([]byte, error) {
	var c http1.Conn
	c.Reset(w, &source{in: append([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), in...), step: step})
	defer c.Release()
	var q stream.Request
	if err := c.ReadRequest(&q); err != nil {
		return nil, err
	}
	all, _, err := stream.Collect(nil, q.Body, 1<<30)
	return all, err
}
