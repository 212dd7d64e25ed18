// Package stats counts. Statistics are declared as the fields of a struct, made with New when a factory runs, and held as that
// struct: there is no look-up by name on the request path, and a name is only put together when somebody looks.
//
//	type poolStats struct {
//		Total   stats.Counter   `stat:"upstream_cx_total"`
//		Active  stats.Gauge     `stat:"upstream_cx_active"`
//		Length  stats.Histogram `stat:"upstream_cx_length_ms"`
//		Retries stats.Counter   `stat:"retries,lazy"` // not shown before it is first used
//		Breaker breakerStats    `stat:"circuit_breakers.default."` // a struct of more, below a prefix
//	}
//	s := stats.New[poolStats](scope)
//
// Names are Envoy's. Envoy's text and JSON, and Prometheus, are views of the one Store.
package stats

import (
	"strings"
	"sync/atomic"
)

// Counter only grows. The zero Counter is ready for use.
type Counter struct {
	v    atomic.Uint64
	past atomic.Bool // it was used before the last reset
}

// Inc adds one.
func (c *Counter) Inc() { c.v.Add(1) }

// Add adds n.
func (c *Counter) Add(n uint64) { c.v.Add(n) }

// Value reads it.
func (c *Counter) Value() uint64 { return c.v.Load() }

// Used says that it was counted with since the start, be it before a reset.
func (c *Counter) Used() bool { return c.v.Load() != 0 || c.past.Load() }

// reset makes it 0.
func (c *Counter) reset() {
	if c.v.Swap(0) != 0 {
		c.past.Store(true)
	}
}

// Gauge goes up and down. The zero Gauge is ready for use.
type Gauge struct {
	v    atomic.Int64
	used atomic.Bool
}

// Inc adds one.
func (g *Gauge) Inc() { g.Add(1) }

// Dec takes one away.
func (g *Gauge) Dec() { g.Add(-1) }

// Add adds n and returns the sum.
func (g *Gauge) Add(n int64) int64 {
	g.touch()
	return g.v.Add(n)
}

// Set makes it n.
func (g *Gauge) Set(n int64) {
	g.touch()
	g.v.Store(n)
}

// touch notes the first use. It reads before it writes, so that a busy gauge costs no second store.
func (g *Gauge) touch() {
	if !g.used.Load() {
		g.used.Store(true)
	}
}

// Used says that it was written since the start.
func (g *Gauge) Used() bool { return g.used.Load() }

// Value reads it.
func (g *Gauge) Value() int64 { return g.v.Load() }

// Text is a text readout: a statistic whose value is a string. The zero Text is empty and ready for use.
type Text struct{ v atomic.Pointer[string] }

// Set makes it s.
func (t *Text) Set(s string) { t.v.Store(&s) }

// Value reads it.
func (t *Text) Value() string {
	if p := t.v.Load(); p != nil {
		return *p
	}
	return ""
}

// Classes counts responses by class; all of its counters are shown from the start. The field's tag is the prefix, such as
// "downstream_rq_".
type Classes struct {
	Completed Counter `stat:"completed"`
	Class1    Counter `stat:"1xx"`
	Class2    Counter `stat:"2xx"`
	Class3    Counter `stat:"3xx"`
	Class4    Counter `stat:"4xx"`
	Class5    Counter `stat:"5xx"`
}

// Count takes a response in. A status outside of 100 to 599 counts as completed only.
func (c *Classes) Count(status int) {
	c.Completed.Inc()
	switch status / 100 {
	case 1:
		c.Class1.Inc()
	case 2:
		c.Class2.Inc()
	case 3:
		c.Class3.Inc()
	case 4:
		c.Class4.Inc()
	case 5:
		c.Class5.Inc()
	}
}

// Codes counts responses by status, as `<prefix>completed`, `<prefix>2xx` and `<prefix>200`. None of them is shown before it is used.
// The field's tag is the prefix, such as "upstream_rq_"; with the option "classes" it leaves "completed" out. The zero Codes is ready for use.
type Codes struct{ p atomic.Pointer[codes] }

type codes struct {
	completed Counter
	class     [6]Counter
	status    [6]atomic.Pointer[[100]Counter]
}

// Count takes a response in. A status outside of 100 to 599 counts as completed only.
func (c *Codes) Count(status int) {
	s := load(&c.p)
	s.completed.Inc()
	class := status / 100
	if class < 1 || class > 5 {
		return
	}
	s.class[class].Inc()
	load(&s.status[class])[status%100].Inc()
}

// reset makes all of them 0.
func (c *Codes) reset() {
	s := c.p.Load()
	if s == nil {
		return
	}
	s.completed.reset()
	for i := range s.class {
		s.class[i].reset()
		if status := s.status[i].Load(); status != nil {
			for j := range status {
				status[j].reset()
			}
		}
	}
}

// load returns what p points to, and makes it at first use.
func load[T any](p *atomic.Pointer[T]) *T {
	if v := p.Load(); v != nil {
		return v
	}
	p.CompareAndSwap(nil, new(T))
	return p.Load()
}

// Sanitize makes a part of a name of s: it may hold no colon, because that is how sinks separate name and value.
func Sanitize(s string) string {
	if strings.IndexByte(s, ':') < 0 && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.NewReplacer("://", "_", ":/", "_", ":", "_", "\x00", "_").Replace(s)
}
