package stats_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

type breaker struct {
	Open stats.Gauge `stat:"cx_open"`
}

type sample struct {
	Total   stats.Counter   `stat:"upstream_cx_total"`
	Active  stats.Gauge     `stat:"upstream_cx_active"`
	Time    stats.Histogram `stat:"upstream_rq_time"`
	Rare    stats.Counter   `stat:"rare,lazy"`
	Version stats.Text      `stat:"version_text"`
	Codes   stats.Codes     `stat:"upstream_rq_"`
	Breaker breaker         `stat:"circuit_breakers.default."`
}

// listing renders everything as `name: value` lines.
func listing(s *stats.Store, keep func(string) bool) string {
	var b strings.Builder
	for _, st := range s.Snapshot(keep) {
		switch st.Kind {
		case stats.KindText:
			fmt.Fprintf(&b, "%s: %q\n", st.Name, st.Text)
		case stats.KindCounter:
			fmt.Fprintf(&b, "%s: %d\n", st.Name, st.Counter)
		case stats.KindGauge:
			fmt.Fprintf(&b, "%s: %d used=%v\n", st.Name, st.Gauge, st.Used)
		case stats.KindHistogram:
			fmt.Fprintf(&b, "%s: %d of %d\n", st.Name, st.Histogram.Interval().Count(), st.Histogram.Total().Count())
		}
	}
	return b.String()
}

func TestEveryKindIsListedUnderItsName(t *testing.T) {
	store := &stats.Store{}
	s := stats.New[sample](store.Root().Sub("cluster").Sub("a:b"))
	s.Total.Add(2)
	s.Active.Inc()
	s.Active.Dec()
	s.Time.Record(7)
	s.Version.Set("v1")
	s.Codes.Count(200)
	s.Codes.Count(204)
	s.Codes.Count(999)
	store.Flush()
	s.Time.Record(8)
	store.Flush()
	want := `cluster.a_b.circuit_breakers.default.cx_open: 0 used=false
cluster.a_b.upstream_cx_active: 0 used=true
cluster.a_b.upstream_cx_total: 2
cluster.a_b.upstream_rq_200: 1
cluster.a_b.upstream_rq_204: 1
cluster.a_b.upstream_rq_2xx: 2
cluster.a_b.upstream_rq_completed: 3
cluster.a_b.upstream_rq_time: 1 of 2
cluster.a_b.version_text: "v1"
`
	if d := cmp.Diff(want, listing(store, nil)); d != "" {
		t.Error(d)
	}
	store.ResetCounters()
	if got := listing(store, func(n string) bool { return strings.HasSuffix(n, "_total") }); got != "cluster.a_b.upstream_cx_total: 0\n" {
		t.Errorf("after a reset: %s", got)
	}
}

func TestTheSameScopeIsTheSameStatistics(t *testing.T) {
	store := &stats.Store{}
	scope := store.Root().Sub("x")
	a, b := stats.New[sample](scope), stats.New[sample](scope)
	if a != b {
		t.Fatal("two values for one name")
	}
	stats.Drop[sample](scope)
	if len(store.Snapshot(nil)) == 0 {
		t.Error("dropped while still in use")
	}
	stats.Drop[sample](scope)
	if got := listing(store, nil); got != "" {
		t.Errorf("left after the last Drop: %s", got)
	}
}

func TestNamesAddUp(t *testing.T) {
	store := &stats.Store{}
	stats.New[sample](store.Root()).Total.Add(2)
	store.Root().Counter("upstream_cx_total").Add(3)
	if got := listing(store, func(n string) bool { return n == "upstream_cx_total" }); got != "upstream_cx_total: 5\n" {
		t.Errorf("got %q", got)
	}
}

func TestQuantilesAndBuckets(t *testing.T) {
	store := &stats.Store{}
	h := store.Root().Histogram("h")
	// What Envoy shows for these values: P0 1.05, P25 41.25, P50 41.5, P75 41.75, then 44.5.
	for _, v := range []uint64{1, 41, 41, 41, 44} {
		h.Record(v)
	}
	if h.Total() != nil {
		t.Error("shown before the interval ended")
	}
	store.Flush()
	var got []string
	for _, q := range stats.Quantiles() {
		got = append(got, fmt.Sprintf("%g", h.Total().Quantile(q)))
	}
	if s := strings.Join(got, " "); s != "1.05 41.25 41.5 41.75 44.5 44.5 44.5 44.5 44.5 44.5" {
		t.Errorf("quantiles %s", s)
	}
	if d := h.Total(); d.Below(0.5) != 0 || d.Below(1) != 1 || d.Below(25) != 1 || d.Below(50) != 5 {
		t.Errorf("buckets of %v", d)
	}
	if s := fmt.Sprintf("%.6f", h.Total().Sum()); s != "170.023929" {
		t.Errorf("sum %s", s)
	}
}

