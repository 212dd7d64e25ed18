package harness

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Any is the address of a free port of the loopback interface.
const Any = "127.0.0.1:0"

// Dir is a folder until the test ends. Its name is short, as the paths of unix sockets must be.
func Dir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "o") //nolint:usetesting // whose names are long
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Put moves a file into its place, as those do who want its readers to see all of it or nothing.
func Put(tb testing.TB, path, text string) {
	tb.Helper()
	err := os.WriteFile(path+".new", []byte(text), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// Listen listens on an address.
func Listen(tb testing.TB, address string) net.Listener {
	tb.Helper()
	l, err := net.Listen(network(address), address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	return l
}

// Free is an address of an IPv4 host whose port is the test's own until it releases it: nobody else gets it, and it refuses
// connections until the test listens there, and after.
func Free(tb testing.TB, host string) (address string, release func()) {
	tb.Helper()
	ip := netip.MustParseAddr(host)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	release = sync.OnceFunc(func() { _ = unix.Close(fd) })
	tb.Cleanup(release)
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil { // with it a listener may join
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: ip.As4()})
	}
	if err != nil {
		tb.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		tb.Fatal(err)
	}
	return netip.AddrPortFrom(ip, uint16(at.(*unix.SockaddrInet4).Port)).String(), release //nolint:gosec // it is a port
}

// Port is that of an address.
func Port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// PortOf is that of a listener.
func PortOf(l net.Listener) int { n, _ := strconv.Atoi(Port(l.Addr().String())); return n }

// Host runs a server of HTTP/1 and of HTTP/2 with prior knowledge, and returns its address.
func Host(tb testing.TB, h http.HandlerFunc) (address string) {
	tb.Helper()
	l := Listen(tb, Any)
	s := Server(h)
	var running sync.WaitGroup
	running.Go(func() { // ends with the test
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			tb.Error(err)
		}
	})
	tb.Cleanup(func() { _ = s.Close(); running.Wait() })
	return l.Addr().String()
}

// Says answers with a text.
func Says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

// Server speaks both versions of HTTP in clear text.
func Server(h http.Handler) *http.Server {
	both := &http.Protocols{}
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: h, Protocols: both, ReadHeaderTimeout: time.Minute}
}

// Accept serves the connections of a listener, each on a goroutine, until Close, which closes them too. Serve closes its own.
type Accept struct {
	l       net.Listener
	running sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // nil: closed
}

// Serve runs serve for each connection of a listener until the test ends, or Close.
func Serve(tb testing.TB, l net.Listener, serve func(c net.Conn)) *Accept {
	tb.Helper()
	a := &Accept{l: l, conns: map[net.Conn]bool{}}
	a.running.Go(func() { // ends with Close
		for {
			c, err := l.Accept()
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err == nil: // else there is no descriptor for it
				a.serve(c, serve)
			}
		}
	})
	tb.Cleanup(a.Close)
	return a
}

func (a *Accept) serve(c net.Conn, serve func(net.Conn)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conns == nil {
		_ = c.Close()
		return
	}
	a.conns[c] = true
	a.running.Go(func() { // ends with the connection
		serve(c)
		_ = c.Close()
		a.mu.Lock()
		delete(a.conns, c)
		a.mu.Unlock()
	})
}

// Close ends the listener and every connection, and waits for what serves them.
func (a *Accept) Close() {
	_ = a.l.Close()
	a.mu.Lock()
	for c := range a.conns {
		_ = c.Close()
	}
	a.conns = nil
	a.mu.Unlock()
	a.running.Wait()
}

// network is that of an address.
func network(address string) string {
	if strings.HasPrefix(address, "/") {
		return "unix"
	}
	return "tcp"
}
