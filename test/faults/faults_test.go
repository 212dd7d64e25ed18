// Package faults breaks connections at every point of an exchange, starves the process of descriptors, and mixes retries, timeouts
// and mirrors at random. After each, nothing may be left: no active stream in the statistics, no buffer on loan, no fiber, no
// goroutine, no descriptor. On both engines.
package faults

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	body     = "0123456789"
	request  = "POST /a HTTP/1.1\r\nhost: e\r\ncontent-length: 10\r\n\r\n" + body
	chunked  = "POST /a HTTP/1.1\r\nhost: e\r\ntransfer-encoding: chunked\r\n\r\na\r\n" + body + "\r\n0\r\n\r\n"
	response = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n" + body
	stream   = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n" + body + "\r\n0\r\n\r\n"
)

// TestClientLeaves has the client go, by a close or a reset, after each byte of its request.
func TestClientLeaves(t *testing.T) {
	each(t, response, func(t *testing.T, s *stage) {
		for _, text := range []string{request, chunked} {
			for n := range len(text) + 1 {
				for _, leave := range []func(net.Conn){closed, reset} {
					c := s.dial(t)
					write(c, text[:n])
					leave(c)
				}
			}
		}
		s.works(t)
	})
}

// TestUpstreamLeaves has the upstream go after each byte of its response. The client gets a whole response, or sees that it is none.
func TestUpstreamLeaves(t *testing.T) {
	each(t, "", func(t *testing.T, s *stage) {
		for _, text := range []string{response, stream} {
			for n := range len(text) {
				for _, leave := range []func(net.Conn){closed, reset} {
					s.upstream.answer(func(c net.Conn, _ *http.Request) bool {
						write(c, text[:n])
						leave(c)
						return false
					})
					status, got, err := s.ask(t, request)
					if whole := err == nil && status == 200; whole && got != body {
						t.Fatalf("%d bytes of the response: the client was told that %q is all", n, got)
					}
					if err == nil && status != 200 && status != 502 && status != 503 {
						t.Fatalf("%d bytes of the response: status %d", n, status)
					}
				}
			}
		}
		s.upstream.answer(says(response))
		s.works(t)
	})
}

// TestSlowPeers sends every byte by itself, on both sides.
func TestSlowPeers(t *testing.T) {
	each(t, "", func(t *testing.T, s *stage) {
		for _, answer := range []string{response, stream} {
			s.upstream.answer(func(c net.Conn, _ *http.Request) bool { drip(c, answer); return true })
			for _, text := range []string{request, chunked} {
				c := s.dial(t)
				go drip(c, text) // ends with the text, or with the connection
				if status, got, err := read(c); err != nil || status != 200 || got != body {
					t.Errorf("%d %q %v", status, got, err)
				}
				_ = c.Close()
			}
		}
	})
}

// TestDroppedConnections opens a thousand connections and drops them, some with a byte on the way, to HTTP and to TCP.
func TestDroppedConnections(t *testing.T) {
	each(t, response, func(t *testing.T, s *stage) {
		for _, to := range []string{s.http, s.tcp} {
			for lot := range 10 {
				var conns []net.Conn
				for range 100 {
					conns = append(conns, dial(t, to))
				}
				for i, c := range conns {
					if i%2 == 0 {
						write(c, "G")
					}
					[]func(net.Conn){closed, reset}[(i+lot)%2](c)
				}
			}
		}
		s.works(t)
	})
}

// TestNoDescriptors lets the process have no descriptor left: connections wait until there are some, and are served then.
func TestNoDescriptors(t *testing.T) {
	each(t, response, func(t *testing.T, s *stage) {
		s.works(t)
		conns := make([]int, 40)
		for i := range conns {
			fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			conns[i] = fd
		}
		restore := limitDescriptors(t, 8)
		for _, fd := range conns {
			if err := connect(fd, s.http); err != nil {
				t.Fatal(err)
			}
			if _, err := syscall.Write(fd, []byte(request)); err != nil {
				t.Fatal(err)
			}
		}
		s.settle() // it has met the limit, and must not spin or give up
		restore()
		for _, fd := range conns {
			if got := readAll(fd); !strings.HasPrefix(got, "HTTP/1.1 ") {
				t.Errorf("no answer: %q", got)
			}
			_ = syscall.Close(fd)
		}
		s.works(t)
	})
}