func TestBinsHoldTheirValues(t *testing.T) {
	for range 2000 {
		v := rand.Uint64N(1 << rand.UintN(36))
		store := &stats.Store{}
		h := store.Root().Histogram("h")
		h.Record(v)
		store.Flush()
		b := h.Total()[0]
		if f := float64(v); f < b.Lower || f > b.Lower+b.Width || b.Width > max(0.1, f/10) {
			t.Fatalf("%d is in %+v", v, b)
		}
	}
}

func TestTagsOfNames(t *testing.T) {
	tags := stats.NewTags(true)
	tags.Fix("mesh", "m1")
	if err := tags.Extract("reporter", `(reporter=\.=(.*?);\.;)`); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, want string }{
		{"cluster.b1.upstream_rq_200", "cluster.upstream_rq response_code=200 cluster_name=b1"},
		{"cluster.b1.external.upstream_rq_2xx", "cluster.external.upstream_rq_xx response_code_class=2 cluster_name=b1"},
		{"http.in.downstream_rq_5xx", "http.downstream_rq_xx response_code_class=5 http_conn_manager_prefix=in"},
		{"listener.127.0.0.1_80.http.in.downstream_rq_2xx", "listener.http.downstream_rq_xx response_code_class=2 http_conn_manager_prefix=in listener_address=127.0.0.1_80"},
		{"listener.[__]_80.downstream_cx_total", "listener.downstream_cx_total listener_address=[__]_80"},
		{"listener.127.0.0.1_80.worker_3.downstream_cx_total", "listener.worker.downstream_cx_total worker_id=3 listener_address=127.0.0.1_80"},
		{"listener.admin.downstream_cx_total", "listener.admin.downstream_cx_total"},
		{"server.worker_0.watchdog_miss", "server.worker.watchdog_miss worker_id=0"},
		{"tcp.t.downstream_cx_total", "tcp.downstream_cx_total tcp_prefix=t"},
		{"vhost.v.vcluster.c.upstream_rq_total", "vhost.vcluster.upstream_rq_total virtual_cluster=c virtual_host=v"},
		{"http.in.rds.r.1.update_success", "http.rds.update_success http_conn_manager_prefix=in rds_route_config=r.1"},
		{"cluster.b1", "cluster.b1"},
		{"server.live", "server.live"},
		{"istio.reporter=.=source;.;x", "istio.x reporter=source"},
	} {
		name, found := tags.Split(c.name)
		got := name
		for _, tag := range found {
			if tag.Name != "mesh" {
				got += " " + strings.TrimPrefix(tag.Name, "envoy.") + "=" + tag.Value
			}
		}
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		if found[0] != (stats.Tag{Name: "mesh", Value: "m1"}) {
			t.Errorf("%s: the fixed tag is not first: %v", c.name, found)
		}
	}
}

