// Package tcpproxy is envoy.filters.network.tcp_proxy
// (type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy): it moves bytes between a downstream connection and one
// to a host of a cluster. It is a terminal filter.
//
// A session owns a fiber and a buffer only while bytes move. Half-close and resets are passed on, both ways.
//
// Differences from Envoy: tunneling_config and on_demand are refused; nothing is buffered beyond one slab per direction, so the
// statistics of buffered bytes and of flow control stay zero; max_early_data_bytes bounds nothing, because early data stays in the
// socket until the upstream connection is there.
package tcpproxy

import (
	"fmt"

	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/drain"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Keys of the filter state that change what a connection gets.
const (
	// ClusterState holds the name of a cluster (a string or a fmt.Stringer) that takes the place of the configured one.
	ClusterState = stream.TCPClusterState
	// IdleState holds an idle timeout in milliseconds (a number as uint64, or as text).
	IdleState = "envoy.tcp_proxy.per_connection_idle_timeout_ms"
)

type proxyStats struct {
	DrainClose       stats.Counter `stat:"downstream_cx_drain_close"`
	NoRoute          stats.Counter `stat:"downstream_cx_no_route"`
	OverloadClose    stats.Counter `stat:"downstream_cx_overload_close"`
	RxBuffered       stats.Gauge   `stat:"downstream_cx_rx_bytes_buffered"`
	RxBytes          stats.Counter `stat:"downstream_cx_rx_bytes_total"`
	Total            stats.Counter `stat:"downstream_cx_total"`
	TxBuffered       stats.Gauge   `stat:"downstream_cx_tx_bytes_buffered"`
	TxBytes          stats.Counter `stat:"downstream_cx_tx_bytes_total"`
	PausedReading    stats.Counter `stat:"downstream_flow_control_paused_reading_total"`
	ResumedReading   stats.Counter `stat:"downstream_flow_control_resumed_reading_total"`
	EarlyData        stats.Counter `stat:"early_data_received_count_total"`
	IdleTimeout      stats.Counter `stat:"idle_timeout"`
	MaxDuration      stats.Counter `stat:"max_downstream_connection_duration"`
	RouteDelayed     stats.Counter `stat:"route_delayed_total"`
	UpstreamFlushing stats.Gauge   `stat:"upstream_flush_active"`
	UpstreamFlushed  stats.Counter `stat:"upstream_flush_total"`
}

// proxy is the terminal network filter.
type proxy struct {
	*config

	clusters *cluster.Manager
	loggers  filter.Loggers
	drain    *drain.Drain
	stats    *proxyStats
}

// New builds it.
func New(p *tcpv3.TcpProxy, env filter.Env) (any, error) {
	c, err := parse(p)
	if err != nil {
		return nil, err
	}
	loggers, err := filter.NewLoggers(p.GetAccessLog(), env)
	if err != nil {
		return nil, fmt.Errorf("access_log%w", err)
	}
	return &proxy{
		config: c, clusters: env.Clusters, loggers: loggers, drain: env.Listener.Drain,
		stats: stats.New[proxyStats](env.Stats.Root().Sub("tcp").Sub(stats.Sanitize(c.prefix))),
	}, nil
}

// Open takes a connection over.
func (p *proxy) Open(c *filter.Conn) { newSession(p, c).begin() }
