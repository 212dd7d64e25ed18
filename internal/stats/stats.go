// Package stats counts. Statistics are declared as the fields of a struct, made with New when a factory runs, and held as that
// struct: there is no look-up by name on the request path, and a name is only put together when somebody looks.
//
//	type poolStats struct {
//		Total  stats.Counter   `stat:"upstream_cx_total"`
//		Active stats.Gauge     `stat:"upstream_cx_active"`
//		Length stats.Histogram `stat:"upstream_cx_length_ms,ms"`
//	}
//	s := stats.New[poolStats](scope)
package stats

import (
	"reflect"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
)

// Counter only grows. The zero Counter is ready for use.
type Counter struct{ v atomic.Uint64 }

// Inc adds one.
func (c *Counter) Inc() { c.v.Add(1) }

// Add adds n.
func (c *Counter) Add(n uint64) { c.v.Add(n) }

// Value reads it.
func (c *Counter) Value() uint64 { return c.v.Load() }

// Gauge goes up and down. The zero Gauge is ready for use.
type Gauge struct{ v atomic.Int64 }

// Inc adds one.
func (g *Gauge) Inc() { g.v.Add(1) }

// Dec takes one away.
func (g *Gauge) Dec() { g.v.Add(-1) }

// Add adds n and returns the sum.
func (g *Gauge) Add(n int64) int64 { return g.v.Add(n) }

// Set makes it n.
func (g *Gauge) Set(n int64) { g.v.Store(n) }

// Value reads it.
func (g *Gauge) Value() int64 { return g.v.Load() }

// Histogram records how values are distributed.
type Histogram struct{ n atomic.Uint64 }

// Record takes a value in: milliseconds, bytes, or what the histogram's unit says.
func (h *Histogram) Record(v uint64) { h.n.Add(1) }

// Store holds everything that is counted.
type Store struct {
	mu sync.Mutex // guards m
	m  map[string]any
}

// Scope prefixes names.
type Scope struct {
	store  *Store
	prefix string
}

// Root returns the scope without a prefix.
func (s *Store) Root() Scope { return Scope{s, ""} }

// Sub returns a scope below this one: its name and a dot are put before each name.
func (s Scope) Sub(name string) Scope { return Scope{s.store, s.prefix + name + "."} }

// New makes the statistics that the fields of T declare, below scope. The same scope and T give the same values again.
func New[T any](s Scope) *T {
	v := new(T)
	rv := reflect.ValueOf(v).Elem()
	for i := range rv.NumField() {
		name, _, _ := strings.Cut(rv.Type().Field(i).Tag.Get("stat"), ",")
		s.store.put(s.prefix+name, rv.Field(i).Addr().Interface())
	}
	return v
}

// Counter makes a single counter, for names that are only known while running.
func (s Scope) Counter(name string) *Counter { return resolve[Counter](s, name) }

// Gauge makes a single gauge.
func (s Scope) Gauge(name string) *Gauge { return resolve[Gauge](s, name) }

func (s *Store) put(name string, v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[string]any{}
	}
	s.m[name] = v
}

func resolve[T any](s Scope, name string) *T {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if s.store.m == nil {
		s.store.m = map[string]any{}
	}
	if v, ok := s.store.m[s.prefix+name].(*T); ok {
		return v
	}
	v := new(T)
	s.store.m[s.prefix+name] = v
	return v
}

// Each calls f for every statistic, sorted by name.
func (s *Store) Each(f func(name string, value int64)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.m))
	for n := range s.m {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		switch v := s.m[n].(type) {
		case *Counter:
			f(n, int64(v.Value()))
		case *Gauge:
			f(n, v.Value())
		}
	}
}
