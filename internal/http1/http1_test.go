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
	if e, ok := errors.AsType[*http1.Error](err); ok {
		return strconv.Itoa(e.Status) + " " + e.Details
	}
	return err.Error()
}

// responses reads all responses of input, to requests of kind k.
func responses(w *fiber.Worker, input string, k http1.Kind, step int, o *http1.Options) string {
	var task fiber.Task
	c := http1.Conn{}
	c.Reset(w, feed(w, input, step, &task))
	c.Options = o
	var out []string
	var r stream.Response
	for {
		err := c.ReadResponse(&r, k)
		if err == nil {
			var b string
			b, err = content(r.Body)
			out = append(out, strconv.Itoa(r.Status)+fields(&r.Header)+b+fields(&r.Trailer))
		}
		if err != nil {
			out = append(out, problem(err))
			break
		}
		if c.Upgrade {
			out = append(out, "upgrade")
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

// corpus reads a table of quoted inputs, with a word before each, and what becomes of them.
func corpus(t *testing.T, file string, f func(word, input, want string)) {
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
		word, line, _ := strings.Cut(line, "\t")
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			t.Fatalf("%s: %s", err, line)
		}
		input, _ := strconv.Unquote(quoted)
		f(word, input, strings.TrimPrefix(line[len(quoted):], "\t"))
		n++
	}
	if n == 0 {
		t.Fatal("empty corpus")
	}
}

// TestRequests reads each row of the corpus at once, and byte by byte, with the same outcome.
func TestRequests(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		corpus(t, "testdata/requests.txt", func(options, input, want string) {
			o := optionsOf[options]
			for _, step := range []int{0, 1, 7} {
				if got := requests(w, input, step, o); got != want {
					t.Errorf("in pieces of %d:\n   %s\t%+q\n  got  %s\n  want %s", step, options, input, got, want)
				}
			}
		})
	})
}

// optionsOf are the options that the first column of the corpus names; "-": the defaults.
var optionsOf = map[string]*http1.Options{
	"absolute": with(func(o *http1.Options) { o.NoAbsoluteURL = true }),
	"http10":   with(func(o *http1.Options) { o.AcceptHTTP10, o.DefaultHost = true, "dd" }),
	"trailers": with(func(o *http1.Options) { o.Trailers = true }),
	"length":   with(func(o *http1.Options) { o.ChunkedLength = true }),
	"methods":  with(func(o *http1.Options) { o.CustomMethods = true }),
	"upgrades": with(func(o *http1.Options) { o.IgnoreUpgrade = func(p string) bool { return p == "websocket" } }),
	"reject":   with(func(o *http1.Options) { o.Underscores = http1.RejectUnderscores }),
	"drop":     with(func(o *http1.Options) { o.Underscores = http1.DropUnderscores }),
	"small":    with(func(o *http1.Options) { o.HeadLimit, o.FieldLimit = 100, 3 }),
}

func with(f func(*http1.Options)) *http1.Options {
	o := http1.Defaults()
	f(&o)
	return &o
}

// TestResponses does the same with responses; the word before a row is the kind of the request.
func TestResponses(t *testing.T) {
	kinds := map[string]http1.Kind{"GET": http1.Plain, "HEAD": http1.Head, "CONNECT": http1.Connect, "UPGRADE": http1.Upgrading}
	o := http1.UpstreamDefaults()
	o.Trailers = true
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		corpus(t, "testdata/responses.txt", func(word, input, want string) {
			k, ok := kinds[word]
			if !ok {
				t.Fatal(word)
			}
			for _, step := range []int{0, 1, 7} {
				if got := responses(w, input, k, step, &o); got != want {
					t.Errorf("in pieces of %d:\n   %s\t%+q\n  got  %s\n  want %s", step, word, input, got, want)
				}
			}
		})
	})
}
