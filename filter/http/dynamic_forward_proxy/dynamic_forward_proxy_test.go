package dynamicforwardproxy

import (
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	forwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/filtertest"
	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/control"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &forwardv3.FilterConfig{}, &forwardv3.PerRouteConfig{}, &forwardv3.SubClusterConfig{})
}

// serve builds a filter before a cluster of that kind, and calls f.
func serve(t *testing.T, kind string, p *forwardv3.FilterConfig, f func(g *filtertest.Stage, before *asked)) {
	t.Helper()
	filtertest.Each(t, func(g *filtertest.Stage) {
		g.T.Helper()
		loop := control.New()
		m := cluster.NewManager(cluster.Env{Workers: g.Env.Workers, Stats: g.Env.Stats, Control: loop})
		c := &clusterv3.Cluster{}
		text := `{name: c, lb_policy: CLUSTER_PROVIDED, cluster_type: {name: envoy.clusters.dynamic_forward_proxy, typed_config: {"@type": type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig, ` + kind + `}}}`
		if _, err := protofile.Parse([]byte(text), protofile.YAML, c); err != nil {
			g.T.Fatal(err)
		}
		if err := m.Add(c, true); err != nil {
			g.T.Fatal(err)
		}
		g.Env.Clusters, g.Env.Name = m, "test"
		built, err := filtertest.New(g, p, New)
		if err != nil {
			g.T.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { loop.Run(); close(ended) }() // ends with Stop
		loop.Do(func() { m.Start(func(then func()) { then() }, func() {}) })
		g.Cluster = m.Get("c")
		before := &asked{cluster: m.Get("c")}
		g.Use(before, built)
		f(g, before)
		loop.Do(m.Close)
		loop.Stop()
		<-ended
	})
}

func cacheOf(most uint32) *forwardv3.FilterConfig {
	return &forwardv3.FilterConfig{SaveUpstreamAddress: true, AllowDynamicHostFromFilterState: true, ImplementationSpecifier: &forwardv3.FilterConfig_DnsCacheConfig{
		DnsCacheConfig: &cachev3.DnsCacheConfig{Name: "k", MaxHosts: wrapperspb.UInt32(most)},
	}}
}

// asked sets what a request is for, in the place of the connection manager and of filters before.
type asked struct {
	host  string
	state stream.FilterState
	fixed *rewrite
	lost  bool // there is no route

	cluster *cluster.Cluster
}

func (a *asked) OnRequest(s *filter.Stream) filter.Status {
	s.Request.Authority, s.Info.State = a.host, a.state
	if a.lost {
		return filter.Continue
	}
	s.Route = &route.Route{Action: &route.Action{}}
	s.Cluster = a.cluster
	if a.fixed != nil {
		a.fixed.apply(s)
	}
	return filter.Continue
}

func TestFind(t *testing.T) {
	serve(t, "dns_cache_config: {name: k, max_hosts: 3}", cacheOf(3), func(g *filtertest.Stage, before *asked) {
		for _, c := range []struct {
			asked

			status  int
			details string
			address string
		}{
			{asked{host: "10.0.0.1"}, 200, "", "10.0.0.1:80"},
			{asked{host: "10.0.0.1:80"}, 200, "", "10.0.0.1:80"},
			{asked{host: "10.0.0.1", state: stream.FilterState{"envoy.upstream.dynamic_port": "81"}}, 200, "", "10.0.0.1:81"},
			{asked{host: "any", fixed: &rewrite{host: "10.0.0.1"}}, 200, "", "10.0.0.1:80"},
			{asked{host: "any", fixed: &rewrite{header: "x-host"}}, 200, "", "10.0.0.9:81"},
			{asked{host: "10.0.0.4"}, 503, "dns_cache_overflow", ""},
			{asked{host: ""}, 400, "empty_host_header", ""},
		} {
			c.cluster = before.cluster
			*before = c.asked
			got := g.Serve(&filtertest.Play{Head: []string{"x-host: 10.0.0.9:81"}})
			address := ""
			if a, ok := g.Stream.Info.State[addressState].(stream.Address); ok {
				address = a.String()
			}
			if got.Status != c.status || c.details != "" && g.Stream.Info.Details != c.details || address != c.address {
				g.T.Errorf("%+v: %d %s, saved %q", c.asked, got.Status, g.Stream.Info.Details, address)
			}
		}
	})
}

func TestDivide(t *testing.T) {
	p := &forwardv3.FilterConfig{ImplementationSpecifier: &forwardv3.FilterConfig_SubClusterConfig{
		SubClusterConfig: &forwardv3.SubClusterConfig{ClusterInitTimeout: durationpb.New(time.Minute)},
	}}
	serve(t, "sub_clusters_config: {max_sub_clusters: 1}", p, func(g *filtertest.Stage, before *asked) {
		for _, c := range []struct {
			host   string
			status int
		}{{"10.0.0.1", 200}, {"10.0.0.1:80", 200}, {"10.0.0.2", 503}} {
			before.host = c.host
			if got := g.Serve(&filtertest.Play{}); got.Status != c.status {
				g.T.Errorf("%s: %d", c.host, got.Status)
			}
		}
	})
}

func TestKnownHostDoesNotAllocate(t *testing.T) {
	p := cacheOf(3)
	p.SaveUpstreamAddress = false
	serve(t, "dns_cache_config: {name: k, max_hosts: 3}", p, func(g *filtertest.Stage, before *asked) {
		before.host = "10.0.0.1:80"
		with := g.Allocs(&filtertest.Play{})
		g.Use(before)
		if n := g.Allocs(&filtertest.Play{}); with > n {
			g.T.Errorf("%v allocations, %v without the filter", with, n)
		}
	})
}

func TestOthersAreLeftAlone(t *testing.T) {
	serve(t, "dns_cache_config: {name: k, max_hosts: 3}", cacheOf(3), func(g *filtertest.Stage, before *asked) {
		before.lost = true
		if got := g.Serve(&filtertest.Play{}); got.Status != 200 {
			g.T.Errorf("without a route: %d", got.Status)
		}
		if _, err := filtertest.New(g, cacheOf(4), New); err == nil {
			g.T.Error("a cache has one configuration")
		}
	})
}
