package tcpproxy

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	streamlogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/control"
	"github.com/outrigger-proxy/outrigger/internal/drain"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &tcpv3.TcpProxy{}, &typev3.HashPolicy{})
}

// rig is a proxy on one worker, with upstreams on the same one.
type rig struct {
	t         *testing.T
	w         *fiber.Worker
	store     *stats.Store
	clusters  *cluster.Manager
	drain     *drain.Drain
	logged    []string
	listeners []fiber.Listener
}

func each(t *testing.T, f func(r *rig)) {
	t.Helper()
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		r := &rig{t: t, w: w, store: &stats.Store{}, drain: drain.New(nil)}
		r.clusters = cluster.NewManager(cluster.Env{
			Workers: []*fiber.Worker{w}, Stats: r.store, Logs: log.Discard(), Control: control.New(), Runtime: &runtime.Loader{},
		})
		defer r.clusters.Close()
		f(r)
		for _, l := range r.listeners {
			l.Close()
		}
	})
}

// upstream listens and serves each connection on a fiber; it returns the address.
func (r *rig) upstream(serve func(c fiber.Conn)) string {
	r.t.Helper()
	s, err := fiber.Bind(fiber.ListenConfig{Address: fibertest.Loopback()})
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := r.w.Accept(s, fiber.AcceptOptions{}, func(c fiber.Conn) { r.w.Go(func() { serve(c) }) })
	if err != nil {
		r.t.Fatal(err)
	}
	s.Close()
	r.listeners = append(r.listeners, l)
	return s.Address().String()
}

func (r *rig) cluster(name, extra string, addresses ...string) {
	r.t.Helper()
	var endpoints []string
	for _, a := range addresses {
		i := strings.LastIndex(a, ":")
		endpoints = append(endpoints, fmt.Sprintf("{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}", a[:i], a[i+1:]))
	}
	p := &clusterv3.Cluster{}
	text := fmt.Sprintf("name: %s\ntype: STATIC\nconnect_timeout: 1s\nload_assignment: {cluster_name: %s, endpoints: [{lb_endpoints: [%s]}]}\n%s", name, name, strings.Join(endpoints, ", "), extra)
	if unknown, err := protofile.Parse([]byte(text), protofile.YAML, p); err != nil || len(unknown) > 0 {
		r.t.Fatalf("%v %v", err, unknown)
	}
	if err := r.clusters.Add(p, true); err != nil {
		r.t.Fatal(err)
	}
}

// downstream is a connection that the filter has.
type downstream struct {
	fiber.Conn // the client's end

	server *filter.Conn
	ended  int
}

func (r *rig) build(text string) (filter.Terminal, error) {
	p := &tcpv3.TcpProxy{}
	if unknown, err := protofile.Parse([]byte("stat_prefix: p\n"+text), protofile.YAML, p); err != nil || len(unknown) > 0 {
		r.t.Fatalf("%v %v", err, unknown)
	}
	var reg extension.Registry[any, filter.Env]
	extension.Add(&reg, New)
	a, err := anypb.New(p)
	if err != nil {
		r.t.Fatal(err)
	}
	e := &filter.Extensions{}
	extension.Add(&e.Log, func(*streamlogv3.StdoutAccessLog, filter.Env) (filter.AccessLog, error) { return (*recorder)(r), nil })
	v, err := reg.Build(a, filter.Env{
		Process:  &filter.Process{Stats: r.store, Clusters: r.clusters, Extensions: e, Workers: []*fiber.Worker{r.w}},
		Listener: &filter.Listener{Drain: r.drain},
	})
	if err != nil {
		return nil, err
	}
	return v.(filter.Terminal), nil
}

func (r *rig) open(text string, state stream.FilterState) *downstream {
	r.t.Helper()
	f, err := r.build(text)
	if err != nil {
		r.t.Fatal(err)
	}
	client, server := fibertest.Pair(r.t, r.w)
	info := &stream.Conn{Local: server.Local(), Remote: server.Remote(), DirectLocal: server.Local(), DirectRemote: server.Remote(), State: state, Start: r.w.Now()}
	d := &downstream{Conn: client}
	d.server = &filter.Conn{Conn: server, Worker: r.w, Info: info, Ended: func() { d.ended++ }}
	f.Open(d.server)
	return d
}

// recorder is an access logger.
type recorder rig

