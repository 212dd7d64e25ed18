package hcm_test

import (
	"strings"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

const tunnels = logs + `
stat_prefix: test
delayed_close_timeout: 0.01s
upgrade_configs: [{upgrade_type: websocket}, {upgrade_type: CONNECT}, {upgrade_type: private, enabled: false}]
access_log_options: {flush_log_on_tunnel_successfully_established: true}
route_config:
  virtual_hosts:
  - name: v
    domains: ['*']
    routes:
    - match: {connect_matcher: {}}
      route: {cluster: up, upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]}
    - match: {path: /idle}
      route: {cluster: up, idle_timeout: 0.2s}
    - match: {path: /short}
      route: {cluster: up, max_stream_duration: {max_stream_duration: 0.2s}}
    - match: {path: /timeout}
      route: {cluster: up, timeout: 0.001s}
    - match: {prefix: /}
      route: {cluster: up}
`

const switching = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n"

func websocket(path string) string {
	return "GET " + path + " HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
}

const established = "DownstreamTunnelSuccessfullyEstablished "

// parrot grants upgrades and says what it hears, until "bye".
func parrot(_ int, heard string) string {
	switch {
	case strings.HasPrefix(heard, "GET /refuse"):
		return "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno"
	case strings.HasPrefix(heard, "GET /ignore"):
		return "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-own: 1\r\n\r\nno"
	case strings.HasPrefix(heard, "GET /"):
		return switching
	case heard == "bye":
		return ""
	}
	return heard
}

func TestTunnels(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		last  string // what came last
		log   string
		stats map[string]uint64
	}{
		{
			"the client leaves",
			[]string{websocket("/"), "\r\n\r\n", "hello", "hello", "again", "again"},
			"again",
			"DownstreamEnd 101 DC downstream_remote_disconnect in=10 out=10",
			map[string]uint64{
				"http.test.downstream_rq_rx_reset": 1, "http.test.downstream_rq_tx_reset": 0, "http.test.downstream_cx_destroy_remote_active_rq": 1,
				"http.test.downstream_cx_upgrades_total": 1, "http.test.downstream_cx_upgrades_active": 0, "http.test.downstream_rq_active": 0,
				"cluster.up.upstream_cx_destroy_local_with_active_rq": 1, "cluster.up.upstream_rq_active": 0,
			},
		},
		{
			"the host leaves",
			[]string{websocket("/"), "\r\n\r\n", "bye", "EOF"},
			"EOF",
			"DownstreamEnd 101 UC upstream_reset_after_response_started{connection_termination} in=3 out=0",
			map[string]uint64{
				"http.test.downstream_rq_rx_reset": 1, "http.test.downstream_rq_tx_reset": 1,
				"cluster.up.upstream_cx_destroy_remote_with_active_rq": 1,
			},
		},
		{
			"early data",
			[]string{websocket("/") + "early", "early"},
			switching[:len(switching)-2] + "server: envoy\r\n\r\nearly",
			"DownstreamEnd 101 DC downstream_remote_disconnect in=5 out=5", nil,
		},
		{
			"idle",
			[]string{websocket("/idle"), "\r\n\r\n", "hello", "hello", "", "EOF"},
			"EOF",
			"DownstreamEnd 101 SI stream_idle_timeout in=5 out=5",
			map[string]uint64{"http.test.downstream_rq_idle_timeout": 1},
		},
		{
			"max_stream_duration",
			[]string{websocket("/short"), "\r\n\r\n", "", "EOF"},
			"EOF",
			"DownstreamEnd 101  max_duration_timeout in=0 out=0",
			map[string]uint64{"http.test.downstream_rq_max_duration_reached": 1},
		},
		{
			"CONNECT ends here",
			[]string{"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", "\r\n\r\n", "hello", "hello", "bye", "EOF"},
			"EOF",
			"DownstreamEnd 200  via_upstream in=8 out=5",
			map[string]uint64{"cluster.up.upstream_cx_tx_bytes_total": 8, "cluster.up.upstream_cx_rx_bytes_total": 5},
		},
	} {
		for engine, start := range engines {
			t.Run(c.name+"/"+engine, func(t *testing.T) {
				h := newHouse(t, start, tunnels, upstream(t, parrot))
				if got := h.converse(c.lines...); plain(got) != c.last {
					t.Errorf("got %q, want %q", got, c.last)
				}
				if got := h.log(); !strings.HasPrefix(got, established) {
					t.Errorf("logged %q", got)
				}
				if got := h.log(); strings.ReplaceAll(got, " - ", "  ") != c.log {
					t.Errorf("logged %q, want %q", got, c.log)
				}
				h.settle()
				h.wants(c.stats)
			})
		}
	}
}

