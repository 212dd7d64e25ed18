package route

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// linear is the plain scan that the finder has to agree with.
func linear(f *finder, q *request) *Route {
	for _, r := range f.routes {
		if r.matcher.match(q) {
			return r
		}
	}
	return nil
}

func ask(path string, headers ...string) *stream.Stream {
	s := &stream.Stream{}
	s.Request.Method, s.Request.Path, s.Request.Authority, s.Request.Scheme = "GET", path, "test.local", "http"
	for i := 0; i+1 < len(headers); i += 2 {
		s.Request.Header.Add(headers[i], headers[i+1])
	}
	return s
}

// randomMatch makes a match out of few letters, so that many matches overlap.
func randomMatch(r *rand.Rand) *routev3.RouteMatch {
	path := func() string {
		var b strings.Builder
		for range r.IntN(4) {
			b.WriteString([]string{"/", "/a", "/A", "/b", "/ab", "c"}[r.IntN(6)])
		}
		return "/" + strings.TrimPrefix(b.String(), "/")
	}
	m := &routev3.RouteMatch{}
	switch r.IntN(7) {
	case 0, 1:
		m.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: path()}
	case 2, 3:
		m.PathSpecifier = &routev3.RouteMatch_Path{Path: path()}
	case 4:
		m.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: "/a" + strings.TrimRight(path(), "/")}
	case 5:
		m.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: path() + []string{"", ".*", "[ab]?", "|/b"}[r.IntN(4)]}}
	case 6:
		m.PathSpecifier = &routev3.RouteMatch_ConnectMatcher_{ConnectMatcher: &routev3.RouteMatch_ConnectMatcher{}}
	}
	if r.IntN(3) == 0 {
		m.CaseSensitive = wrapperspb.Bool(false)
	}
	if r.IntN(3) == 0 {
		m.Headers = []*routev3.HeaderMatcher{{Name: "x-t", HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: r.IntN(2) == 0}}}
	}
	return m
}

func randomFinder(t *testing.T, r *rand.Rand) *finder {
	var routes []*Route
	for range r.IntN(30) {
		m, err := compileMatcher(randomMatch(r), &Env{})
		if err != nil {
			t.Fatal(err)
		}
		routes = append(routes, &Route{matcher: m})
	}
	f := newFinder(routes)
	return &f
}

func agree(t *testing.T, f *finder, path string, r *rand.Rand) {
	s := ask(path)
	if r.IntN(2) == 0 {
		s.Request.Header.Add("x-t", "1")
	}
	if r.IntN(8) == 0 {
		s.Request.Method = "CONNECT"
	}
	q := &request{s: s, path: path[:pathEnd(path)]}
	if got, want := f.find(q), linear(f, q); got != want {
		t.Fatalf("%s %q: the finder and the scan differ: %+v, %+v", s.Request.Method, path, got, want)
	}
}

func TestFinderAgreesWithScan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		f := randomFinder(t, r)
		for range 20 {
			var b strings.Builder
			for range r.IntN(5) {
				b.WriteString([]string{"/", "/a", "/A", "/b", "/AB", "c", "?x", ";p"}[r.IntN(8)])
			}
			agree(t, f, b.String(), r)
		}
	}
}

func FuzzFinderAgreesWithScan(f *testing.F) {
	for i, path := range []string{"", "/", "/a/b", "/A/bc?d", "/ab/", "//a"} {
		f.Add(uint64(i), path)
	}
	f.Fuzz(func(t *testing.T, seed uint64, path string) {
		r := rand.New(rand.NewPCG(seed, 1))
		fd := randomFinder(t, r)
		for range 4 {
			agree(t, fd, path, r)
		}
	})
}

// many makes a table of n routes by prefix, path and regular expression, each with a path of its own.
func many(tb testing.TB, n int) *Table {
	v := &routev3.VirtualHost{Name: "v", Domains: []string{"*"}}
	for i := range n {
		m := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: pathOf(i) + "/"}}
		switch i % 3 {
		case 1:
			m.PathSpecifier = &routev3.RouteMatch_Path{Path: pathOf(i)}
		case 2:
			m.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: pathOf(i) + "/[a-z]+"}}
		}
		v.Routes = append(v.Routes, &routev3.Route{Name: fmt.Sprint(i), Match: m, Action: &routev3.Route_NonForwardingAction{NonForwardingAction: &routev3.NonForwardingAction{}}})
	}
	t, err := Compile(&routev3.RouteConfiguration{VirtualHosts: []*routev3.VirtualHost{v}}, Env{})
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func pathOf(i int) string { return fmt.Sprintf("/service-%05d/v1", i) }

func requestFor(i int) *stream.Stream {
	if i%3 == 1 {
		return ask(pathOf(i) + "?q=1")
	}
	return ask(pathOf(i) + "/items?q=1")
}

// TestLastOfTenThousand counts the routes that are looked at closely, which does not depend on the machine as time does.
func TestLastOfTenThousand(t *testing.T) {
	table := many(t, 9999)
	for _, i := range []int{0, 1, 2, 5000, 9996, 9997, 9998} {
		s := requestFor(i)
		if _, r := table.Match(s, 0); r == nil || r.Name != fmt.Sprint(i) {
			t.Fatalf("%s: got %+v", s.Request.Path, r)
		}
		if n := candidates(&table.hosts.fallback.finder, s); n != 1 {
			t.Errorf("route %d: %d routes are looked at, want 1", i, n)
		}
		if n := testing.AllocsPerRun(100, func() { table.Match(s, 0) }); n != 0 {
			t.Errorf("route %d: %v allocations", i, n)
		}
	}
}

// candidates counts the routes that the path of s leads to.
func candidates(f *finder, s *stream.Stream) int {
	path := s.Request.Path[:pathEnd(s.Request.Path)]
	n := len(f.exact[path])
	for _, r := range f.routes {
		if r.matcher.kind != pathExact && strings.HasPrefix(path, r.matcher.literal()) {
			n++
		}
	}
	return n
}

func BenchmarkMatch(b *testing.B) {
	table := many(b, 9999)
	for name, i := range map[string]int{"first": 0, "last": 9996} {
		b.Run(name, func(b *testing.B) {
			s := requestFor(i)
			for b.Loop() {
				table.Match(s, 0)
			}
		})
	}
}