func (l *recorder) Log(s *stream.Stream) {
	i := &s.Info
	l.logged = append(l.logged, fmt.Sprintf("%s %s %d/%d attempts=%d close=%s/%s %s", i.LogType, i.Flags, i.BytesIn, i.BytesOut, i.Upstream.Attempts, i.Conn.CloseType, i.Conn.LocalClose, i.Upstream.Failure))
}

const logs = "access_log: [{name: l, typed_config: {'@type': type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog}}]\n"

func (r *rig) stat(name string) uint64 {
	for _, st := range r.store.Snapshot(func(n string) bool { return n == name }) {
		return st.Counter + uint64(st.Gauge)
	}
	return 0
}

func (r *rig) says(c fiber.Conn, text string) {
	r.t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		r.t.Fatal(err)
	}
	r.hears(c, text)
}

func (r *rig) hears(c fiber.Conn, text string) {
	r.t.Helper()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		r.t.Fatalf("got %q %v, want %q", b, err, text)
	}
}

// over waits for the end of the session and closes the client's end.
func (r *rig) over(d *downstream) error {
	_, err := d.Read(make([]byte, 1))
	_ = d.Close()
	for range 1000 {
		if d.ended > 0 {
			break
		}
		_ = r.w.Sleep(time.Millisecond)
	}
	if d.ended != 1 {
		r.t.Errorf("ended %d times", d.ended)
	}
	return err
}

func echo(c fiber.Conn) {
	b := make([]byte, 1000)
	for {
		n, err := c.Read(b)
		if err != nil {
			break
		}
		if _, err := c.Write(b[:n]); err != nil {
			break
		}
	}
	_ = c.Close()
}

func greet(text string) func(fiber.Conn) {
	return func(c fiber.Conn) {
		_, _ = c.Write([]byte(text))
		_ = c.Close()
	}
}

func TestBytesGoBothWays(t *testing.T) {
	each(t, func(r *rig) {
		r.cluster("c", "", r.upstream(echo))
		d := r.open("cluster: c\n"+logs+"access_log_options: {flush_access_log_on_start: true, flush_access_log_on_connected: true}", nil)
		r.says(d, "hello")
		r.says(d, "world")
		_ = d.CloseWrite()
		if err := r.over(d); err != io.EOF {
			t.Errorf("got %v", err)
		}
		want := "TcpConnectionStart - 0/0 attempts=0 close=/ |TcpUpstreamConnected - 0/0 attempts=1 close=/ |TcpConnectionEnd - 10/10 attempts=1 close=/ "
		if got := strings.Join(r.logged, "|"); got != want {
			t.Errorf("logged\n%s, want\n%s", got, want)
		}
		if r.stat("tcp.p.downstream_cx_total") != 1 || r.stat("tcp.p.downstream_cx_rx_bytes_total") != 10 || r.stat("tcp.p.downstream_cx_tx_bytes_total") != 10 ||
			r.stat("cluster.c.upstream_cx_tx_bytes_total") != 10 || r.stat("cluster.c.upstream_cx_active") != 0 {
			t.Error("it is not counted")
		}
	})
}

func TestHalfClose(t *testing.T) {
	each(t, func(r *rig) {
		r.cluster("c", "", r.upstream(func(c fiber.Conn) {
			b, _ := io.ReadAll(c)
			_, _ = fmt.Fprintf(c, "%d bytes", len(b))
			_ = c.Close()
		}))
		d := r.open("cluster: c", nil)
		_, _ = d.Write([]byte("12345"))
		_ = d.CloseWrite()
		r.hears(d, "5 bytes")
		if err := r.over(d); err != io.EOF {
			t.Errorf("got %v", err)
		}
	})
}

func TestResets(t *testing.T) {
	each(t, func(r *rig) {
		var seen error
		r.cluster("c", "", r.upstream(func(c fiber.Conn) {
			_, seen = c.Read(make([]byte, 1))
			_ = c.Close()
		}))
		d := r.open("cluster: c\n"+logs, nil)
		_ = r.w.Sleep(20 * time.Millisecond)
		d.Abort()
		_ = r.w.Sleep(50 * time.Millisecond)
		if !errors.Is(seen, syscall.ECONNRESET) || d.ended != 1 {
			t.Errorf("the host saw %v; ended %d times", seen, d.ended)
		}

		r.cluster("rst", "", r.upstream(func(c fiber.Conn) { _, _ = c.Read(make([]byte, 1)); c.Abort() }))
		d = r.open("cluster: rst\n"+logs, nil)
		_, _ = d.Write([]byte("x"))
		if err := r.over(d); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client saw %v", err)
		}
		want := "TcpConnectionEnd - 0/0 attempts=1 close=RemoteReset/ |TcpConnectionEnd UR 1/0 attempts=1 close=LocalReset/ "
		if got := strings.Join(r.logged, "|"); got != want {
			t.Errorf("logged\n%s, want\n%s", got, want)
		}
	})
}

