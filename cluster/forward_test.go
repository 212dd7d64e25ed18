package cluster

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/control"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

// forwarder is a dynamic forward proxy.
func forwarder(fields string) string {
	return `lb_policy: CLUSTER_PROVIDED
cluster_type: {name: envoy.clusters.dynamic_forward_proxy, typed_config: {"@type": type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig, ` + fields + `}}
`
}

// forwarding runs f on a fiber with a manager whose control loop runs, and that has a cluster.
func forwarding(t *testing.T, text string, f func(w *fiber.Worker, m *Manager, loop *control.Loop)) {
	t.Helper()
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		t.Helper()
		loop := control.New()
		m := NewManager(Env{Workers: []*fiber.Worker{w}, Stats: &stats.Store{}, Control: loop})
		if err := m.Add(read(t, text), false); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { loop.Run(); close(ended) }() // ends with Stop
		loop.Do(func() { m.Start(func(then func()) { then() }, func() {}) })
		f(w, m, loop)
		loop.Do(m.Close)
		loop.Stop()
		<-ended
	})
}

func TestForwardTo(t *testing.T) {
	forwarding(t, forwarder("dns_cache_config: {name: k, max_hosts: 2}"), func(w *fiber.Worker, m *Manager, loop *control.Loop) {
		c := m.Get("c")
		q := lb.Request{}
		c.Aim(&q, &stream.Info{}, "10.0.0.1", &header.Map{})
		if q.Host != "10.0.0.1:80" || c.Pick(w, q) != nil {
			t.Errorf("%q is not known yet", q.Host)
		}
		if why := c.Forwarding().Resolve(w, &q); why != "" {
			t.Fatal(why)
		}
		loop.Do(func() {})
		h := c.Pick(w, q)
		if h == nil || h.Address.String() != "10.0.0.1:80" || h.Hostname != "10.0.0.1:80" || c.Stats.MembershipTotal.Value() != 1 {
			t.Fatalf("%+v", h)
		}
		if n := testing.AllocsPerRun(100, func() { c.Forwarding().Resolve(w, &q); c.Pick(w, q) }); n != 0 {
			t.Errorf("a host that is known costs %v allocations", n)
		}
		for _, r := range []struct{ host, want string }{{"[::1]:9", ""}, {"10.0.0.3:1", "dns_cache_overflow"}, {"", ""}} {
			if why := c.Forwarding().Resolve(w, &lb.Request{Host: r.host}); why != r.want {
				t.Errorf("%q: %q, want %q", r.host, why, r.want)
			}
		}
		loop.Do(func() {
			if _, err := m.DNSCache(c.config.forward.cache); err != nil {
				t.Errorf("the same again: %v", err)
			}
			if err := m.Add(called(t, "d", forwarder("dns_cache_config: {name: k}")), false); err == nil || !strings.Contains(err.Error(), "config specified DNS cache 'k' with different settings") {
				t.Errorf("%v", err)
			}
			if err := m.Add(called(t, "e", forwarder("dns_cache_config: {name: k, max_hosts: 2}")), false); err != nil || len(m.Get("e").Hosts()) != 2 {
				t.Errorf("another cluster has the hosts of the cache, too: %v", err)
			}
		})
	})
}

func TestWhereTo(t *testing.T) {
	forwarding(t, forwarder("dns_cache_config: {name: k}"), func(_ *fiber.Worker, m *Manager, _ *control.Loop) {
		conn := &stream.Conn{ServerName: "sni.test"}
		asked := stream.FilterState{dynamicHost: "state.test", dynamicPort: uint32(81)}
		for _, c := range []struct {
			i    *stream.Info
			h    *header.Map
			want string
		}{
			{&stream.Info{Conn: conn}, &header.Map{}, "head.test:80"},
			{&stream.Info{Conn: conn}, nil, "sni.test:80"},
			{&stream.Info{Conn: conn, State: asked}, &header.Map{}, "state.test:81"},
			{&stream.Info{Conn: &stream.Conn{State: asked}}, nil, "state.test:81"},
			{&stream.Info{Conn: &stream.Conn{State: stream.FilterState{dynamicPort: "82"}, ServerName: "sni.test"}}, nil, "sni.test:82"},
			{&stream.Info{Conn: &stream.Conn{}}, nil, ""},
		} {
			q := lb.Request{}
			m.Get("c").Aim(&q, c.i, "head.test", c.h)
			if q.Host != c.want {
				t.Errorf("%q, want %q", q.Host, c.want)
			}
		}
	})
}

func TestSubClusters(t *testing.T) {
	text := forwarder("sub_clusters_config: {max_sub_clusters: 1, sub_cluster_ttl: 3600s, dns_cluster_config: {dns_lookup_family: V4_ONLY}}")
	forwarding(t, text, func(w *fiber.Worker, m *Manager, loop *control.Loop) {
		c, f := m.Get("c"), m.Get("c").Forwarding()
		if !f.Divided() || f.Sub(w, "10.0.0.1:80", time.Minute) != nil || f.Sub(w, "10.0.0.1:80", time.Minute) != nil {
			t.Fatal("the cluster of a host is made when it is wanted")
		}
		if err := f.Sub(w, "10.0.0.2:80", time.Minute); !errors.Is(err, ErrSubOverflow) {
			t.Errorf("one too many: %v", err)
		}
		h := c.Pick(w, lb.Request{Host: "10.0.0.1:80"})
		if h == nil || h.Cluster().Name != "DFPCluster:10.0.0.1:80" || c.Pick(w, lb.Request{Host: "10.0.0.2:80"}) != nil {
			t.Errorf("%+v", h)
		}
		loop.Do(func() {
			if m.Remove("DFPCluster:10.0.0.1:80") || m.Get("DFPCluster:10.0.0.1:80") == nil {
				t.Error("a control plane that does not know it takes it away")
			}
			if !m.Remove("c") || len(m.Names()) != 0 {
				t.Errorf("%q are left", m.Names())
			}
		})
	})
}

func TestSubClustersGoWithTime(t *testing.T) {
	forwarding(t, forwarder("sub_clusters_config: {sub_cluster_ttl: 0.001s}"), func(w *fiber.Worker, m *Manager, loop *control.Loop) {
		f := m.Get("c").Forwarding()
		if err := f.Sub(w, "10.0.0.1:80", time.Minute); err != nil {
			t.Fatal(err)
		}
		loop.Do(func() { (*f.made.Load())["10.0.0.1:80"].used.Store(0) })
		for gone := false; !gone; {
			loop.Do(func() { gone = len(m.Names()) == 1 && len(*f.made.Load()) == 0 })
		}
	})
}

func TestRefusedForwarders(t *testing.T) {
	m, _ := manager(&fiber.Worker{})
	for text, want := range map[string]string{
		"dns_cache_config: {name: x, key_value_config: {config: {name: k, typed_config: {}}}}":                                        "dns_cache_config.key_value_config",
		"dns_cache_config: {name: x, max_hosts: 1, preresolve_hostnames: [{address: a, port_value: 1}, {address: b, port_value: 1}]}": "preresolve_hostnames=2 larger than max_hosts=1",
		"dns_cache_config: {name: x, typed_dns_resolver_config: {name: resolver, typed_config: {}}}":                                  "typed_dns_resolver_config",
		"sub_clusters_config: {lb_policy: CLUSTER_PROVIDED}":                                                                          "unsupported lb_policy",
	} {
		if err := m.Add(read(t, forwarder(text)), true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, err := m.DNSCache(nil); err != nil {
		t.Error(err)
	}
}
