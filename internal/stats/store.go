package stats

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Store holds everything that is counted. Any goroutine may use it.
type Store struct {
	mu      sync.Mutex // guards the fields below
	layouts map[reflect.Type]*layout
	blocks  map[key]*block
	singles map[string]any
}

// key finds a block again: the same prefix and type are the same statistics.
type key struct {
	prefix string
	layout *layout
}

// block is one struct of statistics.
type block struct {
	prefix string
	layout *layout
	value  any // a pointer to the struct
	refs   int
}

// layout says where the statistics of a struct type are.
type layout struct{ fields []field }

type field struct {
	name    string
	index   []int
	kind    Kind
	lazy    bool
	percent bool
}

// Kind is the kind of a statistic.
type Kind uint8

// The kinds, in the order in which a listing shows them.
const (
	KindText Kind = iota
	KindCounter
	KindGauge
	KindHistogram
	kindCodes
)

// Scope prefixes names.
type Scope struct {
	store  *Store
	prefix string
}

// Root returns the scope without a prefix.
func (s *Store) Root() Scope { return Scope{s, ""} }

// Sub returns a scope below this one: its name, sanitized, and a dot are put before each name.
func (s Scope) Sub(name string) Scope { return Scope{s.store, s.prefix + Sanitize(name) + "."} }

// Prefix is what the scope puts before names.
func (s Scope) Prefix() string { return s.prefix }

// New makes the statistics that the fields of T declare, below scope. The same scope and T give the same values again, so that
// what is configured twice is counted together. It panics where a field of T is no statistic: that is a mistake in the source.
func New[T any](s Scope) *T {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	k := key{s.prefix, s.store.layout(reflect.TypeFor[T]())}
	b := s.store.blocks[k]
	if b == nil {
		b = &block{prefix: s.prefix, layout: k.layout, value: new(T)}
		s.store.blocks[k] = b
	}
	b.refs++
	return b.value.(*T)
}

// Drop takes back one New. The last one takes the statistics out of the store.
func Drop[T any](s Scope) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	k := key{s.prefix, s.store.layout(reflect.TypeFor[T]())}
	if b := s.store.blocks[k]; b != nil {
		if b.refs--; b.refs == 0 {
			delete(s.store.blocks, k)
		}
	}
}

// layout finds the fields of t, and makes the maps at the first use of the store.
func (s *Store) layout(t reflect.Type) *layout {
	if s.layouts == nil {
		s.layouts, s.blocks = map[reflect.Type]*layout{}, map[key]*block{}
	}
	l := s.layouts[t]
	if l == nil {
		l = &layout{}
		l.add("", nil, t)
		s.layouts[t] = l
	}
	return l
}

func (l *layout) add(prefix string, index []int, t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("stat"), ",")
		if tag == "" && !f.Anonymous {
			panic("stats: " + t.String() + "." + f.Name + " has no stat tag")
		}
		e := field{name: prefix + tag, index: append(slices.Clone(index), i), lazy: options == "lazy" || options == "classes", percent: options == "percent"}
		switch f.Type {
		case reflect.TypeFor[Counter]():
			e.kind = KindCounter
		case reflect.TypeFor[Gauge]():
			e.kind = KindGauge
		case reflect.TypeFor[Histogram]():
			e.kind = KindHistogram
		case reflect.TypeFor[Text]():
			e.kind = KindText
		case reflect.TypeFor[Codes]():
			e.kind = kindCodes
		default:
			l.add(e.name, e.index, f.Type)
			continue
		}
		l.fields = append(l.fields, e)
	}
}

// Counter makes a single counter, for a name that is only known while running. The same name gives the same counter.
func (s Scope) Counter(name string) *Counter { return resolve[Counter](s, name) }

// Gauge makes a single gauge, as Counter does.
func (s Scope) Gauge(name string) *Gauge { return resolve[Gauge](s, name) }

// Histogram makes a single histogram, as Counter does.
func (s Scope) Histogram(name string) *Histogram { return resolve[Histogram](s, name) }

func resolve[T any](s Scope, name string) *T {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if v, ok := s.store.singles[s.prefix+name].(*T); ok {
		return v
	}
	if s.store.singles == nil {
		s.store.singles = map[string]any{}
	}
	v := new(T)
	s.store.singles[s.prefix+name] = v
	return v
}

