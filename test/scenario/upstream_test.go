package scenario

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/outrigger-proxy/outrigger/test/harness"
)

// upstream is a scripted server: the n-th request (of TCP: connection) gets the n-th answer, and the last answer repeats.
type upstream struct {
	*harness.Accept

	name    string
	port    string
	tcp     bool
	answers []string
	gate    chan struct{} // lets a script go on
	ended   chan struct{} // closed
	once    sync.Once
	release func() // its port, which is nobody else's as long as the scenario runs

	mu    sync.Mutex
	n     int
	seen  []string
	bytes []byte // what scripts read
}

func newUpstream(t *testing.T, name, script, host string, tcp bool) *upstream {
	at, release := harness.Free(t, host)
	l := harness.Listen(t, at)
	u := &upstream{
		name: name, port: harness.Port(at), tcp: tcp, gate: make(chan struct{}), ended: make(chan struct{}), release: release,
	}
	if script == "" && tcp {
		script = "script\necho"
	} else if script == "" {
		script = "HTTP/1.1 200 OK\n\n" + name
	}
	for a := range strings.SplitSeq(script, "\n---\n") {
		u.answers = append(u.answers, strings.TrimSuffix(a, "\n"))
	}
	u.Accept = harness.Serve(t, l, u.serve)
	return u
}

func (u *upstream) close() {
	u.once.Do(func() { close(u.ended) })
	u.Close()
}

func (u *upstream) serve(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		if u.tcp {
			u.play(c, r, strings.Split(u.next(), "\n"))
			return
		}
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		answer := u.next()
		early := strings.HasPrefix(answer, "early\n") // answers before it reads the body
		if !early {
			u.seeRequest(q)
		}
		if !u.answer(c, r, strings.TrimPrefix(answer, "early\n")) {
			return
		}
		if early {
			u.seeRequest(q)
		}
	}
}

// answer sends an answer and says whether the connection goes on.
func (u *upstream) answer(c net.Conn, r *bufio.Reader, answer string) bool {
	switch first, rest, _ := strings.Cut(answer, "\n"); first {
	case "close", "reset", "hold":
		return u.step(c, r, first, "")
	case "script":
		return u.play(c, r, strings.Split(rest, "\n"))
	}
	_, err := io.WriteString(c, wire(answer))
	return err == nil && !strings.Contains(strings.ToLower(answer), "connection: close")
}

// wire turns a message written with line feeds into one with CRLF in its head, and says how long the body is unless it says so.
func wire(message string) string {
	head, body, _ := strings.Cut(message, "\n\n")
	lower := strings.ToLower(head)
	if !strings.Contains(lower, "content-length:") && !strings.Contains(lower, "transfer-encoding:") && (body != "" || !bodiless.MatchString(head)) {
		head += fmt.Sprintf("\ncontent-length: %d", len(body))
	}
	return strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n" + strings.ReplaceAll(body, "\\r\\n", "\r\n")
}

// bodiless matches the first lines of messages that need not say that they have no body.
var bodiless = regexp.MustCompile(`^(GET|HEAD|DELETE|OPTIONS|CONNECT|TRACE) |^HTTP/1\.\d (1\d\d|204|304)`)

// next returns the answer to the next request, or connection.
func (u *upstream) next() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.n++
	return u.answers[min(u.n, len(u.answers))-1]
}

// seeRequest reads the rest of a request and notes it.
func (u *upstream) seeRequest(q *http.Request) {
	body, err := io.ReadAll(q.Body)
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%s %s %s\nhost: %s\n", q.Method, q.RequestURI, q.Proto, q.Host)
	var names []string
	for name := range q.Header {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		for _, v := range q.Header[name] {
			_, _ = fmt.Fprintf(&b, "%s: %s\n", strings.ToLower(name), v)
		}
	}
	for _, e := range q.TransferEncoding {
		_, _ = fmt.Fprintf(&b, "transfer-encoding: %s\n", e)
	}
	if len(body) > 0 || err != nil {
		_, _ = fmt.Fprintf(&b, "body: %q", body)
		if err != nil {
			b.WriteString(" cut off")
		}
		b.WriteByte('\n')
	}
	for name, v := range q.Trailer {
		_, _ = fmt.Fprintf(&b, "trailer %s: %s\n", strings.ToLower(name), strings.Join(v, ", "))
	}
	u.note(b.String())
}

func (u *upstream) note(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = append(u.seen, text)
}

func (u *upstream) saw() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return strings.Join(u.seen, "---\n") + lines(string(u.bytes))
}

func (u *upstream) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen, u.bytes = nil, nil
}