func TestTagsWithLookAround(t *testing.T) {
	tags := stats.NewTags(false)
	if err := tags.Extract("prefix", `^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)`); err != nil { // of istiod's bootstrap
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"listener.0.0.0.0_80.http.127.0.0.1_80.downstream_cx_total": "listener.0.0.0.0_80.http.downstream_cx_total [{prefix 127.0.0.1_80}]",
		"listener.a.downstream_cx_total":                            "listener.a.downstream_cx_total []",
		"listener.é.http.1.x":                                       "listener.é.http.1.x []",
	} {
		rest, found := tags.Split(name)
		if got := fmt.Sprint(rest, " ", found); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// TestExpressions: look-ahead is there; of two values for a tag the first counts, and an expression
// that may match anywhere comes before one for names that begin with a certain token; without a group nothing is found.
func TestExpressions(t *testing.T) {
	tags := stats.NewTags(false)
	for _, e := range [][2]string{
		{"version", `(\.v(?=\d)(\d+))`}, {"none", "server"}, {"who", `^server\.((.*?)\.)`}, {"who", `(who_(\w+)\.)`},
	} {
		if err := tags.Extract(e[0], e[1]); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"a.v12.b": "a.b [{version 12}]", "a.vx.b": "a.vx.b []", "server.live.x": "server.x [{who live}]",
		"server.live.who_me.x": "server.live.x [{who me}]",
	} {
		rest, found := tags.Split(name)
		if got := fmt.Sprint(rest, " ", found); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestTagErrors(t *testing.T) {
	tags := stats.NewTags(false)
	for _, c := range [][2]string{
		{"x", "("},
		{"", "(a)"},
		{"unknown", ""},
		{"x", "(?<=a)(b)"},
		{"x", "(?i)(b)"},
		{"x", "(?P<n>b)"},
		{"x", `\A(b)`},
		{"x", `(b)\2`},
		{"x", `(b)\`},
		{"x", "(a{)"},
		{"x", "(a{,3})"},
		{"x", "(a})"},
		{"x", "(a])"},
		{"x", "(b)[]]"},
		{"x", "(b)[a"},
		{"x", "(b)[[:alpha:"},
	} {
		if tags.Extract(c[0], c[1]) == nil {
			t.Errorf("%v was taken", c)
		}
	}
	for _, e := range []string{`[a{}](b)\$\-\_`, `(b)\u0041\x41\cA\0`, `(b)\1`, "(b)[^]", `(b)[\]]`, "[[:alpha:]](b)", "a{2}b{2,}c{2,3}", "(?!a)(?:b)", "a"} {
		if err := tags.Extract("x", e); err != nil {
			t.Errorf("%s: %v", e, err)
		}
	}
	if err := tags.Extract("envoy.cluster_name", ""); err != nil {
		t.Error(err)
	}
}

func TestPrometheus(t *testing.T) {
	store := &stats.Store{}
	for _, c := range []string{"b", "a"} {
		s := stats.New[sample](store.Root().Sub("cluster").Sub(c))
		s.Codes.Count(503)
		s.Time.Record(3)
	}
	store.Flush()
	var b strings.Builder
	keep := func(n string) bool { return strings.Contains(n, "_rq_") }
	if err := stats.Prometheus(&b, store.Snapshot(keep), stats.NewTags(true), func(string) []float64 { return []float64{1, 5} }); err != nil {
		t.Fatal(err)
	}
	want := `# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{envoy_response_code="503",envoy_cluster_name="a"} 1
envoy_cluster_upstream_rq{envoy_response_code="503",envoy_cluster_name="b"} 1
# TYPE envoy_cluster_upstream_rq_completed counter
envoy_cluster_upstream_rq_completed{envoy_cluster_name="a"} 1
envoy_cluster_upstream_rq_completed{envoy_cluster_name="b"} 1
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="a"} 1
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="b"} 1
# TYPE envoy_cluster_upstream_rq_time histogram
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a",le="1"} 0
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a",le="5"} 1
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a",le="+Inf"} 1
envoy_cluster_upstream_rq_time_sum{envoy_cluster_name="a"} 3.0491803278688523
envoy_cluster_upstream_rq_time_count{envoy_cluster_name="a"} 1
`
	if got := b.String(); !strings.HasPrefix(got, want) {
		t.Error(cmp.Diff(want, got))
	}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	s := stats.New[sample]((&stats.Store{}).Root())
	record := func() {
		s.Total.Inc()
		s.Active.Inc()
		s.Active.Dec()
		s.Time.Record(12)
		s.Codes.Count(200)
	}
	record()
	if n := testing.AllocsPerRun(100, record); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestConcurrentUse(t *testing.T) {
	store := &stats.Store{}
	s := stats.New[sample](store.Root())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				s.Codes.Count(200 + i%300)
				s.Time.Record(uint64(i))
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			store.Flush()
			store.Snapshot(nil)
		}
	})
	wg.Wait()
	store.Flush()
	if n := s.Time.Total().Count(); n != 4000 {
		t.Errorf("%d values of 4000", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	s := stats.New[sample]((&stats.Store{}).Root())
	for b.Loop() {
		s.Total.Inc()
		s.Active.Inc()
		s.Active.Dec()
		s.Time.Record(12)
		s.Codes.Count(200)
	}
}

func TestResetKeepsUse(t *testing.T) {
	type sample struct {
		Used   stats.Counter `stat:"used"`
		Unused stats.Counter `stat:"unused"`
		Codes  stats.Codes   `stat:"rq_"`
	}
	store := &stats.Store{}
	s := stats.New[sample](store.Root())
	s.Used.Add(3)
	s.Codes.Count(204)
	store.ResetCounters()
	var got []string
	for _, st := range store.Snapshot(nil) {
		if st.Used {
			got = append(got, fmt.Sprint(st.Name, " ", st.Counter))
		}
	}
	if want := []string{"rq_204 0", "rq_2xx 0", "rq_completed 0", "used 0"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzExpression(f *testing.F) {
	for _, e := range []string{`(\.v(?=\d)(\d+))`, "[[:alpha:]](b{2,})", `(a)[^\]]\1`, "(?:"} {
		f.Add(e, "a.v1.b")
	}
	f.Fuzz(func(t *testing.T, expression, name string) {
		tags := stats.NewTags(false)
		if len(expression) > 30 || len(name) > 12 || tags.Extract("x", expression) != nil { // look-ahead may take exponential time
			return
		}
		if rest, found := tags.Split(name); len(found) == 0 && rest != name {
			t.Errorf("%q became %q without a tag", name, rest)
		}
	})
}
