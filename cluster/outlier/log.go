package outlier

import (
	"time"

	dataclusterv3 "github.com/envoyproxy/go-control-plane/envoy/data/cluster/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/internal/logfile"
)

// Log is the event log: a line of JSON for each ejection and for its end (envoy.data.cluster.v3.OutlierDetectionEvent).
type Log struct{ *logfile.Events }

// NewLog writes to f.
func NewLog(f *logfile.File) *Log { return &Log{logfile.NewEvents(f)} }

func (l *Log) eject(d *Detector, m *Monitor, k Kind, enforced bool) {
	if l == nil {
		return
	}
	v := &dataclusterv3.OutlierDetectionEvent{Type: k.event(), Action: dataclusterv3.Action_EJECT, Enforced: enforced}
	whole := func(f float64) uint32 { return uint32(max(f, 0)) }
	switch k {
	case SuccessRate, SuccessRateLocal:
		r := d.rates[origin(k)].Load()
		v.Event = &dataclusterv3.OutlierDetectionEvent_EjectSuccessRateEvent{EjectSuccessRateEvent: &dataclusterv3.OutlierEjectSuccessRate{
			HostSuccessRate: whole(m.SuccessRate(k == SuccessRateLocal)), ClusterAverageSuccessRate: whole(r.Average), ClusterSuccessRateEjectionThreshold: whole(r.Threshold),
		}}
	case FailurePercentage, FailurePercentageLocal:
		v.Event = &dataclusterv3.OutlierDetectionEvent_EjectFailurePercentageEvent{EjectFailurePercentageEvent: &dataclusterv3.OutlierEjectFailurePercentage{
			HostSuccessRate: whole(m.SuccessRate(k == FailurePercentageLocal)),
		}}
	default:
		v.Event = &dataclusterv3.OutlierDetectionEvent_EjectConsecutiveEvent{EjectConsecutiveEvent: &dataclusterv3.OutlierEjectConsecutive{}}
	}
	l.write(d, m, v, m.unejectedAt)
}

// degrade logs a host that has said that it is degraded.
func (l *Log) degrade(d *Detector, m *Monitor) {
	if l == nil {
		return
	}
	l.write(d, m, &dataclusterv3.OutlierDetectionEvent{
		Type: dataclusterv3.OutlierEjectionType_DEGRADED, Action: dataclusterv3.Action_EJECT, Enforced: true,
		Event: &dataclusterv3.OutlierDetectionEvent_EjectConsecutiveEvent{EjectConsecutiveEvent: &dataclusterv3.OutlierEjectConsecutive{}},
	}, m.unejectedAt)
}

func (l *Log) uneject(d *Detector, m *Monitor) {
	if l == nil {
		return
	}
	l.write(d, m, &dataclusterv3.OutlierDetectionEvent{Action: dataclusterv3.Action_UNEJECT}, m.ejectedAt)
}

// write completes and writes an event; last is when the one before it was, 0: there was none.
func (l *Log) write(d *Detector, m *Monitor, v *dataclusterv3.OutlierDetectionEvent, last time.Duration) {
	v.Timestamp, v.ClusterName, v.UpstreamUrl, v.NumEjections = logfile.Moment(), d.env.Cluster, m.address, m.ejections
	if last > 0 {
		v.SecsSinceLastAction = wrapperspb.UInt64(uint64((d.env.Now() - last) / time.Second))
	}
	l.Write(v)
}