func TestBulk(t *testing.T) {
	each(t, func(r *rig) {
		const size = 8 << 20
		r.cluster("c", "", r.upstream(func(c fiber.Conn) {
			b := make([]byte, 1<<16)
			for sent := 0; sent < size; sent += len(b) {
				if _, err := c.Write(b); err != nil {
					break
				}
			}
			_ = c.Close()
		}))
		d := r.open("cluster: c", nil)
		_ = d.CloseWrite()
		n, err := io.Copy(io.Discard, d)
		if n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		_ = r.over(d)
		if got := r.stat("tcp.p.downstream_cx_tx_bytes_total"); got != size {
			t.Errorf("%d bytes are counted", got)
		}
	})
}

func TestNoUpstreamConnection(t *testing.T) {
	for _, c := range []struct{ config, cluster, logged, stat string }{
		{"cluster: x", "", "NC 0/0 attempts=0 close=/tcp_initializion_failure:3 ", "tcp.p.downstream_cx_no_route"},
		{"cluster: c", "none", "UH 0/0 attempts=0 close=/tcp_initializion_failure:1 ", "cluster.c.upstream_cx_none_healthy"},
		{"cluster: c", "full", "UO 0/0 attempts=0 close=/tcp_initializion_failure:2 ", "cluster.c.upstream_cx_overflow"},
		{"cluster: c", "dead", "UF,URX 0/0 attempts=1 close=/tcp_initializion_failure:0 delayed connect error: Connection refused", "cluster.c.upstream_cx_connect_attempts_exceeded"},
		{"cluster: c\nmax_connect_attempts: 3\nbackoff_options: {base_interval: 0.001s}", "dead", "UF,URX 0/0 attempts=3 close=/tcp_initializion_failure:0 delayed connect error: Connection refused", "cluster.c.upstream_cx_connect_attempts_exceeded"},
	} {
		each(t, func(r *rig) {
			switch c.cluster {
			case "none":
				r.cluster("c", "")
			case "full":
				r.cluster("c", "circuit_breakers: {thresholds: [{max_connections: 0}]}", r.upstream(echo))
			case "dead":
				at := r.upstream(echo)
				r.listeners[0].Close()
				r.listeners = nil
				r.cluster("c", "", at)
			}
			if err := r.over(r.open(c.config+"\n"+logs, nil)); err != io.EOF {
				t.Errorf("got %v", err)
			}
			if got, want := strings.Join(r.logged, "|"), "TcpConnectionEnd "+c.logged; got != want {
				t.Errorf("logged\n%s, want\n%s", got, want)
			}
			if r.stat(c.stat) != 1 {
				t.Errorf("%s is not counted", c.stat)
			}
		})
	}
}

func TestAnotherAttemptFindsAnotherHost(t *testing.T) {
	each(t, func(r *rig) {
		dead := r.upstream(echo)
		r.listeners[0].Close()
		r.listeners = nil
		r.cluster("c", "", dead, r.upstream(greet("hi")))
		for range 4 {
			d := r.open("cluster: c\nmax_connect_attempts: 2", nil)
			r.hears(d, "hi")
			_ = r.over(d)
		}
	})
}

func TestTimeouts(t *testing.T) {
	for config, want := range map[string]string{
		"idle_timeout: 0.03s":                       "TcpConnectionEnd - 1/1 attempts=1 close=/tcp_session_idle_timeout ",
		"max_downstream_connection_duration: 0.03s": "TcpConnectionEnd DT 1/1 attempts=1 close=/max_connection_duration_reached ",
		"access_log_options: {access_log_flush_interval: 0.02s}\nidle_timeout: 0.03s": "TcpPeriodic - 1/1 attempts=1 close=/ |TcpConnectionEnd - 1/1 attempts=1 close=/tcp_session_idle_timeout ",
	} {
		each(t, func(r *rig) {
			r.cluster("c", "", r.upstream(echo))
			d := r.open("cluster: c\n"+logs+config, nil)
			r.says(d, "x")
			if err := r.over(d); err != io.EOF {
				t.Errorf("got %v", err)
			}
			if got := strings.Join(r.logged, "|"); got != want {
				t.Errorf("%s: logged\n%s, want\n%s", config, got, want)
			}
		})
	}
}

