package http2

import "github.com/outrigger-proxy/outrigger/internal/stats"

// Stats are http2.* of all downstream connections, or of a cluster.
type Stats struct {
	CookiesTooLong      stats.Counter `stat:"cookies_total_bytes_too_large"` // needs a runtime guard of Envoy's
	DroppedUnderscores  stats.Counter `stat:"dropped_headers_with_underscores"`
	GoAwaySent          stats.Counter `stat:"goaway_sent"`
	HeadTooLong         stats.Counter `stat:"header_list_size_too_large"`
	HeaderOverflow      stats.Counter `stat:"header_overflow"`
	HeadersNoStream     stats.Counter `stat:"headers_cb_no_stream"`
	EmptyFlood          stats.Counter `stat:"inbound_empty_frames_flood"`
	PriorityFlood       stats.Counter `stat:"inbound_priority_frames_flood"`
	UpdateFlood         stats.Counter `stat:"inbound_window_update_frames_flood"`
	KeepaliveTimeout    stats.Counter `stat:"keepalive_timeout"`
	MetadataEmpty       stats.Counter `stat:"metadata_empty_frames"`
	ControlFlood        stats.Counter `stat:"outbound_control_flood"`
	Flood               stats.Counter `stat:"outbound_flood"`
	RejectedUnderscores stats.Counter `stat:"requests_rejected_with_underscores_in_headers"`
	MessagingError      stats.Counter `stat:"rx_messaging_error"`
	RxReset             stats.Counter `stat:"rx_reset"`
	RefusedErrors       stats.Counter `stat:"stream_refused_errors"`
	Trailers            stats.Counter `stat:"trailers"`
	FlushTimeout        stats.Counter `stat:"tx_flush_timeout"`
	TxReset             stats.Counter `stat:"tx_reset"`
	Downstream          stats.Counter `stat:"nghttp2_downstream_connections"` // the name of the codec that Envoy uses by default
	Upstream            stats.Counter `stat:"nghttp2_upstream_connections"`
	OtherDownstream     stats.Counter `stat:"oghttp2_downstream_connections"` // the other one that it has
	OtherUpstream       stats.Counter `stat:"oghttp2_upstream_connections"`
	StreamsActive       stats.Gauge   `stat:"streams_active"`
	PendingSend         stats.Gauge   `stat:"pending_send_bytes"`
	FramesActive        stats.Gauge   `stat:"outbound_frames_active"`
	ControlActive       stats.Gauge   `stat:"outbound_control_frames_active"`
	DeferredClose       stats.Gauge   `stat:"deferred_stream_close"` // no stream's end is put off here
	// These Envoy records when a runtime guard of its own says so, until it takes them away again.
	HeaderCount stats.Histogram `stat:"header_count"`
	HeaderSize  stats.Histogram `stat:"header_list_size"`
	CookieCount stats.Histogram `stat:"cookie_count"`
	CookieSize  stats.Histogram `stat:"cookie_size"`
}
