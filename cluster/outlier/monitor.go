package outlier

import (
	"math"
	"sync/atomic"
	"time"
)

// Result is how a try at a host went, apart from the status of a response.
type Result uint8

// The results.
const (
	// Connected is a connection on which more will be known later: HTTP.
	Connected Result = iota
	// ConnectedFinally is a connection about which this is all there is to know: TCP.
	ConnectedFinally
	// ConnectFailed is a connection that could not be made, or that broke before the response was at its end.
	ConnectFailed
	// Timeout is a host that took too long.
	Timeout
	// Succeeded and Failed are answers in a protocol without statuses.
	Succeeded
	// Failed is described above.
	Failed
)

// status is the result as a status of HTTP, where local origin failures are not judged by themselves; 0: it says nothing yet.
func (r Result) status() int {
	return [...]int{Connected: 0, ConnectedFinally: 200, ConnectFailed: 503, Timeout: 504, Succeeded: 200, Failed: 500}[r]
}

// Monitor counts how one host does. Any goroutine may report; a nil Monitor takes reports and does nothing with them.
type Monitor struct {
	// set at construction
	d       *Detector
	address string
	changed func()
	// atomic: since the last interval, of responses and of connections
	good, bad [2]atomic.Uint64
	// atomic: failures in a row, by Consecutive5xx, ConsecutiveGateway, ConsecutiveLocal
	row [3]atomic.Uint64
	// atomic: the host has said that it is degraded, and the control loop was told
	told atomic.Bool
	// atomic: success rates of the last interval as bits of a float, of responses and of connections; NaN: there were too few
	rates [2]atomic.Uint64

	// owned by the control loop
	at           int // index in the detector's list, -1: not there
	ejected      bool
	degraded     bool
	ejections    uint32
	ejectedAt    time.Duration
	unejectedAt  time.Duration
	multiplier   int           // of the base ejection time
	jitter       time.Duration // of the ejection under way
	degradedAt   time.Duration
	undegradedAt time.Duration
	degradations int
}

// NewMonitor makes the monitor of a host; Add must take it in before it has an effect. Any goroutine may call it. changed is called on
// the control loop when the host has become ejected or degraded, or is so no longer.
func (d *Detector) NewMonitor(address string, changed func()) *Monitor {
	m := &Monitor{d: d, address: address, changed: changed, at: -1}
	for i := range m.rates {
		m.rates[i].Store(math.Float64bits(math.NaN()))
	}
	return m
}

// Ejected says whether the host is ejected. Control loop only.
func (m *Monitor) Ejected() bool { return m.ejected }

// Degraded says whether the host is degraded, because it said so itself. Control loop only.
func (m *Monitor) Degraded() bool { return m.degraded }

// SuccessRate is the host's success rate in the last interval in percent, -1 if it had too few requests. Local is about connections.
func (m *Monitor) SuccessRate(local bool) float64 {
	if m == nil {
		return -1
	}
	i := 0
	if local {
		i = 1
	}
	if v := math.Float64frombits(m.rates[i].Load()); !math.IsNaN(v) {
		return v
	}
	return -1
}

// Decision is closed when the control loop has decided about a host that has just failed often enough, and its decision is in force; nil:
// there is nothing to decide. Whoever wants the next request to know of it waits for it.
type Decision <-chan struct{}

// Status reports a response of HTTP, or of what is told as such.
func (m *Monitor) Status(status int) (d Decision) {
	if m == nil {
		return nil
	}
	if status < 500 || status > 599 {
		m.good[0].Add(1)
		m.calm(Consecutive5xx)
		m.calm(ConsecutiveGateway)
	} else {
		m.bad[0].Add(1)
		if status >= 502 && status <= 504 {
			d = m.inRow(ConsecutiveGateway)
		} else {
			m.calm(ConsecutiveGateway)
		}
		if other := m.inRow(Consecutive5xx); other != nil {
			d = other
		}
	}
	return d
}

// Report reports anything else. status takes the result's place where local origin failures are not judged by themselves; 0: it has none.
func (m *Monitor) Report(r Result, status int) Decision {
	switch {
	case m == nil:
		return nil
	case m.d.config.split:
		return m.reportSplit(r)
	case status == 0:
		status = r.status()
	}
	if status == 0 {
		return nil
	}
	return m.Status(status)
}

func (m *Monitor) reportSplit(r Result) (d Decision) {
	switch r {
	case Connected, ConnectedFinally:
		m.connected()
	case ConnectFailed, Timeout:
		m.bad[1].Add(1)
		d = m.inRow(ConsecutiveLocal)
	case Failed:
		d = m.Status(500)
	case Succeeded:
		m.Status(200)
		m.connected()
	}
	return d
}

func (m *Monitor) connected() {
	m.good[1].Add(1)
	m.calm(ConsecutiveLocal)
}

// calm ends a row of failures. It reads before it writes: most of the time there is none.
func (m *Monitor) calm(k Kind) {
	if m.row[k].Load() != 0 {
		m.row[k].Store(0)
	}
}

// inRow counts one more failure in a row. The one that makes the row long enough tells the control loop.
func (m *Monitor) inRow(k Kind) Decision {
	if m.row[k].Add(1) != m.d.config.consecutive[k].Value(m.d.env.Runtime.Load()) {
		return nil
	}
	done := make(chan struct{})
	m.d.env.Post(func() {
		m.d.consecutive(m, k)
		m.d.env.Post(func() { close(done) }) // after what the decision has posted
	})
	return done
}

// WantsDegraded says whether SaidDegraded has an effect.
func (m *Monitor) WantsDegraded() bool { return m != nil && m.d.config.degraded }

// SaidDegraded reports a response with x-envoy-degraded.
func (m *Monitor) SaidDegraded() {
	if m == nil || !m.d.config.degraded || m.told.Load() || m.told.Swap(true) {
		return
	}
	m.d.env.Post(func() { m.d.degrade(m) })
}

// calmAll forgets all rows of failures.
func (m *Monitor) calmAll() {
	for k := range m.row {
		m.row[k].Store(0)
	}
}
