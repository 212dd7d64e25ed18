package admin

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// listenerStats are listener.admin.*. What cannot happen to this listener is shown as 0, because Envoy shows it.
type listenerStats struct {
	Total            stats.Counter   `stat:"downstream_cx_total"`
	Active           stats.Gauge     `stat:"downstream_cx_active"`
	Destroy          stats.Counter   `stat:"downstream_cx_destroy"`
	Length           stats.Histogram `stat:"downstream_cx_length_ms"`
	ThreadTotal      stats.Counter   `stat:"main_thread.downstream_cx_total"`
	ThreadActive     stats.Gauge     `stat:"main_thread.downstream_cx_active"`
	NoFilterChain    stats.Counter   `stat:"no_filter_chain_match"`
	Overflow         stats.Counter   `stat:"downstream_cx_overflow"`
	OverloadReject   stats.Counter   `stat:"downstream_cx_overload_reject"`
	TransportTimeout stats.Counter   `stat:"downstream_cx_transport_socket_connect_timeout"`
	GlobalOverflow   stats.Counter   `stat:"downstream_global_cx_overflow"`
	FilterError      stats.Counter   `stat:"downstream_listener_filter_error"`
	RemoteClose      stats.Counter   `stat:"downstream_listener_filter_remote_close"`
	PreActive        stats.Gauge     `stat:"downstream_pre_cx_active"`
	PreTimeout       stats.Counter   `stat:"downstream_pre_cx_timeout"`
	PerEvent         stats.Histogram `stat:"connections_accepted_per_socket_event"`
	Responses        stats.Classes   `stat:"http.admin.downstream_rq_"`
}

// httpStats are http.admin.*, those of a connection manager.
type httpStats struct {
	Connections       stats.Counter   `stat:"downstream_cx_total"`
	HTTP1Connections  stats.Counter   `stat:"downstream_cx_http1_total"`
	HTTP2Connections  stats.Counter   `stat:"downstream_cx_http2_total"`
	HTTP3Connections  stats.Counter   `stat:"downstream_cx_http3_total"`
	SSLConnections    stats.Counter   `stat:"downstream_cx_ssl_total"`
	Upgrades          stats.Counter   `stat:"downstream_cx_upgrades_total"`
	Active            stats.Gauge     `stat:"downstream_cx_active"`
	HTTP1Active       stats.Gauge     `stat:"downstream_cx_http1_active"`
	HTTP2Active       stats.Gauge     `stat:"downstream_cx_http2_active"`
	HTTP3Active       stats.Gauge     `stat:"downstream_cx_http3_active"`
	SSLActive         stats.Gauge     `stat:"downstream_cx_ssl_active"`
	UpgradesActive    stats.Gauge     `stat:"downstream_cx_upgrades_active"`
	Destroy           stats.Counter   `stat:"downstream_cx_destroy"`
	DestroyActive     stats.Counter   `stat:"downstream_cx_destroy_active_rq"`
	DestroyLocal      stats.Counter   `stat:"downstream_cx_destroy_local"`
	DestroyLocalRq    stats.Counter   `stat:"downstream_cx_destroy_local_active_rq"`
	DestroyRemote     stats.Counter   `stat:"downstream_cx_destroy_remote"`
	DestroyRemoteRq   stats.Counter   `stat:"downstream_cx_destroy_remote_active_rq"`
	DelayedClose      stats.Counter   `stat:"downstream_cx_delayed_close_timeout"`
	DrainClose        stats.Counter   `stat:"downstream_cx_drain_close"`
	SoftDrain         stats.Counter   `stat:"downstream_cx_http1_soft_drain"`
	IdleTimeout       stats.Counter   `stat:"downstream_cx_idle_timeout"`
	MaxDuration       stats.Counter   `stat:"downstream_cx_max_duration_reached"`
	MaxRequests       stats.Counter   `stat:"downstream_cx_max_requests_reached"`
	Overload          stats.Counter   `stat:"downstream_cx_overload_disable_keepalive"`
	ProtocolError     stats.Counter   `stat:"downstream_cx_protocol_error"`
	RxBytes           stats.Counter   `stat:"downstream_cx_rx_bytes_total"`
	TxBytes           stats.Counter   `stat:"downstream_cx_tx_bytes_total"`
	RxBuffered        stats.Gauge     `stat:"downstream_cx_rx_bytes_buffered"`
	TxBuffered        stats.Gauge     `stat:"downstream_cx_tx_bytes_buffered"`
	Length            stats.Histogram `stat:"downstream_cx_length_ms"`
	FlowPaused        stats.Counter   `stat:"downstream_flow_control_paused_reading_total"`
	FlowResumed       stats.Counter   `stat:"downstream_flow_control_resumed_reading_total"`
	Requests          stats.Counter   `stat:"downstream_rq_total"`
	HTTP1Requests     stats.Counter   `stat:"downstream_rq_http1_total"`
	HTTP2Requests     stats.Counter   `stat:"downstream_rq_http2_total"`
	HTTP3Requests     stats.Counter   `stat:"downstream_rq_http3_total"`
	RequestsActive    stats.Gauge     `stat:"downstream_rq_active"`
	Time              stats.Histogram `stat:"downstream_rq_time"`
	BadPath           stats.Counter   `stat:"downstream_rq_failed_path_normalization"`
	HeaderTimeout     stats.Counter   `stat:"downstream_rq_header_timeout"`
	RqIdleTimeout     stats.Counter   `stat:"downstream_rq_idle_timeout"`
	RqMaxDuration     stats.Counter   `stat:"downstream_rq_max_duration_reached"`
	NonRelativePath   stats.Counter   `stat:"downstream_rq_non_relative_path"`
	RqOverload        stats.Counter   `stat:"downstream_rq_overload_close"`
	RedirectedPath    stats.Counter   `stat:"downstream_rq_redirected_with_normalized_path"`
	RejectedIP        stats.Counter   `stat:"downstream_rq_rejected_via_ip_detection"`
	EarlyResponse     stats.Counter   `stat:"downstream_rq_response_before_rq_complete"`
	RxReset           stats.Counter   `stat:"downstream_rq_rx_reset"`
	TxReset           stats.Counter   `stat:"downstream_rq_tx_reset"`
	RqTimeout         stats.Counter   `stat:"downstream_rq_timeout"`
	TooLarge          stats.Counter   `stat:"downstream_rq_too_large"`
	PrematureResets   stats.Counter   `stat:"downstream_rq_too_many_premature_resets"`
	UpgradeForbidden  stats.Counter   `stat:"downstream_rq_ws_on_non_ws_route"`
	ResponsesTooLarge stats.Counter   `stat:"rs_too_large"`
	Responses         stats.Classes   `stat:"downstream_rq_"`
}

