package cluster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/orca"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

// policy is a typed extension of a type below envoy.extensions.load_balancing_policies; config is the inside of its message.
func policy(kind, config string) string {
	if config != "" {
		config = ", " + config
	}
	return fmt.Sprintf("{policies: [{typed_extension_config: {name: x, typed_config: {'@type': type.googleapis.com/%s%s}}}]}", kind, config)
}

const policies = "envoy.extensions.load_balancing_policies."

// typed is a load_balancing_policy.
func typed(kind, config string) string {
	return "load_balancing_policy: " + policy(kind, config) + "\n"
}

// ours is a policy that has no message.
func ours(config string) string {
	return typed("xds.type.v3.TypedStruct", "type_url: type.googleapis.com/"+PeakEWMA+", value: {"+config+"}")
}

// added is the cluster of a text, with a worker to pick on.
func added(t testing.TB, text string) (*Cluster, *fiber.Worker) {
	t.Helper()
	w := &fiber.Worker{}
	m, _ := manager(w)
	if err := m.Add(read(t, text), true); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return m.Get("c"), w
}

func TestRefusedPolicies(t *testing.T) {
	child := policy(policies+"round_robin.v3.RoundRobin", "")
	for text, want := range map[string]string{
		typed("envoy.config.core.v3.Node", ""):                                                                                                                 "load_balancing_policy.policies: didn't find a registered load balancer factory implementation",
		typed(policies+"ring_hash.v3.RingHash", "minimum_ring_size: 9, maximum_ring_size: 8"):                                                                  "typed_config.minimum_ring_size: ring hash: minimum_ring_size (9) > maximum_ring_size (8)",
		typed(policies+"maglev.v3.Maglev", "table_size: 9"):                                                                                                    "typed_config.table_size: The table size of maglev must be prime number",
		typed(policies+"maglev.v3.Maglev", "consistent_hashing_lb_config: {hash_policy: [{}]}"):                                                                "consistent_hashing_lb_config.hash_policy[0].policy_specifier: is required",
		typed(policies+"override_host.v3.OverrideHost", "override_host_sources: [{}], fallback_policy: "+child):                                                "override_host_sources: Empty override source",
		typed(policies+"override_host.v3.OverrideHost", "override_host_sources: [{header: a, metadata: {key: b, path: [{key: c}]}}], fallback_policy: "+child): "override_host_sources: Only one override source must be set",
		typed(policies+"override_host.v3.OverrideHost", "override_host_sources: [{header: a}], fallback_policy: {}"):                                           "fallback_policy: policies: didn't find",
		typed(policies+"subset.v3.Subset", "subset_lb_policy: {}"):                                                                                             "subset_lb_policy.policies: didn't find",
		typed(policies+"subset.v3.Subset", "subset_lb_policy: "+policy(policies+"subset.v3.Subset", "subset_lb_policy: {}")):                                   "a subset policy within another",
		typed(policies+"wrr_locality.v3.WrrLocality", "endpoint_picking_policy: {}"):                                                                           "endpoint_picking_policy.policies: didn't find",
		ours("speed: 1"):        "value.speed: no such field",
		ours("decay_time: 5"):   "value.decay_time: a duration of more than 0s",
		ours("default_rtt: 0s"): "value.default_rtt: a duration of more than 0s",
		ours("decay_time: 5ms"): "value.decay_time: a duration of more than 0s",
	} {
		m, _ := manager(&fiber.Worker{})
		if err := m.Add(read(t, text), true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
}

// TestTables shows where keys go: the same key to the same host, on all workers, by weight and by health; a table of the same shares is kept.
func TestTables(t *testing.T) {
	for name, text := range map[string]string{
		"ring": "lb_policy: RING_HASH\n", "maglev": "lb_policy: MAGLEV\n", "typed ring": typed(policies+"ring_hash.v3.RingHash", ""),
		"typed maglev": typed(policies+"maglev.v3.Maglev", "consistent_hashing_lb_config: {hash_balance_factor: 150}"),
	} {
		c, w := added(t, text+assignment(endpoints("", "", "", ", health_status: UNHEALTHY")))
		if !c.Hashes() {
			t.Errorf("%s: it does not look at the hash", name)
		}
		for range 200 {
			r := lb.Request{Hash: rand.Uint64(), HasHash: true, Random: rand.Uint64()}
			h := c.Pick(w, r)
			if r.Random++; h == nil || c.Pick(w, r) != h || h.Address.Addr().As4()[3] == 4 {
				t.Fatalf("%s: %v and then another", name, h)
			}
		}
		if n := counted(c, w, 3000, lb.Request{}); len(n) != 3 || slices.Min(slices.Collect(maps.Values(n))) < 500 {
			t.Errorf("%s: without a hash %v", name, n)
		}
		before := c.hosts.Load().tables[0].Table
		if c.update(c.assignment); c.hosts.Load().tables[0].Table != before {
			t.Errorf("%s: the same hosts again make another table", name)
		}
	}
}

func TestHashKeys(t *testing.T) {
	named := ", metadata: {filter_metadata: {envoy.lb: {hash_key: k}}}"
	c, _ := added(t, "lb_policy: MAGLEV\n"+assignment(endpoints("", named)))
	if l := c.Hosts(); c.hashKey(l[0]) != "10.0.0.1:80" || c.hashKey(l[1]) != "k" {
		t.Errorf("%s, %s", c.hashKey(l[0]), c.hashKey(l[1]))
	}
	c.config.lb.byHostname = true // which wants a host that was found by DNS
	c.Hosts()[0].Hostname = "h"
	if got := c.hashKey(c.Hosts()[0]); got != "h" {
		t.Errorf("%s", got)
	}
}

// TestTablePanics shows that a priority in panic has all its hosts in the table, and that degraded ones are in none.
func TestTablePanics(t *testing.T) {
	const sick = ", health_status: UNHEALTHY"
	c, w := added(t, "lb_policy: RING_HASH\n"+assignment(endpoints("", sick, sick)))
	if n := counted(c, w, 3000, lb.Request{}); len(n) != 3 || c.Stats.Panic.Value() != 3000 {
		t.Errorf("%v, %d in panic", n, c.Stats.Panic.Value())
	}
	c, w = added(t, "lb_policy: RING_HASH\n"+assignment(endpoints("", ", health_status: DEGRADED", ", health_status: DEGRADED")))
	if n := counted(c, w, 1000, lb.Request{}); len(n) != 1 || n[1] != 1000 {
		t.Errorf("%v", n)
	}
}

func TestLocalitiesInTables(t *testing.T) {
	near, far, none := "locality: {zone: a}, load_balancing_weight: 1, ", "locality: {zone: b}, load_balancing_weight: 3, ", "locality: {zone: c}, "
	other := func(n int) string {
		return fmt.Sprintf("lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.%d, port_value: 1}}}}]", n)
	}
	c, w := added(t, "lb_policy: MAGLEV\ncommon_lb_config: {locality_weighted_lb_config: {}}\n"+assignment(near+other(1), far+other(2), none+other(3)))
	if n := counted(c, w, 20000, lb.Request{}); len(n) != 2 || n[1] < 4500 || n[1] > 5500 {
		t.Errorf("%v", n)
	}
}

// TestWorkersTakeTurns picks on several workers in no particular order.
func TestWorkersTakeTurns(t *testing.T) {
	c, _ := added(t, assignment(endpoints("", "", "", "", "", "", "")))
	workers := []*fiber.Worker{{}, {ID: 1}, {ID: 2}}
	c.balancers = make([]*balancer, 3)
	n := map[string]int{}
	for i := range 1000 {
		if n[c.Pick(workers[rand.IntN(3)], lb.Request{Random: rand.Uint64()}).Address.String()]++; i%100 == 0 {
			c.update(c.assignment) // turns outlive versions
		}
	}
	counts := slices.Collect(maps.Values(n))
	if len(n) != 7 || slices.Max(counts)-slices.Min(counts) > 1 {
		t.Errorf("%v", n)
	}
}

func TestPickFirst(t *testing.T) {
	c, w := added(t, typed(policies+"pick_first.v3.PickFirst", "")+assignment(endpoints(", health_status: UNHEALTHY", "", "")))
	if n := counted(c, w, 10, lb.Request{}); n[2] != 10 {
		t.Errorf("%v", n)
	}
}

func TestOverride(t *testing.T) {
	child := policy(policies+"round_robin.v3.RoundRobin", "")
	c, _ := added(t, typed(policies+"override_host.v3.OverrideHost",
		"override_host_sources: [{header: X-Host}, {metadata: {key: ns, path: [{key: a}, {key: b}]}}], selected_host_key: {key: out, path: [{key: at}, {key: last}]}, fallback_policy: "+child)+assignment(endpoints("", "", "")))
	var i stream.Info
	var h header.Map
	h.Add("x-host", "10.9.9.9:80, 10.0.0.2:80 ,,10.0.0.1:80")
	i.Metadata.Set("ns", "a", map[string]any{"b": "10.0.0.3:80"})
	var got []string
	for used := 0; ; {
		host, n := c.Override(&i, &h, used)
		if used = n; host == nil {
			break
		}
		got = append(got, host.Address.String())
	}
	if strings.Join(got, " ") != "10.0.0.2:80 10.0.0.1:80 10.0.0.3:80" {
		t.Errorf("%v", got)
	}
	c.Selected(&i, c.Hosts()[0])
	if fmt.Sprint(i.Metadata["out"]) != "map[at:map[last:10.0.0.1:80]]" {
		t.Errorf("%v", i.Metadata)
	}
	if host, _ := c.Override(&stream.Info{}, nil, 0); host != nil {
		t.Error("nobody was named")
	}
}

func TestWanted(t *testing.T) {
	hosts := assignment(endpoints("", ", health_status: UNHEALTHY", ", health_status: DEGRADED", ", health_status: DRAINING"))
	for _, k := range []struct{ text, want string }{
		{"", "1 - 3 -"},
		{"common_lb_config: {override_host_status: {statuses: []}}\n", "- - - -"},
		{"common_lb_config: {override_host_status: {statuses: [UNHEALTHY, DRAINING]}}\n", "- 2 - 4"},
	} {
		c, _ := added(t, k.text+hosts)
		var got []string
		for n := 1; n <= 4; n++ {
			h, found := c.Wanted(fmt.Sprintf("10.0.0.%d:80", n))
			if !found {
				t.Errorf("%d is not found", n)
			}
			if h == nil {
				got = append(got, "-")
			} else {
				got = append(got, fmt.Sprint(h.Address.Addr().As4()[3]))
			}
		}
		if s := strings.Join(got, " "); s != k.want {
			t.Errorf("%s: %s, want %s", k.text, s, k.want)
		}
	}
	c, _ := added(t, hosts)
	if h, found := c.Wanted("10.0.0.9:80"); h != nil || found {
		t.Error("found somebody who is not there")
	}
}

// TestReports lets hosts report their load: they get their weights on the control loop.
func TestReports(t *testing.T) {
	c, w := added(t, typed(policies+"client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin", "blackout_period: 0s")+assignment(endpoints("", "", "")))
	if !c.Learns() {
		t.Fatal("it does not learn")
	}
	for i, rps := range []int{10, 30} {
		var head header.Map
		head.Add("endpoint-load-metrics", fmt.Sprintf("TEXT rps_fractional=%d,cpu_utilization=1", rps))
		c.Learn(w, c.Hosts()[i], &head, 0) // this worker's clock stands still
		if err := c.config.lb.learning.orca.Learn(c.Hosts()[i].member.load, &orca.Report{RPS: float64(rps), CPU: 1}, c.m.now()); err != nil {
			t.Fatal(err)
		}
	}
	c.reweigh()
	if n := counted(c, w, 600, lb.Request{}); n[1] != 100 || n[2] != 300 || n[3] != 200 || c.Hosts()[2].LoadWeight() != 20 {
		t.Errorf("%v", n)
	}
	before := c.hosts.Load()
	if c.reweigh(); c.hosts.Load() != before {
		t.Error("the same weights make another version")
	}
}

func TestPeakEWMA(t *testing.T) {
	c, w := added(t, ours("decay_time: 5s, default_rtt: 0.02s")+assignment(endpoints("", "", "")))
	if p := c.config.lb.learning.ewma; p.Decay != 5*time.Second || p.Default != 20*time.Millisecond {
		t.Errorf("%+v", p)
	}
	for _, h := range c.Hosts() {
		c.Learn(w, h, &header.Map{}, time.Millisecond)
	}
	c.LearnFailure(w, c.Hosts()[0])
	if n := counted(c, w, 300, lb.Request{}); n[1] != 0 || n[2] == 0 || n[3] == 0 {
		t.Errorf("%v", n)
	}
}

// TestMoreSubsets are the features beyond those of TestSubsets, as Envoy 1.40 has answered.
func TestMoreSubsets(t *testing.T) {
	hosts := assignment(endpoints(
		", metadata: {filter_metadata: {envoy.lb: {v: '1', env: prod}}}", ", metadata: {filter_metadata: {envoy.lb: {v: '2', env: prod}}}",
		", metadata: {filter_metadata: {envoy.lb: {v: '2', env: dev}}}", ", health_status: UNHEALTHY, metadata: {filter_metadata: {envoy.lb: {v: '3'}}}"))
	redundant := typed(policies+"subset.v3.Subset", "allow_redundant_keys: true, subset_selectors: [{keys: [v]}, {keys: [v, env]}], subset_lb_policy: "+policy(policies+"round_robin.v3.RoundRobin", ""))
	legacy := func(s string) string { return "lb_subset_config: {" + s + "}\n" }
	for _, k := range []struct {
		name, text string
		match      map[string]any
		want       map[int]int
	}{
		{"a redundant key", redundant, map[string]any{"v": "2", "x": "y"}, map[int]int{2: 6, 3: 6}},
		{"the most keys win", redundant, map[string]any{"v": "2", "env": "dev", "x": "y"}, map[int]int{3: 12}},
		{"a single host, however it is", legacy("subset_selectors: [{keys: [v], single_host_per_subset: true}]"), map[string]any{"v": "3"}, map[int]int{4: 12}},
		{"the fallback list", legacy("metadata_fallback_policy: FALLBACK_LIST, subset_selectors: [{keys: [v]}]"), map[string]any{"v": "9", lb.FallbackList: []any{map[string]any{"v": "8"}, map[string]any{"v": "1"}}}, map[int]int{1: 12}},
		{"no fallback list", legacy("subset_selectors: [{keys: [v]}]"), map[string]any{"v": "9", lb.FallbackList: []any{map[string]any{"v": "1"}}}, map[int]int{0: 12}},
		{"a selector behind one that begins with its keys", legacy("fallback_policy: DEFAULT_SUBSET, default_subset: {v: '1'}, subset_selectors: [{keys: [env, v]}, {keys: [env], fallback_policy: ANY_ENDPOINT}]"), map[string]any{"env": "x"}, map[int]int{1: 12}},
		{"a selector that stands alone", legacy("fallback_policy: DEFAULT_SUBSET, default_subset: {v: '1'}, subset_selectors: [{keys: [env], fallback_policy: ANY_ENDPOINT}]"), map[string]any{"env": "x"}, map[int]int{1: 4, 2: 4, 3: 4}},
		{"hashing", "lb_policy: MAGLEV\n" + legacy("subset_selectors: [{keys: [v, env]}]"), map[string]any{"v": "2", "env": "dev"}, map[int]int{3: 12}},
	} {
		t.Run(k.name, func(t *testing.T) {
			c, w := added(t, k.text+hosts)
			match := lb.Criteria(k.match)
			if got := counted(c, w, 12, lb.Request{Match: match, Fallbacks: lb.Fallbacks(match)}); fmt.Sprint(got) != fmt.Sprint(k.want) {
				t.Errorf("%v, want %v", got, k.want)
			}
		})
	}
	c, _ := added(t, legacy("subset_selectors: [{keys: [v]}]")+hosts)
	if s := c.Stats; s.SubsetsActive.Value() != 6 || s.SubsetsCreated.Value() != 6 { // of three, for a worker and the main thread
		t.Errorf("%d active, %d created", s.SubsetsActive.Value(), s.SubsetsCreated.Value())
	}
}

// TestScaledLocalities shows scale_locality_weight: a subset gets as much of a locality's weight as it has of its hosts.
func TestScaledLocalities(t *testing.T) {
	group := func(zone string, weight int, hosts ...string) string {
		return fmt.Sprintf("locality: {zone: %s}, load_balancing_weight: %d, lb_endpoints: [%s]", zone, weight, strings.Join(hosts, ", "))
	}
	host := func(n int, v string) string {
		return fmt.Sprintf("{endpoint: {address: {socket_address: {address: 10.0.0.%d, port_value: 1}}}, metadata: {filter_metadata: {envoy.lb: {v: %s}}}}", n, v)
	}
	for scale, want := range map[string]map[int]int{"false": {1: 400, 2: 400}, "true": {1: 200, 2: 600}} {
		c, w := added(t, "common_lb_config: {locality_weighted_lb_config: {}}\nlb_subset_config: {locality_weight_aware: true, scale_locality_weight: "+scale+", subset_selectors: [{keys: [v]}]}\n"+
			assignment(group("a", 30, host(1, "x"), host(3, "y"), host(4, "y")), group("b", 30, host(2, "x"))))
		if got := counted(c, w, 800, lb.Request{Match: lb.Criteria(map[string]any{"v": "x"})}); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("scaled %s: %v, want %v", scale, got, want)
		}
	}
}

func TestHashPolicyOfCluster(t *testing.T) {
	c, _ := added(t, "lb_policy: MAGLEV\ntyped_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http_protocol_options: {}}, hash_policy: [{header: {header_name: a}}]}}")
	if len(c.HashPolicy()) != 1 {
		t.Error("it is not there")
	}
	if c, _ := added(t, ""); c.Hashes() || c.Subsets() || c.Learns() || len(c.HashPolicy()) != 0 {
		t.Error("round robin asks for nothing")
	}
}

func TestBalancersDoNotAllocate(t *testing.T) {
	hosts := assignment(endpoints("", ", metadata: {filter_metadata: {envoy.lb: {v: '1', w: '1'}}}", ""))
	for _, text := range []string{
		"lb_policy: MAGLEV\n", "lb_policy: RING_HASH\n", ours(""), typed(policies+"pick_first.v3.PickFirst", ""),
		"lb_subset_config: {subset_selectors: [{keys: [v, w], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [v]}, {keys: [v]}]}\n",
		typed(policies+"subset.v3.Subset", "allow_redundant_keys: true, subset_selectors: [{keys: [v]}], subset_lb_policy: "+policy(policies+"round_robin.v3.RoundRobin", "")),
	} {
		c, w := added(t, text+hosts)
		r := lb.Request{Match: lb.Criteria(map[string]any{"v": "1", "w": "2"})}
		if n := testing.AllocsPerRun(1000, func() { r.Random++; c.Pick(w, r) }); n != 0 {
			t.Errorf("%s allocates %v", text, n)
		}
	}
}

// BenchmarkPick is the way through a cluster of a thousand hosts.
func BenchmarkPick(b *testing.B) {
	hosts := assignment(endpoints(make([]string, 250)...))
	for name, text := range map[string]string{"round robin": "", "least request": "lb_policy: LEAST_REQUEST\n", "maglev": "lb_policy: MAGLEV\n", "subset": "lb_subset_config: {fallback_policy: ANY_ENDPOINT, subset_selectors: [{keys: [v]}]}\n"} {
		b.Run(name, func(b *testing.B) {
			c, w := added(b, text+hosts)
			r := lb.Request{HasHash: true, Match: lb.Criteria(map[string]any{"v": "1"})}
			b.ReportAllocs()
			for b.Loop() {
				r.Random = lb.Next(r.Random)
				r.Hash = r.Random
				c.Pick(w, r)
			}
		})
	}
}

// TestLoadAware lets the hosts of the own zone report that they are busy.
func TestLoadAware(t *testing.T) {
	w := &fiber.Worker{}
	m, _ := manager(w)
	m.env.Locality = Locality{Zone: "b"}
	zone := func(name string, from, n int) string {
		var l []string
		for i := range n {
			l = append(l, fmt.Sprintf("{endpoint: {address: {socket_address: {address: 10.0.0.%d, port_value: 1}}}}", from+i))
		}
		return "locality: {zone: " + name + "}, lb_endpoints: [" + strings.Join(l, ", ") + "]"
	}
	child := policy(policies+"round_robin.v3.RoundRobin", "")
	if err := m.Add(read(t, typed(policies+"load_aware_locality.v3.LoadAwareLocality", "remote_probe_fraction: 0.1, endpoint_picking_policy: "+child)+assignment(zone("a", 1, 2), zone("b", 3, 2))), true); err != nil {
		t.Fatal(err)
	}
	c := m.Get("c")
	own := func() int {
		n := counted(c, w, 10000, lb.Request{})
		return n[3] + n[4]
	}
	if n := own(); n < 8800 || n > 9200 {
		t.Errorf("without reports %d stay, and 9000 should", n)
	}
	for _, h := range c.Hosts() {
		u := .2
		if h.Locality.Zone == "b" {
			u = .8
		}
		c.config.lb.learning.areas.Learn(h.member.load, &orca.Report{CPU: u}, c.m.now())
	}
	c.reweigh()
	if n := own(); n < 1800 || n > 2200 {
		t.Errorf("%d stay, and 2000 should: a fifth of the room is here", n)
	}
	if s := c.Stats; s.ZoneCross.Value() == 0 || s.ZoneSampled.Value() == 0 {
		t.Error("it is not counted")
	}
}
