package header_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/header"
)

// model is the plainest map that does the same.
type model struct {
	f    []header.Field
	once func(name string) bool
}

func (m *model) add(name, value string) {
	if m.once(name) {
		for i := range m.f {
			if m.f[i].Name == name {
				m.f[i].Value += "," + value
				return
			}
		}
	}
	m.f = append(m.f, header.Field{Name: name, Value: value})
}

func (m *model) remove(drop func(string) bool) int {
	n := len(m.f)
	m.f = slices.DeleteFunc(m.f, func(f header.Field) bool { return drop(f.Name) })
	return n - len(m.f)
}

func (m *model) set(name, value string) {
	at := -1
	m.f = slices.DeleteFunc(m.f, func(f header.Field) bool { return false })
	for i := range m.f {
		if m.f[i].Name == name {
			at = i
			break
		}
	}
	if at < 0 {
		m.f = append(m.f, header.Field{Name: name, Value: value})
		return
	}
	m.f[at].Value = value
	rest := slices.DeleteFunc(slices.Clone(m.f[at+1:]), func(f header.Field) bool { return f.Name == name })
	m.f = append(m.f[:at+1], rest...)
}

var someNames = []string{"a", "x-a", "x-b", "x-forwarded-for", "cookie", "accept", "host", "te", "vary", "content-length", "", "x_a"}

