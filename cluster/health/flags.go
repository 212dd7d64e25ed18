package health

import "strings"

// Flags are all that is known against a host (Envoy: Host::HealthFlag). None is a healthy host.
type Flags uint16

// The flags, in the order in which Envoy prints them.
const (
	FailedActive    Flags = 1 << iota // active checks fail, or there was none yet
	FailedOutlier                     // ejected
	FailedEDS                         // the control plane says UNHEALTHY or TIMEOUT
	DegradedActive                    // a check was answered with x-envoy-degraded
	DegradedEDS                       // the control plane says DEGRADED
	PendingRemoval                    // discovery knows it no longer, but it still passes its checks
	PendingActive                     // its first check is awaited (ignore_new_hosts_until_first_hc)
	ExcludedAtOnce                    // it has asked to be left alone (x-envoy-immediate-health-check-fail)
	ActiveTimeout                     // active checks fail because they get no answer in time
	DrainingEDS                       // the control plane says DRAINING
	DegradedOutlier                   // a request was answered with x-envoy-degraded
)

var flagNames = [...]string{
	"/failed_active_hc", "/failed_outlier_check", "/failed_eds_health", "/degraded_active_hc", "/degraded_eds_health", "/pending_dynamic_removal",
	"/pending_active_hc", "/excluded_via_immediate_hc_fail", "/active_hc_timeout", "/eds_status_draining", "/degraded_outlier_detection",
}

// String is what /clusters shows as health_flags.
func (f Flags) String() string {
	if f == 0 {
		return "healthy"
	}
	var b strings.Builder
	for i, name := range flagNames {
		if f&(1<<i) != 0 {
			b.WriteString(name)
		}
	}
	return b.String()
}

// Has says whether any of the flags is set.
func (f Flags) Has(which Flags) bool { return f&which != 0 }

// Set sets or clears flags, and says whether that has changed anything.
func (f *Flags) Set(which Flags, on bool) (changed bool) {
	old := *f
	if *f |= which; !on {
		*f &^= which
	}
	return *f != old
}

// Unhealthy says whether the host gets no request unless the cluster panics.
func (f Flags) Unhealthy() bool { return f.Has(FailedActive | FailedOutlier | FailedEDS | DrainingEDS) }

// Degraded says whether the host gets requests only where there are too few healthy ones.
func (f Flags) Degraded() bool {
	return !f.Unhealthy() && f.Has(DegradedActive|DegradedEDS|DegradedOutlier)
}

// Excluded says whether the host counts for nothing when it is asked how many hosts are healthy.
func (f Flags) Excluded() bool { return f.Has(PendingActive | ExcludedAtOnce | DrainingEDS) }