// counters are the statistics of the admin interface itself.
type counters struct {
	listener *listenerStats
	http     *httpStats

	mu     sync.Mutex
	opened map[net.Conn]time.Time // guarded by mu
}

func newCounters(s *stats.Store) *counters {
	return &counters{
		listener: stats.New[listenerStats](s.Root().Sub("listener").Sub("admin")),
		http:     stats.New[httpStats](s.Root().Sub("http").Sub("admin")),
		opened:   map[net.Conn]time.Time{},
	}
}

// connection is told of the states that a connection comes to.
func (c *counters) connection(conn net.Conn, s http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s {
	case http.StateNew:
		c.opened[conn] = time.Now()
		c.active(1)
	case http.StateClosed, http.StateHijacked:
		length := uint64(time.Since(c.opened[conn]).Milliseconds())
		delete(c.opened, conn)
		c.active(-1)
		c.listener.Destroy.Inc()
		c.http.Destroy.Inc()
		if counted, ok := conn.(*countedConn); ok && counted.ended.Load() {
			c.http.DestroyRemote.Inc()
		} else {
			c.http.DestroyLocal.Inc()
		}
		c.listener.Length.Record(length)
		c.http.Length.Record(length)
	}
}

func (c *counters) active(n int64) {
	for _, g := range []*stats.Gauge{&c.listener.Active, &c.listener.ThreadActive, &c.http.Active, &c.http.HTTP1Active} {
		g.Add(n)
	}
	if n > 0 {
		for _, t := range []*stats.Counter{&c.listener.Total, &c.listener.ThreadTotal, &c.http.Connections, &c.http.HTTP1Connections} {
			t.Inc()
		}
	}
}

// begin counts a request that has arrived.
func (c *counters) begin() {
	c.http.Requests.Inc()
	c.http.HTTP1Requests.Inc()
	c.http.RequestsActive.Inc()
}

// end counts the response to it, which is about to go out.
func (c *counters) end(status int, began time.Time) {
	c.http.RequestsActive.Dec()
	c.http.Time.Record(uint64(time.Since(began).Milliseconds()))
	c.http.Responses.Count(status)
	c.listener.Responses.Count(status)
}

// countedListener counts the bytes of its connections.
type countedListener struct {
	net.Listener

	counters *counters
}

// Accept waits for the next connection.
func (l *countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: c, counters: l.counters}, nil
}

type countedConn struct {
	net.Conn

	counters *counters
	ended    atomic.Bool // by the peer
}

// Read counts what has come, and notes the end.
func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.counters.http.RxBytes.Add(uint64(n))
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		c.ended.Store(true)
	}
	return n, err
}

// Write counts what has gone.
func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.counters.http.TxBytes.Add(uint64(n))
	return n, err
}
