package outlier

import (
	"math"
	"time"
)

// Sweep ends an interval: hosts whose time has come are let in again, and those are ejected whose success rate is out of line.
func (d *Detector) Sweep() {
	now := d.env.Now()
	seen := make([][2]tally, len(d.monitors))
	for i, m := range d.monitors {
		if m.ejected && d.due(m, now) {
			d.uneject(m)
		}
		if m.degraded {
			d.recover(m, now)
		}
		for o := range m.rates {
			seen[i][o] = tally{m.good[o].Swap(0), m.bad[o].Swap(0)}
			m.rates[o].Store(math.Float64bits(math.NaN()))
		}
	}
	d.compare(seen, 0, SuccessRate, FailurePercentage)
	d.compare(seen, 1, SuccessRateLocal, FailurePercentageLocal)
	d.forgive(now)
}

// tally is what was reported of a host in an interval.
type tally struct{ good, bad uint64 }

func (t tally) total() uint64 { return t.good + t.bad }
func (t tally) rate() float64 { return 100 * float64(t.good) / float64(t.total()) }

// sample is a host with enough requests to be compared.
type sample struct {
	m    *Monitor
	rate float64
}

// compare ejects the hosts whose rate of origin o is out of line.
func (d *Detector) compare(seen [][2]tally, o int, byRate, byFailure Kind) {
	rt := d.env.Runtime.Load()
	d.rates[o].Store(&Rate{-1, -1})
	hosts := [2]uint64{d.config.rate.hosts.Value(rt), d.config.failure.hosts.Value(rt)}
	if n := uint64(len(d.monitors)); n < hosts[0] && n < hosts[1] {
		return
	}
	volume := [2]uint64{d.config.rate.requests.Value(rt), d.config.failure.requests.Value(rt)}
	var rates, failures []sample
	sum := 0.
	for i, m := range d.monitors {
		t := seen[i][o]
		if m.ejected || t.total() == 0 {
			continue
		}
		s := sample{m, t.rate()}
		if t.total() >= min(volume[0], volume[1]) {
			m.rates[o].Store(math.Float64bits(s.rate))
		}
		if t.total() >= volume[0] {
			rates = append(rates, s)
			sum += s.rate
		}
		if t.total() >= volume[1] {
			failures = append(failures, s)
		}
	}
	if len(rates) > 0 && uint64(len(rates)) >= hosts[0] {
		r := outOfLine(rates, sum, float64(d.config.deviations.Value(rt))/1000)
		d.rates[o].Store(&r)
		for _, s := range rates {
			if s.rate < r.Threshold {
				d.stats.SuccessRate.Inc()
				d.found(s.m, byRate)
			}
		}
	}
	if len(failures) > 0 && uint64(len(failures)) >= hosts[1] {
		threshold := float64(d.config.threshold.Value(rt))
		for _, s := range failures {
			if 100-s.rate >= threshold {
				d.found(s.m, byFailure)
			}
		}
	}
}

func (d *Detector) found(m *Monitor, k Kind) {
	d.stats.detected(k)
	if !m.ejected { // by its success rate a moment ago
		d.eject(m, k)
	}
}

// outOfLine returns the average, and how many standard deviations below it is the end.
func outOfLine(l []sample, sum, factor float64) Rate {
	average, variance := sum/float64(len(l)), 0.
	for _, s := range l {
		variance += (s.rate - average) * (s.rate - average)
	}
	return Rate{average, average - factor*math.Sqrt(variance/float64(len(l)))}
}

// forgive shortens the next ejection of hosts that have done well for an interval.
func (d *Detector) forgive(now time.Duration) {
	interval := d.milliseconds(d.config.interval)
	for _, m := range d.monitors {
		if !m.ejected && m.ejections > 0 && m.multiplier > 0 && now-m.unejectedAt >= interval {
			m.multiplier--
		}
		if !m.degraded && m.degradations > 0 && now-m.undegradedAt >= interval {
			m.degradations--
		}
	}
}