func TestActivityMovesTheIdleTimeout(t *testing.T) {
	each(t, func(r *rig) {
		r.cluster("c", "", r.upstream(echo))
		d := r.open("cluster: c", stream.FilterState{IdleState: uint64(400)})
		for range 4 {
			r.says(d, "x")
			_ = r.w.Sleep(150 * time.Millisecond)
		}
		if d.ended != 0 {
			t.Error("it was not idle")
		}
		_ = r.over(d)
		if r.stat("tcp.p.idle_timeout") != 1 {
			t.Error("it is not counted")
		}
	})
}

func TestClusterOfTheFilterState(t *testing.T) {
	each(t, func(r *rig) {
		r.cluster("a", "", r.upstream(greet("a")))
		r.cluster("b", "", r.upstream(greet("b")))
		d := r.open("cluster: a", stream.FilterState{ClusterState: "b"})
		r.hears(d, "b")
		_ = r.over(d)
	})
}

func TestConnectOnData(t *testing.T) {
	each(t, func(r *rig) {
		r.cluster("c", "", r.upstream(echo))
		const config = "cluster: c\nupstream_connect_mode: ON_DOWNSTREAM_DATA\nmax_early_data_bytes: 10"
		d := r.open(config, nil)
		_ = r.w.Sleep(10 * time.Millisecond)
		if r.stat("cluster.c.upstream_cx_total") != 0 {
			t.Error("it did not wait for data")
		}
		r.says(d, "hello")
		if r.stat("tcp.p.early_data_received_count_total") != 1 {
			t.Error("early data is not counted")
		}
		_ = d.CloseWrite()
		_ = r.over(d)
		d = r.open(config, nil)
		_ = d.CloseWrite()
		if err := r.over(d); err != io.EOF || r.stat("cluster.c.upstream_cx_total") != 1 {
			t.Errorf("got %v", err)
		}
	})
}

func TestDrop(t *testing.T) {
	each(t, func(r *rig) {
		r.cluster("c", "", r.upstream(echo))
		d := r.open("cluster: c", nil)
		r.says(d, "x")
		d.server.Drop()
		d.server.Drop()
		if err := r.over(d); err != io.EOF {
			t.Errorf("got %v", err)
		}
		d = r.open("cluster: c", nil)
		d.server.Drop() // while it connects
		_ = r.over(d)
	})
}

func TestCheckDrainClose(t *testing.T) {
	each(t, func(r *rig) {
		r.cluster("c", "", r.upstream(echo))
		d := r.open("cluster: c\ncheck_drain_close: true", nil)
		r.says(d, "x")
		r.drain.Start(0, true)
		_, _ = d.Write([]byte("y"))
		_ = r.over(d)
		if r.stat("tcp.p.downstream_cx_drain_close") != 1 {
			t.Error("it is not counted")
		}
	})
}

func TestRefusals(t *testing.T) {
	each(t, func(r *rig) {
		for config, want := range map[string]string{
			"cluster: c\ntunneling_config: {hostname: x}":                        "tunneling_config: tunnels over HTTP are not supported",
			"cluster: c\non_demand: {odcds_config: {ads: {}}}":                   "on_demand.odcds_config: on-demand discovery of clusters is not supported",
			"cluster: c\nupstream_connect_mode: ON_DOWNSTREAM_DATA":              "max_early_data_bytes: is required when upstream_connect_mode is not IMMEDIATE",
			"cluster: c\nbackoff_options: {base_interval: 2s, max_interval: 1s}": "backoff_options.max_interval: max_interval must be greater than or equal to base_interval",
			"cluster: c\nhash_policy: [{}]":                                      "hash_policy[0]: <nil> is not supported",
			"cluster: c\nproxy_protocol_tlvs: [{type: 300, value: YQ==}]":        "proxy_protocol_tlvs[0].type: 300 is more than 255",
			"cluster: c\nproxy_protocol_tlvs: [{type: 3}]":                       "proxy_protocol_tlvs[0]: one of value or format_string must be set",
			"idle_timeout: 1s": "cluster_specifier: cluster or weighted_clusters is required",
		} {
			if _, err := r.build(config); err == nil || err.Error() != want {
				t.Errorf("%s\n got %v\nwant %s", config, err, want)
			}
		}
	})
}
