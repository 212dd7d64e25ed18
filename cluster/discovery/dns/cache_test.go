package dns

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// shelf is a cache whose time passes when the test says so. It is the resolver, too.
type shelf struct {
	*Cache

	posts   chan func()
	rests   []time.Duration
	again   func() // ends the last rest
	answers map[string]string
}

func newShelf(c CacheConfig) *shelf {
	s := &shelf{posts: make(chan func(), 9), answers: map[string]string{}}
	c.Refresh, c.Least, c.HostTTL, c.Resolver, c.Gate = time.Minute, 5*time.Second, 5*time.Minute, s, &Gate{}
	c.MaxHosts, c.MaxPending = 2, 1
	c.Scope, c.Post = (&stats.Store{}).Root().Sub("dns_cache").Sub("c"), func(f func()) { s.posts <- f }
	c.After = func(d time.Duration, f func()) func() {
		s.rests, s.again = append(s.rests, d), f
		return func() {}
	}
	s.Cache = NewCache(c)
	return s
}

func (s *shelf) Lookup(_ context.Context, name string, _ Family) (Answer, error) {
	a := Answer{}
	for f := range strings.FieldsSeq(s.answers[name]) {
		if d, err := time.ParseDuration(f); err == nil {
			a.TTL = d
		} else if ip, err := netip.ParseAddr(f); err == nil {
			a.Addrs = append(a.Addrs, ip)
		} else {
			return Answer{}, RefusalError(f)
		}
	}
	return a, nil
}

// wants asks for a key and tells what comes.
func (s *shelf) wants(key string) string {
	var got *Result
	s.want(key, func(r *Result) { got = r })
	if got == nil {
		(<-s.posts)()
	}
	return show(got)
}

// turns lets the last rest end, and the question that follows be answered.
func (s *shelf) turns() {
	s.again()
	if len(*s.entries.Load()) > 0 {
		(<-s.posts)()
	}
}

func show(r *Result) string {
	if r == nil {
		return "nothing"
	}
	var l []string
	for _, a := range r.Addresses {
		l = append(l, a.String())
	}
	return strings.TrimSpace(strings.Join(append(l, r.Details), " "))
}

func TestCacheKeepsWhatItHas(t *testing.T) {
	s := newShelf(CacheConfig{FailureBase: 10 * time.Millisecond, FailureMax: 20 * time.Millisecond})
	told := 0
	stop := s.Watch(func() { told++ })
	s.answers["a.test"] = "10.0.0.1 7s"
	if got := s.wants("a.test:80"); got != "10.0.0.1:80" || told != 1 {
		t.Errorf("%s, told %d times", got, told)
	}
	for _, c := range []struct {
		answer, known string
		least, most   time.Duration
		told          int
	}{
		{"10.0.0.1 7s", "10.0.0.1:80", 7 * time.Second, 7 * time.Second, 1},
		{"10.0.0.2 1s", "10.0.0.2:80", 5 * time.Second, 5 * time.Second, 2},
		{"10.0.0.2", "10.0.0.2:80", time.Minute, time.Minute, 2},
		{"broken", "10.0.0.2:80 cares_failure:broken", 0, 10 * time.Millisecond, 2},
		{"broken", "10.0.0.2:80 cares_failure:broken", 0, 20 * time.Millisecond, 2},
		{"", "10.0.0.2:80 cares_norecords:DNS_server_returned_answer_with_no_data", time.Minute, time.Minute, 2},
		{"10.0.0.3 10.0.0.4 9s", "10.0.0.3:80 10.0.0.4:80", 9 * time.Second, 9 * time.Second, 3},
	} {
		s.answers["a.test"] = c.answer
		s.turns()
		rest := s.rests[len(s.rests)-1]
		if got := show(s.Known("a.test:80")); got != c.known || rest < c.least || rest > c.most || told != c.told {
			t.Errorf("after %q: %s for %v, told %d times; want %s", c.answer, got, rest, told, c.known)
		}
	}
	stop()
	(*s.entries.Load())["a.test:80"].used.Store(0)
	s.turns()
	if s.Known("a.test:80") != nil || s.stats.Removed.Value() != 1 || told != 3 {
		t.Error("a name that nobody wants goes")
	}
	s.Close()
}

