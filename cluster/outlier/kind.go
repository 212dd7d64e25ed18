package outlier

import (
	dataclusterv3 "github.com/envoyproxy/go-control-plane/envoy/data/cluster/v3"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// Kind is why a host is ejected (envoy.data.cluster.v3.OutlierEjectionType).
type Kind uint8

// The kinds. Those with Local in their name count what went wrong before the host could answer, where that is counted by itself.
const (
	Consecutive5xx Kind = iota
	ConsecutiveGateway
	ConsecutiveLocal
	SuccessRate
	SuccessRateLocal
	FailurePercentage
	FailurePercentageLocal
	kinds
)

// event is the kind as the event log names it.
func (k Kind) event() dataclusterv3.OutlierEjectionType {
	return [...]dataclusterv3.OutlierEjectionType{
		dataclusterv3.OutlierEjectionType_CONSECUTIVE_5XX, dataclusterv3.OutlierEjectionType_CONSECUTIVE_GATEWAY_FAILURE,
		dataclusterv3.OutlierEjectionType_CONSECUTIVE_LOCAL_ORIGIN_FAILURE, dataclusterv3.OutlierEjectionType_SUCCESS_RATE,
		dataclusterv3.OutlierEjectionType_SUCCESS_RATE_LOCAL_ORIGIN, dataclusterv3.OutlierEjectionType_FAILURE_PERCENTAGE,
		dataclusterv3.OutlierEjectionType_FAILURE_PERCENTAGE_LOCAL_ORIGIN,
	}[k]
}

// origin says which of the two rates a kind is about.
func origin(k Kind) int {
	if k == SuccessRateLocal || k == FailurePercentageLocal || k == ConsecutiveLocal {
		return 1
	}
	return 0
}

// detectionStats are cluster.<name>.outlier_detection.*
type detectionStats struct {
	Active                 stats.Gauge   `stat:"ejections_active"`
	Consecutive5xx         stats.Counter `stat:"ejections_consecutive_5xx"` // deprecated in Envoy, and still shown
	DetectedConsecutive5xx stats.Counter `stat:"ejections_detected_consecutive_5xx"`
	DetectedGateway        stats.Counter `stat:"ejections_detected_consecutive_gateway_failure"`
	DetectedLocal          stats.Counter `stat:"ejections_detected_consecutive_local_origin_failure"`
	DetectedDegraded       stats.Counter `stat:"ejections_detected_degradation"`
	DetectedFailure        stats.Counter `stat:"ejections_detected_failure_percentage"`
	DetectedFailureLocal   stats.Counter `stat:"ejections_detected_local_origin_failure_percentage"`
	DetectedRateLocal      stats.Counter `stat:"ejections_detected_local_origin_success_rate"`
	DetectedRate           stats.Counter `stat:"ejections_detected_success_rate"`
	EnforcedConsecutive5xx stats.Counter `stat:"ejections_enforced_consecutive_5xx"`
	EnforcedGateway        stats.Counter `stat:"ejections_enforced_consecutive_gateway_failure"`
	EnforcedLocal          stats.Counter `stat:"ejections_enforced_consecutive_local_origin_failure"`
	EnforcedFailure        stats.Counter `stat:"ejections_enforced_failure_percentage"`
	EnforcedFailureLocal   stats.Counter `stat:"ejections_enforced_local_origin_failure_percentage"`
	EnforcedRateLocal      stats.Counter `stat:"ejections_enforced_local_origin_success_rate"`
	EnforcedRate           stats.Counter `stat:"ejections_enforced_success_rate"`
	EnforcedTotal          stats.Counter `stat:"ejections_enforced_total"`
	Overflow               stats.Counter `stat:"ejections_overflow"`
	SuccessRate            stats.Counter `stat:"ejections_success_rate"` // deprecated
	Total                  stats.Counter `stat:"ejections_total"`        // deprecated
}

// detected counts an outlier that was found, whatever becomes of it.
func (s *detectionStats) detected(k Kind) {
	[kinds]*stats.Counter{
		&s.DetectedConsecutive5xx, &s.DetectedGateway, &s.DetectedLocal, &s.DetectedRate, &s.DetectedRateLocal, &s.DetectedFailure, &s.DetectedFailureLocal,
	}[k].Inc()
}

// enforced counts an ejection.
func (s *detectionStats) enforced(k Kind) {
	s.EnforcedTotal.Inc()
	[kinds]*stats.Counter{
		&s.EnforcedConsecutive5xx, &s.EnforcedGateway, &s.EnforcedLocal, &s.EnforcedRate, &s.EnforcedRateLocal, &s.EnforcedFailure, &s.EnforcedFailureLocal,
	}[k].Inc()
}
