package outlier

import "time"

// consecutive judges a host that has failed often enough in a row.
func (d *Detector) consecutive(m *Monitor, k Kind) {
	if d.closed || m.at < 0 || m.ejected {
		return
	}
	d.stats.detected(k)
	d.eject(m, k)
	if k == Consecutive5xx {
		d.stats.Consecutive5xx.Inc()
	}
	m.row[k].Store(0) // the next row may begin without a success in between
}

// eject takes a host out, unless too many are out already, or chance spares it.
func (d *Detector) eject(m *Monitor, k Kind) {
	rt := d.env.Runtime.Load()
	active := d.stats.Active.Value()
	most := min(100, d.config.mostEjected.Value(rt))
	share := 100 * float64(active+1) / float64(len(d.monitors))
	if share > float64(most) && (!d.config.one || active != 0) {
		d.stats.Overflow.Inc()
		return
	}
	if k == Consecutive5xx || k == SuccessRate {
		d.stats.Total.Inc()
	}
	enforcing := d.config.enforcing[k]
	if !rt.Fraction(enforcing.Key, enforcing.Default, d.env.Draw()) {
		d.env.Log.eject(d, m, k, false)
		return
	}
	d.stats.Active.Inc()
	d.stats.enforced(k)
	m.ejected, m.ejectedAt = true, d.env.Now()
	m.ejections++
	m.jitter = time.Duration(d.env.Draw()%(d.config.jitter.Value(rt)+1)) * time.Millisecond
	base, longest := d.milliseconds(d.config.base), d.milliseconds(d.config.longest)
	if time.Duration(m.multiplier)*base < longest+base {
		m.multiplier++
	}
	m.changed()
	d.env.Log.eject(d, m, k, true)
}

// due says whether a host has been out for long enough.
func (d *Detector) due(m *Monitor, now time.Duration) bool {
	base, longest := d.milliseconds(d.config.base), d.milliseconds(d.config.longest)
	return now-m.ejectedAt >= min(base*time.Duration(m.multiplier), longest)+m.jitter
}

// uneject lets a host back in.
func (d *Detector) uneject(m *Monitor) {
	d.stats.Active.Dec()
	m.ejected = false
	m.calmAll() // a row that was almost long enough is not to eject it again at once
	m.unejectedAt = d.env.Now()
	m.changed()
	d.env.Log.uneject(d, m)
}

// Passed is told of an active check that the host has passed, which may end its ejection.
func (d *Detector) Passed(m *Monitor) {
	if d.config.uneject && m.ejected && !d.closed {
		d.uneject(m)
	}
}

// degrade makes a host degraded that has said so itself.
func (d *Detector) degrade(m *Monitor) {
	if d.closed || m.at < 0 || m.degraded {
		return
	}
	m.degraded, m.degradedAt = true, d.env.Now()
	base, longest := d.milliseconds(d.config.base), d.milliseconds(d.config.longest)
	if time.Duration(m.degradations)*base < longest+base {
		m.degradations++
	}
	d.stats.DetectedDegraded.Inc()
	m.changed()
	d.env.Log.degrade(d, m)
}

// recover ends that once it has lasted for long enough; a host that is still degraded says so again.
func (d *Detector) recover(m *Monitor, now time.Duration) {
	base, longest := d.milliseconds(d.config.base), d.milliseconds(d.config.longest)
	if now-m.degradedAt < min(base*time.Duration(m.degradations), longest) {
		return
	}
	m.degraded, m.undegradedAt = false, now
	m.told.Store(false)
	m.changed()
	d.env.Log.uneject(d, m)
}
