package faults

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/proxy"
	"github.com/outrigger-proxy/outrigger/test/harness"
)

const config = `
static_resources:
  listeners:
  - name: http
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          delayed_close_timeout: 0.05s
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - {match: {prefix: /retry}, route: {cluster: a, timeout: 0.2s, retry_policy: {retry_on: "5xx,reset,connect-failure", num_retries: 3, per_try_timeout: 0.05s, retry_back_off: {base_interval: 0.001s}}}}
              - {match: {prefix: /timeout}, route: {cluster: a, timeout: 0.02s}}
              - {match: {prefix: /mirror}, route: {cluster: a, timeout: 0.1s, request_mirror_policies: [{cluster: a}, {cluster: gone}]}}
              - {match: {prefix: /hedge}, route: {cluster: a, timeout: 0.2s, retry_policy: {retry_on: 5xx, num_retries: 2, per_try_timeout: 0.01s}, hedge_policy: {hedge_on_per_try_timeout: true}}}
              - {match: {prefix: /direct}, direct_response: {status: 200, body: {inline_string: "0123456789"}}}
              - {match: {prefix: /none}, route: {cluster: gone}}
              - {match: {prefix: /}, route: {cluster: a, timeout: 0.5s}}
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  - name: tcp
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tcp
          cluster: a
          idle_timeout: 0.5s
  clusters:
  - name: a
    load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: "{{a}}"}}}}]}]}
  - name: gone
    load_assignment: {cluster_name: gone, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: "{{gone}}"}}}}]}]}
`

// stage is a proxy between clients and a scripted upstream.
type stage struct {
	proxy     *harness.Proxy
	upstream  *upstream
	http, tcp string // addresses
}

// each runs f on both engines and looks at what it leaves.
func each(t *testing.T, answer string, f func(*testing.T, *stage)) {
	t.Helper()
	for name, engine := range fibertest.Engines() {
		t.Run(name, func(t *testing.T) {
			newUpstream(t, nil).Close() // what the runtime keeps open, it opens now
			harness.NoLeaks(t, func() {
				s := start(t, engine, says(answer))
				f(t, s)
				s.upstream.Close()
				s.clean(t)
				s.end(t)
			})
		})
	}
}

func start(t *testing.T, engine proxy.Engine, answer answer) *stage {
	t.Helper()
	gone := newUpstream(t, nil)
	gone.Close()
	s := &stage{upstream: newUpstream(t, answer)}
	text := strings.NewReplacer("{{a}}", harness.Port(s.upstream.address), "{{gone}}", harness.Port(gone.address)).Replace(config)
	p, err := harness.New(text, harness.On(engine))
	if err != nil {
		t.Fatal(err)
	}
	s.proxy = harness.Run(t, p).WaitLive()
	s.http, s.tcp = s.proxy.Address("http"), s.proxy.Address("tcp")
	return s
}

func (s *stage) end(t *testing.T) {
	t.Helper()
	s.proxy.Stop()
	if n := s.proxy.Workers[0].Buffers.Lent() + s.proxy.Workers[0].Bulk.Lent(); n != 0 {
		t.Errorf("%d buffers are lent after the end", n)
	}
}

// clean waits until the proxy is at rest and says what is left.
func (s *stage) clean(t *testing.T) {
	t.Helper()
	var left []string
	if !harness.Eventually(func() bool { left = s.left(); return len(left) == 0 }) {
		t.Errorf("left: %s", strings.Join(left, ", "))
	}
}

// left are the gauges of what is under way, and what the worker has lent.
func (s *stage) left() (left []string) {
	for _, v := range s.proxy.Stats.Snapshot(func(name string) bool {
		return strings.HasSuffix(name, "_active") && !strings.HasPrefix(name, "listener_manager.") && !strings.HasPrefix(name, "cluster_manager.") ||
			strings.Contains(name, "circuit_breakers") && strings.HasSuffix(name, "_open") || name == "server.envoy_bug_failures"
	}) {
		if v.Gauge != 0 || v.Kind == stats.KindCounter && v.Counter != 0 {
			left = append(left, v.Name)
		}
	}
	w := s.proxy.Workers[0]
	got := make(chan [2]int, 1)
	w.Post(func() { got <- [2]int{w.Buffers.Lent() + w.Bulk.Lent(), w.Live()} })
	if n := <-got; n[0] != 0 {
		left = append(left, "buffers")
	} else if n[1] != 0 {
		left = append(left, "fibers")
	}
	return left
}

// settle waits until the worker has gone round some times.
func (s *stage) settle() {
	for range 20 {
		done := make(chan struct{})
		s.proxy.Workers[0].Post(func() { close(done) })
		<-done
	}
}

func (s *stage) dial(t *testing.T) net.Conn { t.Helper(); return dial(t, s.http) }

// ask makes one exchange.
func (s *stage) ask(t *testing.T, text string) (int, string, error) {
	t.Helper()
	c := s.dial(t)
	defer func() { _ = c.Close() }()
	write(c, text)
	return read(c)
}

// works says whether an ordinary exchange does.
func (s *stage) works(t *testing.T) {
	t.Helper()
	status, got, err := s.ask(t, request)
	for range 3 { // a connection of the pool may be one that the upstream has just left
		if err == nil && status == 200 {
			break
		}
		status, got, err = s.ask(t, request)
	}
	if err != nil || status != 200 || got != body {
		t.Errorf("afterwards: %d %q %v", status, got, err)
	}
}

// answer answers a request and says whether the connection goes on.
type answer func(c net.Conn, q *http.Request) bool

func says(text string) answer {
	return func(c net.Conn, _ *http.Request) bool { write(c, text); return true }
}

// upstream is a server whose answers can be changed.
type upstream struct {
	*harness.Accept

	address string
	current atomic.Pointer[answer]
}

func newUpstream(t *testing.T, a answer) *upstream {
	t.Helper()
	l := harness.Listen(t, harness.Any)
	u := &upstream{address: l.Addr().String()}
	u.current.Store(&a)
	u.Accept = harness.Serve(t, l, u.serve)
	return u
}

func (u *upstream) answer(a answer) { u.current.Store(&a) }

func (u *upstream) serve(c net.Conn) {
	for r := bufio.NewReader(c); ; {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, q.Body); err != nil || !(*u.current.Load())(c, q) {
			return
		}
	}
}

// limitDescriptors leaves the process n more descriptors than it has.
func limitDescriptors(t *testing.T, n int) (restore func()) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(0) // the lowest that is free, and all below are taken
	if err != nil {
		t.Fatal(err)
	}
	_ = syscall.Close(fd)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(fd + n), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	return func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old) }
}

func connect(fd int, to string) error {
	a, err := netip.ParseAddrPort(to)
	if err != nil {
		return err
	}
	return syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()})
}

// readAll reads up to the end of the response's body.
func readAll(fd int) string {
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 5})
	var got []byte
	for b := make([]byte, 4096); !strings.HasSuffix(string(got), body); {
		n, err := syscall.Read(fd, b)
		if n <= 0 || err != nil {
			break
		}
		got = append(got, b[:n]...)
	}
	return string(got)
}