func TestCacheOnDemand(t *testing.T) {
	s := newShelf(CacheConfig{OnDemand: true})
	s.answers["a.test"] = "broken"
	if got := s.wants("a.test:80"); got != "cares_failure:broken" || s.Known("a.test:80") != nil || len(s.rests) != 0 {
		t.Errorf("%s: a failure is forgotten at once, and nobody asks by himself", got)
	}
	s.answers["a.test"] = "10.0.0.1"
	if got := s.wants("a.test:80"); got != "10.0.0.1:80" || s.stats.Attempt.Value() != 2 || s.stats.Added.Value() != 1 {
		t.Errorf("%s after %d questions", got, s.stats.Attempt.Value())
	}
}

func TestCacheLimits(t *testing.T) {
	s := newShelf(CacheConfig{
		Preresolve: []string{"a.test:1"}, Denied: func(a netip.Addr) bool { return a.IsLoopback() },
	})
	s.answers["a.test"], s.answers["b.test"] = "127.0.0.1 10.0.0.1", "127.0.0.1"
	(<-s.posts)() // what is to be there from the beginning
	(<-s.posts)()
	if got := show(s.Known("a.test:1")); got != "10.0.0.1:1" || s.stats.FilteredOut.Value() != 1 {
		t.Errorf("known from the beginning: %s", got)
	}
	if got := s.wants("b.test:80"); got != "address_denied" {
		t.Errorf("denied: %s", got)
	}
	if _, err := s.Load(nil, "c.test:80"); !errors.Is(err, ErrCacheOverflow) || s.stats.HostOverflow.Value() != 1 {
		t.Errorf("a third name: %v", err)
	}
	if r, err := s.Load(nil, "a.test:1"); err != nil || show(r) != "10.0.0.1:1" {
		t.Errorf("a name that is there does not overflow: %v", err)
	}
	if r, err := s.LoadAdmitted(nil, "a.test:1"); err != nil || show(r) != "10.0.0.1:1" {
		t.Errorf("nobody waits: %v", err)
	}
	s.pending.Store(1)
	if _, err := s.LoadAdmitted(nil, "a.test:1"); !errors.Is(err, ErrPendingOverflow) || s.stats.Overflow.Value() != 1 {
		t.Errorf("one waits already: %v", err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = s.Load(nil, "a.test:1") }); n != 0 {
		t.Errorf("a name that is known costs %v allocations", n)
	}
}

func TestCacheWaitsOnce(t *testing.T) {
	s := newShelf(CacheConfig{})
	var got []string
	for range 3 {
		s.want("a.test:80", func(r *Result) { got = append(got, show(r)) })
	}
	(<-s.posts)()
	if !slices.Equal(got, slices.Repeat([]string{"cares_norecords:DNS_server_returned_answer_with_no_data"}, 3)) || s.stats.Attempt.Value() != 1 {
		t.Errorf("%q after %d questions", got, s.stats.Attempt.Value())
	}
}

func TestKey(t *testing.T) {
	for authority, want := range map[string]string{
		"a.test": "a.test:80", "a.test:81": "a.test:81", "10.0.0.1": "10.0.0.1:80", "[::1]": "[::1]:80", "[::1]:81": "[::1]:81", "::1": "[::1]:80", "": ":80",
	} {
		if got := Key(authority, 80); got != want {
			t.Errorf("%q: %q, want %q", authority, got, want)
		}
	}
}

func FuzzKey(f *testing.F) {
	f.Add("a.test:81")
	f.Add("[::1")
	f.Fuzz(func(t *testing.T, authority string) {
		if k := Key(authority, 80); !strings.Contains(k, ":") {
			t.Errorf("%q has no port in %q", authority, k)
		}
	})
}