// Stat is a statistic with its name. Of the values, the one of its kind is set.
type Stat struct {
	Name      string
	Kind      Kind
	Text      string
	Counter   uint64
	Gauge     int64
	Histogram *Histogram
	// Used says that it was written since the start.
	Used bool
	// Percent says that the histogram's values are millionths.
	Percent bool
}

// Snapshot returns all statistics whose name keep accepts, by name; a nil keep accepts all. Two of the same kind and name are
// shown as one, added up.
func (s *Store) Snapshot(keep func(name string) bool) []Stat {
	var all []Stat
	s.each(func(st Stat) {
		if keep == nil || keep(st.Name) {
			all = append(all, st)
		}
	})
	slices.SortFunc(all, func(a, b Stat) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind)) })
	return merge(all)
}

// merge adds neighbours of one name and kind up.
func merge(all []Stat) []Stat {
	out := all[:0]
	for _, st := range all {
		if n := len(out) - 1; n >= 0 && out[n].Name == st.Name && out[n].Kind == st.Kind {
			out[n].Counter += st.Counter
			out[n].Gauge += st.Gauge
			out[n].Used = out[n].Used || st.Used
			continue
		}
		out = append(out, st)
	}
	return out
}

// each shows every statistic, in no order.
func (s *Store) each(show func(Stat)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.blocks {
		b.each(show)
	}
	for name, v := range s.singles {
		showOne(Stat{Name: name}, false, v, show)
	}
}

func (b *block) each(show func(Stat)) {
	b.statistics(func(f *field, v any) {
		showOne(Stat{Name: b.prefix + f.name, Percent: f.percent}, f.lazy, v, show)
	})
}

// statistics calls f with a pointer to each statistic of the block.
func (b *block) statistics(f func(field *field, statistic any)) {
	v := reflect.ValueOf(b.value).Elem()
	for i := range b.layout.fields {
		e := &b.layout.fields[i]
		f(e, v.FieldByIndex(e.index).Addr().Interface())
	}
}

func showOne(st Stat, lazy bool, v any, show func(Stat)) {
	switch v := v.(type) {
	case *Counter:
		st.Kind, st.Counter, st.Used = KindCounter, v.Value(), v.Used()
	case *Gauge:
		st.Kind, st.Gauge, st.Used = KindGauge, v.Value(), v.used.Load()
	case *Histogram:
		st.Kind, st.Histogram, st.Used = KindHistogram, v, v.used()
		lazy = lazy && !st.Used
		st.Used = v.Total().Count() > 0 // as in Envoy, not before the first flush
	case *Text:
		st.Kind, st.Text, st.Used = KindText, v.Value(), v.v.Load() != nil
	case *Codes:
		v.each(st.Name, !lazy, show)
		return
	}
	if st.Used || !lazy {
		show(st)
	}
}

func (c *Codes) each(prefix string, completed bool, show func(Stat)) {
	s := c.p.Load()
	if s == nil {
		return
	}
	if completed {
		showOne(Stat{Name: prefix + "completed"}, true, &s.completed, show)
	}
	for class := range s.class {
		showOne(Stat{Name: prefix + strconv.Itoa(class) + "xx"}, true, &s.class[class], show)
		if status := s.status[class].Load(); status != nil {
			for i := range status {
				showOne(Stat{Name: prefix + strconv.Itoa(class*100+i)}, true, &status[i], show)
			}
		}
	}
}

// ResetCounters makes every counter 0, as /reset_counters does.
func (s *Store) ResetCounters() {
	s.all(func(v any) {
		switch v := v.(type) {
		case *Counter:
			v.reset()
		case *Codes:
			v.reset()
		}
	})
}

// all calls f with a pointer to every statistic.
func (s *Store) all(f func(statistic any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.blocks {
		b.statistics(func(_ *field, v any) { f(v) })
	}
	for _, v := range s.singles {
		f(v)
	}
}

// Flush ends an interval of all histograms: what they show from now on is what was recorded up to now. stats_flush_interval says
// how often the process calls it.
func (s *Store) Flush() {
	s.all(func(v any) {
		if h, ok := v.(*Histogram); ok {
			h.flush()
		}
	})
}
