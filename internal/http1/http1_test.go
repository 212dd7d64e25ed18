package http1_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// feed writes input to one end of a pipe in pieces of step bytes (0: at once), ends it, and returns the other end.
func feed(w *fiber.Worker, input string, step int, task *fiber.Task) fiber.Conn {
	a, b := fiber.Pipe(w)
	task.Start(w, func() {
		for len(input) > 0 {
			n := len(input)
			if step > 0 {
				n = min(n, step)
			}
			if _, err := a.Write([]byte(input[:n])); err != nil {
				break
			}
			input = input[n:]
			if step > 0 {
				w.Yield()
			}
		}
		_ = a.CloseWrite()
		_, _ = a.Read(make([]byte, 1))
		_ = a.Close()
	})
	return b
}

// requests reads all requests of input and tells them in a line.
func requests(w *fiber.Worker, input string, step int, o *http1.Options) string {
	var task fiber.Task
	c := http1.Conn{}
	c.Reset(w, feed(w, input, step, &task))
	c.Options = o
	var out []string
	var q stream.Request
	for {
		err := c.ReadRequest(&q)
		if err == nil {
			var s string
			s, err = tell(&q)
			if out = append(out, s); c.Upgrade {
				_, rest := c.Detach()
				b := bytes.Clone(rest)
				c.Release()
				more, _ := io.ReadAll(c.Net)
				out = append(out, fmt.Sprintf("upgrade %q", append(b, more...)))
				break
			}
		}
		if err != nil {
			out = append(out, problem(err))
			break
		}
		if c.Close {
			out = append(out, "close")
			break
		}
	}
	c.Release()
	_ = c.Net.Close()
	_ = task.Wait(w)
	return strings.Join(out, "; ")
}

func tell(q *stream.Request) (string, error) {
	s := q.Method + " " + q.Path + " @" + q.Authority + fields(&q.Header)
	if q.Scheme != "http" {
		s += " " + q.Scheme
	}
	b, err := content(q.Body)
	return s + b + fields(&q.Trailer), err
}

func fields(h *header.Map) string {
	s := ""
	for _, f := range h.All() {
		s += " {" + f.Name + ": " + strings.Trim(strconv.QuoteToASCII(f.Value), `"`) + "}"
	}
	return s
}

func content(b stream.Body) (string, error) {
	if b == nil {
		return "", nil
	}
	all, _, err := stream.Collect(nil, b, 1<<20)
	if len(all) > 80 {
		all = fmt.Appendf(nil, "%d bytes", len(all))
	}
	return fmt.Sprintf(" %q", all), err
}

func problem(err error) string {
	var e *http1.Error
	if errors.As(err, &e) {
		return strconv.Itoa(e.Status) + " " + e.Details
	}
	return err.Error()
}

// corpus reads a table of quoted inputs and what becomes of them.
func corpus(t *testing.T, file string, f func(input, want string)) {
	t.Helper()
	r, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	n := 0
	for s := bufio.NewScanner(r); s.Scan(); {
		line := s.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			t.Fatalf("%s: %s", err, line)
		}
		input, _ := strconv.Unquote(quoted)
		f(input, strings.TrimPrefix(line[len(quoted):], "\t"))
		n++
	}
	if n == 0 {
		t.Fatal("empty corpus")
	}
}

// TestRequests reads each row of the corpus at once, and byte by byte, with the same outcome.
func TestRequests(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		corpus(t, "testdata/requests.txt", func(input, want string) {
			for _, step := range []int{0, 1, 7} {
				if got := requests(w, input, step, nil); got != want {
					t.Errorf("in pieces of %d:\n   %+q\n  got  %s\n  want %s", step, input, got, want)
				}
			}
		})
	})
}