// FuzzMap does to a Map and to the model what the input says, and compares.
func FuzzMap(f *testing.F) {
	f.Add([]byte{0, 1, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, uint8(1))
	f.Add([]byte{0, 3, 0, 3, 0, 5, 0, 5, 5, 3, 3, 3}, uint8(2))
	f.Fuzz(func(t *testing.T, ops []byte, role uint8) {
		var m header.Map
		r := header.Role(role % 3)
		m.Become(r)
		o := model{once: func(name string) bool { return m.Once(header.Lookup(name)) && r != header.NoRole }}
		for i := 0; i+1 < len(ops); i += 2 {
			name, value := someNames[int(ops[i+1])%len(someNames)], fmt.Sprint(i)
			switch ops[i] % 7 {
			case 0, 1:
				m.Add(name, value)
				o.add(name, value)
			case 2:
				m.Set(name, value)
				o.set(name, value)
			case 3:
				if a, b := m.Remove(name), o.remove(func(n string) bool { return n == name }); a != b {
					t.Fatalf("removed %d, not %d", a, b)
				}
			case 4:
				if a, b := m.RemovePrefix("x-"), o.remove(func(n string) bool { return strings.HasPrefix(n, "x-") }); a != b {
					t.Fatalf("removed %d, not %d", a, b)
				}
			case 5:
				if id := header.Lookup(name); id != header.Other {
					m.RemoveID(id)
					o.remove(func(n string) bool { return n == name })
				}
			case 6:
				m.Append(name, value)
				if at := slices.IndexFunc(o.f, func(f header.Field) bool { return f.Name == name }); at < 0 {
					o.f = append(o.f, header.Field{Name: name, Value: value})
				} else {
					o.f[at].Value += "," + value
				}
			}
			compare(t, &m, &o)
		}
	})
}

func compare(t *testing.T, m *header.Map, o *model) {
	t.Helper()
	if !slices.Equal(m.All(), o.f) || m.Len() != len(o.f) {
		t.Fatalf("%v, not %v", m.All(), o.f)
	}
	size := 0
	for _, f := range o.f {
		size += len(f.Name) + len(f.Value)
	}
	if m.Bytes() != size {
		t.Fatalf("%d bytes, not %d", m.Bytes(), size)
	}
	for _, n := range someNames {
		var all []string
		for _, f := range o.f {
			if f.Name == n {
				all = append(all, f.Value)
			}
		}
		var values []string
		m.Values(n, func(v string) bool { values = append(values, v); return true })
		first, ok := m.Get(n)
		joined, _ := m.Joined(n)
		if !slices.Equal(all, values) || m.Count(n) != len(all) || m.Has(n) != (len(all) > 0) || ok != (len(all) > 0) ||
			ok && first != all[0] || joined != strings.Join(all, ",") {
			t.Fatalf("%q: %q, not %q", n, values, all)
		}
		if id := header.Lookup(n); id != header.Other {
			if v, found := m.Find(id); found != ok || v != first {
				t.Fatalf("%q: found %q, not %q", n, v, first)
			}
		}
	}
	var copied header.Map
	if copied.CopyFrom(m); !slices.Equal(copied.All(), m.All()) {
		t.Fatalf("copied %v", copied.All())
	}
}

func TestLookup(t *testing.T) {
	for id := header.ID(1); ; id++ {
		name := id.Name()
		if got := header.Lookup(name); got != id {
			t.Errorf("%q is %d, not %d", name, got, id)
		}
		if name == "x-envoy-upstream-canary" {
			break
		}
	}
	for _, other := range []string{"", "a", "x", "te2", "hos", "hostt", "x-forwarded-fox", strings.Repeat("h", 300)} {
		if id := header.Lookup(other); id != header.Other {
			t.Errorf("%q is %q", other, id.Name())
		}
	}
}

// TestJoins are the repeated fields that Envoy 1.40 was seen to join, and not to.
func TestJoins(t *testing.T) {
	for role, c := range map[header.Role]struct{ once, many string }{
		header.Request:  {"accept authorization user-agent x-forwarded-for via content-type if-match origin x-envoy-retry-on te", "cookie accept-language range vary etag set-cookie location forwarded traceparent"},
		header.Response: {"location vary etag content-type cache-control via age grpc-status x-envoy-ratelimited date", "set-cookie www-authenticate link user-agent accept origin x-forwarded-for x-envoy-overloaded"},
		header.NoRole:   {"", "accept vary"},
	} {
		for i, names := range []string{c.many, c.once} {
			for n := range strings.FieldsSeq(names) {
				var m header.Map
				m.Become(role)
				m.Add(n, "a")
				if m.Add(n, "b"); m.Len() != 2-i {
					t.Errorf("role %d, %s: %v", role, n, m.All())
				}
			}
		}
	}
}

func TestProperCase(t *testing.T) {
	if got := string(header.ProperCase(nil, "x_a-b'c.d~e9f--g")); got != "X_A-B'C.D~E9f--G" {
		t.Error(got)
	}
}

func TestSpelling(t *testing.T) {
	var s header.Spelling
	s.Note("X-Foo")
	s.Note("x-FOO")
	if n, ok := s.Of("x-foo"); !ok || n != "X-Foo" {
		t.Error(n, ok)
	}
	if n, ok := s.Of("x-fo"); ok {
		t.Error(n)
	}
	s.Reason = "Fine"
	s.Reset()
	if _, ok := s.Of("x-foo"); ok || s.Reason != "" {
		t.Error("not forgotten")
	}
}

func typical(m *header.Map) {
	m.Reset()
	for _, n := range []string{"user-agent", "accept", "accept-encoding", "accept-language", "x-request-id", "cookie", "x-forwarded-for", "authorization", "x-forwarded-proto", "content-type", "x-a", "x-b"} {
		m.Add(n, "value")
	}
}

func TestNoAllocation(t *testing.T) {
	var m header.Map
	m.Become(header.Request)
	typical(&m)
	if n := testing.AllocsPerRun(100, func() {
		typical(&m)
		m.Set("x-b", "2")
		m.Set("x-c", "3")
		m.Remove("cookie")
		m.RemovePrefix("x-forwarded-")
		m.SetID(header.Accept, "x")
		m.RemoveID(header.UserAgent)
		_, _ = m.Get("x-a")
		_, _ = m.Joined("x-a")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkGet(b *testing.B) {
	var m header.Map
	typical(&m)
	for _, c := range []string{"x-b", "x-none"} {
		b.Run(c, func(b *testing.B) {
			for b.Loop() {
				_, _ = m.Get(c)
			}
		})
	}
}

func BenchmarkFind(b *testing.B) {
	var m header.Map
	typical(&m)
	for _, c := range []header.ID{header.ContentType, header.Upgrade} {
		b.Run(c.Name(), func(b *testing.B) {
			for b.Loop() {
				_, _ = m.Find(c)
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	for b.Loop() {
		_ = header.Lookup("x-forwarded-proto")
	}
}
