package scenario

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sort"
	"strings"
	"sync"
)

// upstream is a scripted server: the n-th request gets the n-th answer, and the last answer repeats.
type upstream struct {
	name    string
	port    int
	echo    bool
	answers []string
	l       net.Listener
	running sync.WaitGroup
	ended   chan struct{}

	mu    sync.Mutex
	n     int
	seen  []string
	conns map[net.Conn]bool
}

func newUpstream(name, script string, echo bool) (*upstream, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{name: name, port: l.Addr().(*net.TCPAddr).Port, echo: echo, l: l, conns: map[net.Conn]bool{}, ended: make(chan struct{})}
	for a := range strings.SplitSeq(script, "\n---\n") {
		u.answers = append(u.answers, strings.TrimSuffix(a, "\n"))
	}
	u.running.Go(u.accept) // ends with close
	return u, nil
}

func (u *upstream) close() {
	u.mu.Lock()
	select {
	case <-u.ended:
	default:
		close(u.ended)
	}
	_ = u.l.Close()
	for c := range u.conns {
		_ = c.Close()
	}
	u.mu.Unlock()
	u.running.Wait()
}

func (u *upstream) accept() {
	for {
		c, err := u.l.Accept()
		if err != nil {
			return
		}
		u.mu.Lock()
		u.conns[c] = true
		u.mu.Unlock()
		u.running.Go(func() { // ends with the connection
			u.serve(c)
			_ = c.Close()
			u.mu.Lock()
			delete(u.conns, c)
			u.mu.Unlock()
		})
	}
}

func (u *upstream) serve(c net.Conn) {
	if u.echo {
		_, _ = io.Copy(c, c)
		return
	}
	for r := bufio.NewReader(c); ; {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(q.Body)
		answer := u.next(q, body, err)
		switch answer {
		case "close":
			return
		case "reset":
			_ = c.(*net.TCPConn).SetLinger(0)
			return
		case "hold":
			<-u.ended
			return
		}
		if _, err := io.WriteString(c, wire(answer)); err != nil || strings.Contains(strings.ToLower(answer), "connection: close") {
			return
		}
	}
}

// wire turns a message written with line feeds into one with CRLF in its head, and says how long the body is unless it says so.
func wire(message string) string {
	head, body, _ := strings.Cut(message, "\n\n")
	lower := strings.ToLower(head)
	if !strings.Contains(lower, "content-length:") && !strings.Contains(lower, "transfer-encoding:") && !strings.HasPrefix(head, "GET") {
		head += fmt.Sprintf("\ncontent-length: %d", len(body))
	}
	return strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n" + strings.ReplaceAll(body, "\\r\\n", "\r\n")
}

// next notes a request and returns its answer.
func (u *upstream) next(q *http.Request, body []byte, err error) string {
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
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = append(u.seen, b.String())
	answer := u.answers[min(u.n, len(u.answers)-1)]
	u.n++
	return answer
}

func (u *upstream) saw() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return strings.Join(u.seen, "---\n")
}

func (u *upstream) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = nil
}
