package lb

import (
	"math"
	"time"
)

// SlowStart gives a host that has just come a share of its weight that grows over a window
// (envoy.extensions.load_balancing_policies.common.v3.SlowStartConfig). The zero SlowStart does nothing.
type SlowStart struct {
	Window     time.Duration
	Aggression float64 // 1: linear
	Least      float64 // min_weight_percent as a fraction
}

// Never is the Since of a host that has no slow start.
const Never time.Duration = math.MinInt64 / 2

// ramping says whether a host is within its window.
func (s *SlowStart) ramping(hosts []Host, now time.Duration) bool {
	if s.Window <= 0 {
		return false
	}
	for i := range hosts {
		if now-hosts[i].Since <= s.Window {
			return true
		}
	}
	return false
}

func (s *SlowStart) factor(h *Host, now time.Duration) float64 {
	if s.Window <= 0 {
		return 1
	}
	age := (now - h.Since).Truncate(time.Millisecond)
	if age >= s.Window {
		return 1
	}
	f := float64(max(age, time.Millisecond)) / float64(s.Window)
	if s.Aggression > 0 && s.Aggression != 1 {
		f = math.Pow(f, 1/s.Aggression)
	}
	return max(f, s.Least)
}
