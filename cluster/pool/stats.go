package pool

import (
	"sync/atomic"

	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Stats are the statistics of a cluster, cluster.<alt_stat_name or name>.*, with Envoy's names. Who counts what stands beside each
// block; what no block claims is there because Envoy has it, and stays zero.
type Stats struct {
	// the pools
	CxTotal                     stats.Counter   `stat:"upstream_cx_total"`
	CxActive                    stats.Gauge     `stat:"upstream_cx_active"`
	CxHTTP1                     stats.Counter   `stat:"upstream_cx_http1_total"`
	CxHTTP2                     stats.Counter   `stat:"upstream_cx_http2_total"`
	CxHTTP3                     stats.Counter   `stat:"upstream_cx_http3_total"`
	CxConnectFail               stats.Counter   `stat:"upstream_cx_connect_fail"`
	CxConnectTimeout            stats.Counter   `stat:"upstream_cx_connect_timeout"`
	CxConnect0RTT               stats.Counter   `stat:"upstream_cx_connect_with_0_rtt"`
	CxIdleTimeout               stats.Counter   `stat:"upstream_cx_idle_timeout"`
	CxMaxDuration               stats.Counter   `stat:"upstream_cx_max_duration_reached"`
	CxMaxRequests               stats.Counter   `stat:"upstream_cx_max_requests"`
	CxOverflow                  stats.Counter   `stat:"upstream_cx_overflow"`
	CxPoolOverflow              stats.Counter   `stat:"upstream_cx_pool_overflow"`
	CxPreconnectSkipped         stats.Counter   `stat:"upstream_cx_preconnect_skipped"`
	CxProtocolError             stats.Counter   `stat:"upstream_cx_protocol_error"`
	CxCloseNotify               stats.Counter   `stat:"upstream_cx_close_notify"`
	CxDestroy                   stats.Counter   `stat:"upstream_cx_destroy"`
	CxDestroyLocal              stats.Counter   `stat:"upstream_cx_destroy_local"`
	CxDestroyRemote             stats.Counter   `stat:"upstream_cx_destroy_remote"`
	CxDestroyActive             stats.Counter   `stat:"upstream_cx_destroy_with_active_rq"`
	CxDestroyLocalActive        stats.Counter   `stat:"upstream_cx_destroy_local_with_active_rq"`
	CxDestroyRemoteActive       stats.Counter   `stat:"upstream_cx_destroy_remote_with_active_rq"`
	CxRxBytes                   stats.Counter   `stat:"upstream_cx_rx_bytes_total"`
	CxTxBytes                   stats.Counter   `stat:"upstream_cx_tx_bytes_total"`
	CxRxBuffered                stats.Gauge     `stat:"upstream_cx_rx_bytes_buffered"`
	CxTxBuffered                stats.Gauge     `stat:"upstream_cx_tx_bytes_buffered"`
	CxConnectMs                 stats.Histogram `stat:"upstream_cx_connect_ms"`
	CxLengthMs                  stats.Histogram `stat:"upstream_cx_length_ms"`
	RqPerCx                     stats.Histogram `stat:"upstream_rq_per_cx"`
	BindErrors                  stats.Counter   `stat:"bind_errors"`
	RqTotal                     stats.Counter   `stat:"upstream_rq_total"`
	RqActive                    stats.Gauge     `stat:"upstream_rq_active"`
	RqActiveOverflow            stats.Counter   `stat:"upstream_rq_active_overflow"`
	RqPendingTotal              stats.Counter   `stat:"upstream_rq_pending_total"`
	RqPendingActive             stats.Gauge     `stat:"upstream_rq_pending_active"`
	RqPendingOverflow           stats.Counter   `stat:"upstream_rq_pending_overflow"`
	RqPendingFailureEject       stats.Counter   `stat:"upstream_rq_pending_failure_eject"`
	RqCancelled                 stats.Counter   `stat:"upstream_rq_cancelled"`
	Rq0RTT                      stats.Counter   `stat:"upstream_rq_0rtt"`
	HTTP3Broken                 stats.Counter   `stat:"upstream_http3_broken"`
	HostStalled                 stats.Counter   `stat:"upstream_host_stalled,lazy"` // ours: a host did not seem to be there
	QueueOverloaded             stats.Counter   `stat:"upstream_queue_overloaded"`
	TransportSocketDefaultMatch stats.Counter   `stat:"default.total_match_count"`

	// the circuit breakers
	Default BreakerStats `stat:"circuit_breakers.default."`
	High    BreakerStats `stat:"circuit_breakers.high."`

	// the router and tcp_proxy
	CxNoneHealthy           stats.Counter `stat:"upstream_cx_none_healthy"`
	CxConnectAttempts       stats.Counter `stat:"upstream_cx_connect_attempts_exceeded"`
	RqCompleted             stats.Counter `stat:"upstream_rq_completed"` // shows 0 before the first response; Codes adds to it
	RqMaintenanceMode       stats.Counter `stat:"upstream_rq_maintenance_mode"`
	RqMaxDuration           stats.Counter `stat:"upstream_rq_max_duration_reached"`
	RqPerTryTimeout         stats.Counter `stat:"upstream_rq_per_try_timeout"`
	RqPerTryIdleTimeout     stats.Counter `stat:"upstream_rq_per_try_idle_timeout"`
	RqTimeout               stats.Counter `stat:"upstream_rq_timeout"`
	RqRetry                 stats.Counter `stat:"upstream_rq_retry"`
	RqRetryBackoff          stats.Counter `stat:"upstream_rq_retry_backoff_exponential"`
	RqRetryBackoffRatelimit stats.Counter `stat:"upstream_rq_retry_backoff_ratelimited"`
	RqRetryLimit            stats.Counter `stat:"upstream_rq_retry_limit_exceeded"`
	RqRetryOverflow         stats.Counter `stat:"upstream_rq_retry_overflow"`
	RqRetrySuccess          stats.Counter `stat:"upstream_rq_retry_success"`
	RqRxReset               stats.Counter `stat:"upstream_rq_rx_reset"`
	RqRxResetNoError        stats.Counter `stat:"upstream_rq_rx_reset_no_error"`
	RqTxReset               stats.Counter `stat:"upstream_rq_tx_reset"`
	RetryOrShadowAbandoned  stats.Counter `stat:"retry_or_shadow_abandoned"`
	RedirectFailed          stats.Counter `stat:"upstream_internal_redirect_failed_total"`
	RedirectSucceeded       stats.Counter `stat:"upstream_internal_redirect_succeeded_total"`
	FlowBackedUp            stats.Counter `stat:"upstream_flow_control_backed_up_total"`
	FlowDrained             stats.Counter `stat:"upstream_flow_control_drained_total"`
	FlowPausedReading       stats.Counter `stat:"upstream_flow_control_paused_reading_total"`
	FlowResumedReading      stats.Counter `stat:"upstream_flow_control_resumed_reading_total"`

	// the balancer
	OriginalDstInvalid   stats.Counter `stat:"original_dst_host_invalid"`
	Panic                stats.Counter `stat:"lb_healthy_panic"`
	LocalClusterNotOK    stats.Counter `stat:"lb_local_cluster_not_ok"`
	RecalculateZones     stats.Counter `stat:"lb_recalculate_zone_structures"`
	SubsetsActive        stats.Gauge   `stat:"lb_subsets_active"`
	SubsetsCreated       stats.Counter `stat:"lb_subsets_created"`
	SubsetsDuplicate     stats.Gauge   `stat:"lb_subsets_single_host_per_subset_duplicate,lazy"`
	SubsetsFallback      stats.Counter `stat:"lb_subsets_fallback"`
	SubsetsFallbackPanic stats.Counter `stat:"lb_subsets_fallback_panic"`
	SubsetsRemoved       stats.Counter `stat:"lb_subsets_removed"`
	SubsetsSelected      stats.Counter `stat:"lb_subsets_selected"`
	ZoneClusterTooSmall  stats.Counter `stat:"lb_zone_cluster_too_small"`
	ZoneNoCapacity       stats.Counter `stat:"lb_zone_no_capacity_left"`
	ZoneAllDirectly      stats.Counter `stat:"lb_zone_routing_all_directly"`
	ZoneCross            stats.Counter `stat:"lb_zone_routing_cross_zone"`
	ZoneSampled          stats.Counter `stat:"lb_zone_routing_sampled"`

	// the control loop
	MaxHostWeight       stats.Gauge   `stat:"max_host_weight"`
	MembershipChange    stats.Counter `stat:"membership_change"`
	MembershipTotal     stats.Gauge   `stat:"membership_total"`
	MembershipHealthy   stats.Gauge   `stat:"membership_healthy"`
	MembershipDegraded  stats.Gauge   `stat:"membership_degraded"`
	MembershipExcluded  stats.Gauge   `stat:"membership_excluded"`
	UpdateAttempt       stats.Counter `stat:"update_attempt"`
	UpdateSuccess       stats.Counter `stat:"update_success"`
	UpdateFailure       stats.Counter `stat:"update_failure"`
	UpdateEmpty         stats.Counter `stat:"update_empty"`
	UpdateNoRebuild     stats.Counter `stat:"update_no_rebuild"`
	AssignmentStale     stats.Counter `stat:"assignment_stale"`
	AssignmentTimeout   stats.Counter `stat:"assignment_timeout_received"`
	AssignmentUseCached stats.Counter `stat:"assignment_use_cached"`
	Version             stats.Gauge   `stat:"version"`
	WarmingState        stats.Gauge   `stat:"warming_state"`
}

// BreakerStats say which circuit breakers of a priority are open, and with track_remaining how much room they have.
type BreakerStats struct {
	CxOpen           stats.Gauge `stat:"cx_open"`
	CxPoolOpen       stats.Gauge `stat:"cx_pool_open"`
	RqOpen           stats.Gauge `stat:"rq_open"`
	RqPendingOpen    stats.Gauge `stat:"rq_pending_open"`
	RqRetryOpen      stats.Gauge `stat:"rq_retry_open"`
	RemainingCx      stats.Gauge `stat:"remaining_cx,lazy"`
	RemainingPools   stats.Gauge `stat:"remaining_cx_pools,lazy"`
	RemainingRq      stats.Gauge `stat:"remaining_rq,lazy"`
	RemainingPending stats.Gauge `stat:"remaining_pending,lazy"`
	RemainingRetries stats.Gauge `stat:"remaining_retries,lazy"`
}

// Sizes are the histograms of track_cluster_stats.request_response_sizes.
type Sizes struct {
	RqHeaders      stats.Histogram `stat:"upstream_rq_headers_size"`
	RqHeadersCount stats.Histogram `stat:"upstream_rq_headers_count"`
	RqBody         stats.Histogram `stat:"upstream_rq_body_size"`
	RsHeaders      stats.Histogram `stat:"upstream_rs_headers_size"`
	RsHeadersCount stats.Histogram `stat:"upstream_rs_headers_count"`
	RsBody         stats.Histogram `stat:"upstream_rs_body_size"`
}

// HostStats are the statistics of one host, as /clusters shows them. They are no part of the store.
type HostStats struct {
	// atomic
	CxTotal, CxConnectFail              atomic.Uint64 // the pools
	RqTotal                             atomic.Uint64 // the pools
	RqSuccess, RqError, RqTimeout       atomic.Uint64 // the router
	CxActive, RqActive, RqPendingActive atomic.Int64  // the pools
}

// request records the head of a request as Envoy sees it, with its pseudo headers.
func (s *Sizes) request(q *stream.Request) {
	n, size := fields(&q.Header)
	s.RqHeadersCount.Record(n + 4)
	s.RqHeaders.Record(size + uint64(len(":method:path:authority:scheme")+len(q.Method)+len(q.Path)+len(q.Authority)+len(q.Scheme)))
}

func (s *Sizes) response(r *stream.Response) {
	n, size := fields(&r.Header)
	s.RsHeadersCount.Record(n + 1)
	s.RsHeaders.Record(size + uint64(len(":status200")))
}

func fields(h *header.Map) (n, size uint64) {
	for _, f := range h.All() {
		size += uint64(len(f.Name) + len(f.Value))
	}
	return uint64(h.Len()), size
}