// TestSoak mixes everything for a while: answers that come, break, hang and fail, clients that wait, leave, reset and half-close.
func TestSoak(t *testing.T) {
	each(t, "", func(t *testing.T, s *stage) {
		s.upstream.answer(anything)
		var good, all atomic.Int64
		end := time.Now().Add(1500 * time.Millisecond)
		var clients sync.WaitGroup
		for range 16 {
			clients.Go(func() { // ends with the time
				for time.Now().Before(end) {
					all.Add(1)
					if s.anyClient(t) {
						good.Add(1)
					}
				}
			})
		}
		clients.Wait()
		t.Logf("%d of %d exchanges had an answer", good.Load(), all.Load())
		if good.Load() == 0 {
			t.Error("nobody had an answer")
		}
		s.upstream.answer(says(response))
		s.works(t)
	})
}

// anything answers in one of the ways that upstreams have.
func anything(c net.Conn, q *http.Request) bool {
	switch rand.IntN(9) {
	case 0:
		reset(c)
	case 1:
		closed(c)
	case 2:
		write(c, response[:rand.IntN(len(response))])
		reset(c)
	case 3:
		write(c, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
		return true
	case 4:
		_, _ = io.Copy(io.Discard, c) // until it is left alone
	case 5:
		write(c, "nonsense\r\n\r\n")
	case 6:
		write(c, stream)
		return true
	case 7:
		write(c, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"+body)
	default:
		return says(response)(c, q)
	}
	return false
}

// anyClient makes one exchange in one of the ways that clients have, and says whether it had an answer.
func (s *stage) anyClient(t *testing.T) bool {
	paths := []string{"/a", "/retry", "/timeout", "/mirror", "/hedge", "/direct", "/none"}
	path := paths[rand.IntN(len(paths))]
	text := strings.Replace([]string{request, chunked}[rand.IntN(2)], "/a", path, 1)
	to := s.http
	if rand.IntN(8) == 0 {
		to = s.tcp
	}
	c := dial(t, to)
	defer func() { _ = c.Close() }()
	way := rand.IntN(8)
	switch way {
	case 0:
		write(c, text[:rand.IntN(len(text))])
		reset(c)
		return false
	case 1:
		write(c, text[:rand.IntN(len(text))])
		return false
	case 2:
		write(c, text)
		_ = c.(*net.TCPConn).CloseWrite()
	case 3:
		write(c, text)
		return false
	case 4:
		write(c, text+text)
	default:
		write(c, text)
	}
	_, _, err := read(c)
	if err != nil && strings.Contains(err.Error(), "forever") {
		t.Errorf("way %d, tcp %v, %.20q: %v", way, to == s.tcp, text, err)
	}
	return err == nil
}

func closed(c net.Conn) { _ = c.Close() }

func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// write may fail: whoever reads may be gone.
func write(c net.Conn, text string) { _, _ = io.WriteString(c, text) }

func drip(c net.Conn, text string) {
	for i := range len(text) {
		write(c, text[i:i+1])
	}
}

func dial(t *testing.T, to string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", to)
	if err != nil {
		t.Error(err)
		c, _ = net.Pipe()
		_ = c.Close()
	}
	return c
}

// read reads a response.
func read(c net.Conn) (status int, text string, err error) {
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		if e, ok := err.(net.Error); ok && e.Timeout() {
			err = fmt.Errorf("the client waits forever: %w", err)
		}
		return 0, "", err
	}
	b, err := io.ReadAll(res.Body)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		err = fmt.Errorf("the client waits forever for the body: %w", err)
	}
	return res.StatusCode, string(b), err
}
