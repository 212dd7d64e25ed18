package hcm

import (
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// connStats are the statistics of connections and streams below http.<stat_prefix>.
type connStats struct {
	CxTotal               stats.Counter   `stat:"downstream_cx_total"`
	CxActive              stats.Gauge     `stat:"downstream_cx_active"`
	CxHTTP1Total          stats.Counter   `stat:"downstream_cx_http1_total"`
	CxHTTP1Active         stats.Gauge     `stat:"downstream_cx_http1_active"`
	CxHTTP2Total          stats.Counter   `stat:"downstream_cx_http2_total"`
	CxHTTP2Active         stats.Gauge     `stat:"downstream_cx_http2_active"`
	CxHTTP3Total          stats.Counter   `stat:"downstream_cx_http3_total"`
	CxHTTP3Active         stats.Gauge     `stat:"downstream_cx_http3_active"`
	CxSSLTotal            stats.Counter   `stat:"downstream_cx_ssl_total"`
	CxSSLActive           stats.Gauge     `stat:"downstream_cx_ssl_active"`
	CxUpgradesTotal       stats.Counter   `stat:"downstream_cx_upgrades_total"`
	CxUpgradesActive      stats.Gauge     `stat:"downstream_cx_upgrades_active"`
	CxDestroy             stats.Counter   `stat:"downstream_cx_destroy"`
	CxDestroyLocal        stats.Counter   `stat:"downstream_cx_destroy_local"`
	CxDestroyRemote       stats.Counter   `stat:"downstream_cx_destroy_remote"`
	CxDestroyActive       stats.Counter   `stat:"downstream_cx_destroy_active_rq"`
	CxDestroyLocalActive  stats.Counter   `stat:"downstream_cx_destroy_local_active_rq"`
	CxDestroyRemoteActive stats.Counter   `stat:"downstream_cx_destroy_remote_active_rq"`
	CxDelayedClose        stats.Counter   `stat:"downstream_cx_delayed_close_timeout"`
	CxDrainClose          stats.Counter   `stat:"downstream_cx_drain_close"`
	CxSoftDrain           stats.Counter   `stat:"downstream_cx_http1_soft_drain"`
	CxIdle                stats.Counter   `stat:"downstream_cx_idle_timeout"`
	CxMaxDuration         stats.Counter   `stat:"downstream_cx_max_duration_reached"`
	CxMaxRequests         stats.Counter   `stat:"downstream_cx_max_requests_reached"`
	CxOverload            stats.Counter   `stat:"downstream_cx_overload_disable_keepalive"`
	CxProtocolError       stats.Counter   `stat:"downstream_cx_protocol_error"`
	CxLength              stats.Histogram `stat:"downstream_cx_length_ms"`
	CxRx                  stats.Counter   `stat:"downstream_cx_rx_bytes_total"`
	CxTx                  stats.Counter   `stat:"downstream_cx_tx_bytes_total"`
	CxRxBuffered          stats.Gauge     `stat:"downstream_cx_rx_bytes_buffered"`
	CxTxBuffered          stats.Gauge     `stat:"downstream_cx_tx_bytes_buffered"`
	FlowPaused            stats.Counter   `stat:"downstream_flow_control_paused_reading_total"`
	FlowResumed           stats.Counter   `stat:"downstream_flow_control_resumed_reading_total"`

	RqTotal            stats.Counter   `stat:"downstream_rq_total"`
	RqHTTP1            stats.Counter   `stat:"downstream_rq_http1_total"`
	RqHTTP2            stats.Counter   `stat:"downstream_rq_http2_total"`
	RqHTTP3            stats.Counter   `stat:"downstream_rq_http3_total"`
	RqActive           stats.Gauge     `stat:"downstream_rq_active"`
	RqTime             stats.Histogram `stat:"downstream_rq_time"`
	RqRxReset          stats.Counter   `stat:"downstream_rq_rx_reset"`
	RqTxReset          stats.Counter   `stat:"downstream_rq_tx_reset"`
	RqTooLarge         stats.Counter   `stat:"downstream_rq_too_large"`
	RqNonRelative      stats.Counter   `stat:"downstream_rq_non_relative_path"`
	RqBadPath          stats.Counter   `stat:"downstream_rq_failed_path_normalization"`
	RqRedirectedPath   stats.Counter   `stat:"downstream_rq_redirected_with_normalized_path"`
	RqRejectedIP       stats.Counter   `stat:"downstream_rq_rejected_via_ip_detection"`
	RqEarlyResponse    stats.Counter   `stat:"downstream_rq_response_before_rq_complete"`
	RqIdle             stats.Counter   `stat:"downstream_rq_idle_timeout"`
	RqTimeout          stats.Counter   `stat:"downstream_rq_timeout"`
	RqHeaderTimeout    stats.Counter   `stat:"downstream_rq_header_timeout"`
	RqMaxDuration      stats.Counter   `stat:"downstream_rq_max_duration_reached"`
	RqOverload         stats.Counter   `stat:"downstream_rq_overload_close"`
	RqPrematureResets  stats.Counter   `stat:"downstream_rq_too_many_premature_resets"`
	RqUpgradeForbidden stats.Counter   `stat:"downstream_rq_ws_on_non_ws_route"`
	RsTooLarge         stats.Counter   `stat:"rs_too_large"`
	Classes            classStats      `stat:"downstream_rq_"`
	Tracing            tracingStats    `stat:"tracing."`
}

// tracingStats count the decisions to trace; they are shown without a tracer, too.
type tracingStats struct {
	ClientEnabled  stats.Counter `stat:"client_enabled"`
	HealthCheck    stats.Counter `stat:"health_check"`
	NotTraceable   stats.Counter `stat:"not_traceable"`
	RandomSampling stats.Counter `stat:"random_sampling"`
	ServiceForced  stats.Counter `stat:"service_forced"`
}

// classStats count responses by class; they stand below listener.<address>.http.<stat_prefix>. once more.
type classStats struct {
	Completed stats.Counter `stat:"completed"`
	C1xx      stats.Counter `stat:"1xx"`
	C2xx      stats.Counter `stat:"2xx"`
	C3xx      stats.Counter `stat:"3xx"`
	C4xx      stats.Counter `stat:"4xx"`
	C5xx      stats.Counter `stat:"5xx"`
}

func (c *classStats) count(status int) {
	c.Completed.Inc()
	switch status / 100 {
	case 1:
		c.C1xx.Inc()
	case 2:
		c.C2xx.Inc()
	case 3:
		c.C3xx.Inc()
	case 4:
		c.C4xx.Inc()
	case 5:
		c.C5xx.Inc()
	}
}

// listenerStats are the classes below the listener's scope.
type listenerStats struct {
	Classes classStats `stat:"downstream_rq_"`
}

// charge counts a response that goes to the client.
func (m *Manager) charge(i *stream.Info, status int) {
	i.Status = status
	if i.HealthCheck {
		return
	}
	m.stats.Classes.count(status)
	m.listener.Classes.count(status)
}

// milliseconds is the time from start to now.
func milliseconds(start, now fiber.Time) uint64 { return uint64(max(now-start, 0)) / 1e6 }
