package outlier

import (
	"errors"
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/internal/runtime"
)

// Config is an OutlierDetection, parsed. Numbers are what runtime says, else what the message says.
type Config struct {
	// in milliseconds
	interval, base, longest, jitter runtime.Uint
	// failures in a row, by Consecutive5xx, ConsecutiveGateway, ConsecutiveLocal; 0: never
	consecutive [3]runtime.Uint
	// percent of the detected outliers that are ejected
	enforcing   [kinds]runtime.Uint
	mostEjected runtime.Uint // percent of the hosts
	rate        group
	failure     group
	deviations  runtime.Uint // success_rate_stdev_factor, in thousandths
	threshold   runtime.Uint // failure_percentage_threshold
	split       bool         // local origin failures by themselves
	one         bool         // always_eject_one_host
	uneject     bool         // by a successful active check
	degraded    bool         // x-envoy-degraded makes a host degraded
}

// group says how many hosts with how many requests there must be before they are compared.
type group struct{ hosts, requests runtime.Uint }

const prefix = "outlier_detection."

// Parse reads p.
func Parse(p *clusterv3.OutlierDetection) (*Config, error) {
	number := func(key string, v *wrapperspb.UInt32Value, absent uint64) runtime.Uint {
		if v != nil {
			absent = uint64(v.GetValue())
		}
		return runtime.Uint{Key: prefix + key, Default: absent}
	}
	length := func(key string, v *durationpb.Duration, absent time.Duration) runtime.Uint {
		if v != nil {
			absent = v.AsDuration()
		}
		return runtime.Uint{Key: prefix + key, Default: uint64(absent.Milliseconds())}
	}
	c := &Config{
		interval:    length("interval_ms", p.GetInterval(), 10*time.Second),
		base:        length("base_ejection_time_ms", p.GetBaseEjectionTime(), 30*time.Second),
		jitter:      length("max_ejection_time_jitter_ms", p.GetMaxEjectionTimeJitter(), 0),
		mostEjected: number("max_ejection_percent", p.GetMaxEjectionPercent(), 10),
		consecutive: [3]runtime.Uint{
			Consecutive5xx:     number("consecutive_5xx", p.GetConsecutive_5Xx(), 5),
			ConsecutiveGateway: number("consecutive_gateway_failure", p.GetConsecutiveGatewayFailure(), 5),
			ConsecutiveLocal:   number("consecutive_local_origin_failure", p.GetConsecutiveLocalOriginFailure(), 5),
		},
		enforcing: [kinds]runtime.Uint{
			Consecutive5xx:         number("enforcing_consecutive_5xx", p.GetEnforcingConsecutive_5Xx(), 100),
			ConsecutiveGateway:     number("enforcing_consecutive_gateway_failure", p.GetEnforcingConsecutiveGatewayFailure(), 0),
			ConsecutiveLocal:       number("enforcing_consecutive_local_origin_failure", p.GetEnforcingConsecutiveLocalOriginFailure(), 100),
			SuccessRate:            number("enforcing_success_rate", p.GetEnforcingSuccessRate(), 100),
			SuccessRateLocal:       number("enforcing_local_origin_success_rate", p.GetEnforcingLocalOriginSuccessRate(), 100),
			FailurePercentage:      number("enforcing_failure_percentage", p.GetEnforcingFailurePercentage(), 0),
			FailurePercentageLocal: number("enforcing_failure_percentage_local_origin", p.GetEnforcingFailurePercentageLocalOrigin(), 0),
		},
		rate: group{
			number("success_rate_minimum_hosts", p.GetSuccessRateMinimumHosts(), 5),
			number("success_rate_request_volume", p.GetSuccessRateRequestVolume(), 100),
		},
		failure: group{
			number("failure_percentage_minimum_hosts", p.GetFailurePercentageMinimumHosts(), 5),
			number("failure_percentage_request_volume", p.GetFailurePercentageRequestVolume(), 50),
		},
		deviations: number("success_rate_stdev_factor", p.GetSuccessRateStdevFactor(), 1900),
		threshold:  number("failure_percentage_threshold", p.GetFailurePercentageThreshold(), 85),
		split:      p.GetSplitExternalLocalOriginErrors(),
		one:        p.GetAlwaysEjectOneHost().GetValue(),
		uneject:    p.GetSuccessfulActiveHealthCheckUnejectHost() == nil || p.GetSuccessfulActiveHealthCheckUnejectHost().GetValue(),
		degraded:   p.GetDetectDegradedHosts().GetValue(),
	}
	longest := max(300*time.Second, time.Duration(c.base.Default)*time.Millisecond)
	c.longest = length("max_ejection_time_ms", p.GetMaxEjectionTime(), longest)
	if c.longest.Default < c.base.Default {
		return nil, errors.New("max_ejection_time: cannot be smaller than base_ejection_time")
	}
	if l := p.GetMonitors(); len(l) > 0 { // Envoy's build has none either
		return nil, fmt.Errorf("monitors[0]: Didn't find a registered implementation for '%s' with type URL: '%s'", l[0].GetName(), l[0].GetTypedConfig().GetTypeUrl())
	}
	return c, nil
}
