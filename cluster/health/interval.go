package health

import (
	"math"
	"time"
)

// interval is how long to wait for the next check after one that was passed or not.
func (c *Checker) interval(passed bool, by change) time.Duration {
	o := c.config
	d := o.interval
	switch {
	case !c.env.Traffic():
		d = o.noTraffic
		if passed && by != pending {
			d = o.noTrafficHealthy
		}
	case passed && by == pending:
		d = o.healthyEdge
	case !passed && by == pending:
		d = o.unhealthyEdge
	case !passed:
		d = o.unhealthyInterval
	}
	return c.jittered(d, o.intervalJitter)
}

// longest keeps a number of milliseconds within what a Duration holds.
const longest = uint64(math.MaxInt64 / time.Millisecond)

// jittered adds what jitter there is to d, and keeps it within what runtime allows. It is never 0.
func (c *Checker) jittered(d, jitter time.Duration) time.Duration {
	ms := uint64(d.Milliseconds())
	if part := uint64(c.config.intervalJitterPercent) * ms / 100; part > 0 {
		ms += c.env.Draw() % part
	}
	if j := uint64(jitter.Milliseconds()); j > 0 {
		ms += c.env.Draw() % j
	}
	rt := c.env.Runtime.Load()
	ms = min(ms, rt.Uint("health_check.max_interval", longest))
	ms = max(ms, rt.Uint("health_check.min_interval", 0), 1)
	return time.Duration(min(ms, longest)) * time.Millisecond
}