// settle waits until no connection is open, so that all books are closed.
func (h *house) settle() {
	done := make(chan struct{})
	h.w.Post(func() {
		h.w.Go(func() {
			for h.stat("http.test.downstream_cx_active") != 0 && h.w.Sleep(1e6) == nil {
			}
			close(done)
		})
	})
	<-done
}

func TestUpgradeIsNotGranted(t *testing.T) {
	for _, c := range []struct{ name, request, want, log string }{
		{
			"by the host", websocket("/refuse"), "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nserver: envoy\r\nconnection: close\r\n\r\nno",
			"DownstreamEnd 404 - via_upstream in=0 out=2",
		},
		{
			"by a host that does not know of it", websocket("/ignore"), "HTTP/1.1 200 OK\r\nx-own: 1\r\nserver: envoy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
			"DownstreamEnd 200 - websocket_handshake_unsuccessful in=0 out=0",
		},
		{
			"by configuration", "GET / HTTP/1.1\r\nhost: a\r\nupgrade: private\r\nconnection: upgrade\r\n\r\n",
			"HTTP/1.1 403 Forbidden\r\nserver: envoy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", "DownstreamEnd 403 - upgrade_failed in=0 out=0",
		},
	} {
		for engine, start := range engines {
			t.Run(c.name+"/"+engine, func(t *testing.T) {
				h := newHouse(t, start, tunnels, upstream(t, parrot))
				if got := plain(h.talk(c.request, 0)); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
				if got := h.log(); got != c.log {
					t.Errorf("logged %q, want %q", got, c.log)
				}
				h.settle()
				h.wants(map[string]uint64{"cluster.up.upstream_cx_active": 0}) // it may not be used again
			})
		}
	}
}

func TestIdleTunnelHoldsNoFiber(t *testing.T) {
	h := newHouse(t, fiber.New, tunnels, upstream(t, parrot))
	ends := make(chan fiber.Conn, 1)
	answer := make(chan string)
	h.w.Post(func() {
		a, b := fiber.Pipe(h.w)
		h.open(b)
		ends <- a
		h.w.Go(func() {
			b := make([]byte, 4096)
			n, _ := a.Read(b)
			answer <- string(b[:n])
		})
		h.w.Go(func() { _, _ = a.Write([]byte(websocket("/"))) })
	})
	if got := plain(<-answer); !strings.HasPrefix(got, switching[:20]) {
		t.Fatalf("got %q", got)
	}
	live := make(chan int)
	for n := -1; n != 0; {
		h.w.Post(func() { live <- h.w.Live() })
		n = <-live
	}
	a := <-ends
	h.w.Post(func() { _ = a.Close() })
	h.settle()
}

// At the end of the drain time the listener ends tunnels and connections that rest.
func TestDrop(t *testing.T) {
	for engine, start := range engines {
		t.Run(engine, func(t *testing.T) {
			h := newHouse(t, start, tunnels, upstream(t, parrot))
			got := make(chan string)
			h.w.Post(func() {
				a, b := fiber.Pipe(h.w)
				c := h.open(b)
				h.w.Go(func() {
					got <- converse(a, []string{websocket("/"), "\r\n\r\n", "hello", "hello", "", "EOF"})
				})
				h.w.Go(func() {
					for h.stat("cluster.up.upstream_cx_tx_bytes_total") == 0 && h.stat("http.test.downstream_cx_upgrades_active") == 0 && h.w.Sleep(1e6) == nil {
					}
					_ = h.w.Sleep(5e6)
					c.Drop()
				})
			})
			if s := <-got; s != "EOF" {
				t.Errorf("got %q", s)
			}
			h.log() // established
			if got := h.log(); !strings.HasPrefix(got, "DownstreamEnd 101 DC downstream_local_disconnect") {
				t.Errorf("logged %q", got)
			}
			h.settle()
			h.wants(map[string]uint64{"http.test.downstream_cx_destroy_local": 1, "http.test.downstream_cx_upgrades_active": 0})
		})
	}
}
