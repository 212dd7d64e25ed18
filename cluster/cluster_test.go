package cluster

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/control"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

// read makes a cluster of YAML; its name is c.
func read(t testing.TB, text string) *clusterv3.Cluster {
	t.Helper()
	p := &clusterv3.Cluster{}
	if _, err := protofile.Parse([]byte("name: c\n"+text), protofile.YAML, p); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return p
}

// endpoints is a load assignment, in flow style: hosts 10.0.0.1, 10.0.0.2 ... with these extras.
func endpoints(extras ...string) string {
	var l []string
	for i, x := range extras {
		l = append(l, fmt.Sprintf("{endpoint: {address: {socket_address: {address: 10.0.0.%d, port_value: 80}}}%s}", i+1, x))
	}
	return "lb_endpoints: [" + strings.Join(l, ", ") + "]"
}

func assignment(groups ...string) string {
	for i := range groups {
		groups[i] = "{" + groups[i] + "}"
	}
	return "load_assignment: {cluster_name: c, endpoints: [" + strings.Join(groups, ", ") + "]}\n"
}

func manager(w *fiber.Worker) (*Manager, *control.Loop) {
	loop := control.New()
	return NewManager(Env{Workers: []*fiber.Worker{w}, Stats: &stats.Store{}, Control: loop}), loop
}

// counted makes n picks and counts them by the last number of the address; 0 is nobody.
func counted(c *Cluster, w *fiber.Worker, n int, r lb.Request) map[int]int {
	got := map[int]int{}
	for range n {
		r.Random = rand.Uint64()
		if h := c.Pick(w, r); h != nil {
			got[int(h.Address.Addr().As4()[3])]++
		} else {
			got[0]++
		}
	}
	return got
}

func TestRefused(t *testing.T) {
	hosts := assignment(endpoints(""))
	http := "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "
	for _, c := range []struct{ text, want string }{
		{"type: EDS", "eds_cluster_config.eds_config: cannot create an EDS cluster without an EDS config"},
		{"type: EDS\neds_cluster_config: {eds_config: {ads: {}}}", "eds_cluster_config.eds_config.there is no control plane to ask"},
		{"type: LOGICAL_DNS\n" + hosts[:len(hosts)-3] + ", {}]}", "load_assignment.endpoints: LOGICAL_DNS clusters must have a single"},
		{"type: ORIGINAL_DST", "Only 'CLUSTER_PROVIDED' is allowed"},
		{"type: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\n" + hosts, "load_assignment: ORIGINAL_DST clusters must have no load assignment"},
		{"type: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\noriginal_dst_lb_config: {http_header_name: x}", "original_dst_lb_config.http_header_name"},
		{"lb_policy: CLUSTER_PROVIDED", "lb_policy: "},
		{"lb_policy: RING_HASH\nring_hash_lb_config: {minimum_ring_size: 9, maximum_ring_size: 8}", "ring_hash_lb_config.minimum_ring_size: ring hash: minimum_ring_size (9) > maximum_ring_size (8)"},
		{"lb_policy: MAGLEV\nmaglev_lb_config: {table_size: 1000}", "maglev_lb_config.table_size: The table size of maglev must be prime number"},
		{"lb_subset_config: {subset_selectors: [{keys: [a, b], fallback_keys_subset: [a]}]}", "fallback_keys_subset: can be set only for KEYS_SUBSET"},
		{"lb_subset_config: {locality_weight_aware: true, subset_selectors: [{keys: [a]}]}", "lb_subset_config.locality_weight_aware: Locality weight aware"},
		{"cluster_type: {name: envoy.clusters.aggregate, typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random}}", "Didn't find a registered cluster factory implementation for name: 'envoy.clusters.aggregate'"},
		{"health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {send: {text: x}}}]", "health_checks[0].tcp_health_check.send.text: invalid hex string 'x'"},
		{"health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {}}, {timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {}}]", "health_checks[0].name: health check at index 0 is missing a name"},
		{"outlier_detection: {base_ejection_time: 2s, max_ejection_time: 1s}", "outlier_detection.max_ejection_time: cannot be smaller"},
		{"connect_timeout: 0s", "connect_timeout: must be more than 0"},
		{http + "explicit_http_config: {http2_protocol_options: {allow_metadata: true}}}}", "http2_protocol_options.allow_metadata: is not supported"},
		{http + "explicit_http_config: {http3_protocol_options: {}}}}", "explicit_http_config.http3_protocol_options: HTTP/3"},
		{http + "auto_config: {}}}", "ALPN configured for cluster c which has a non-ALPN transport socket"},
		{"http2_protocol_options: {custom_settings_parameters: [{identifier: 5, value: 1}]}", "http2_protocol_options.custom_settings_parameters[0]: "},
		{"transport_socket: {name: tls, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext}}", "transport_socket: didn't find a registered implementation for 'tls'"},
		{
			"load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: example.org, port_value: 80}}}}]}]}",
			"load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: malformed IP address: example.org",
		},
		{"load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 70000}}}}]}]}", "port 70000 is out of range"},
		{"load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint_name: x}]}]}", "endpoint_name: \"x\" is not among named_endpoints"},
		{"load_assignment: {cluster_name: c, named_endpoints: {x: {address: {socket_address: {address: 10.0.0.7, port_value: 1}}}}, endpoints: [{lb_endpoints: [{endpoint_name: x}]}]}", "endpoints[0].lb_endpoints[0].endpoint_name: is for EDS clusters"},
		{"transport_socket_matches: [{name: x}]", "transport_socket_matches[0].transport_socket: didn't find a registered implementation"},
		{"typed_extension_protocol_options: {x: {'@type': type.googleapis.com/envoy.extensions.upstreams.tcp.v3.TcpProtocolOptions}}", "typed_extension_protocol_options[x]: Didn't find a registered"},
		{"upstream_bind_config: {source_address: {address: 1.2.3.4, port_value: 0}, extra_source_addresses: [{address: {address: 1.2.3.5, port_value: 0}}]}", "extra_source_addresses[0].address: two source addresses of the same IP version"},
		{"upstream_bind_config: {source_address: {address: 1.2.3.4, port_value: 0}, extra_source_addresses: [{address: {address: '::1', port_value: 0}}, {address: {address: '::2', port_value: 0}}]}", "upstream_bind_config.extra_source_addresses: only one"},
		{"common_lb_config: {consistent_hashing_lb_config: {use_hostname_for_hashing: true}}", "common_lb_config.consistent_hashing_lb_config.use_hostname_for_hashing: "},
		{"lb_subset_config: {subset_selectors: [{keys: [a, b], fallback_policy: NO_FALLBACK, fallback_keys_subset: [a]}]}", "subset_selectors[0].fallback_keys_subset: "},
		{"load_balancing_policy: {policies: [{typed_extension_config: {name: w, typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality, endpoint_picking_policy: {policies: [{typed_extension_config: {name: r, typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random}}}]}}}}]}", "endpoint_picking_policy: WrrLocality takes no policy"},
		{"load_assignment: {cluster_name: c, policy: {drop_overloads: [{category: x}, {category: z}]}}", "load_assignment.policy.drop_overloads: 2 categories"},
		{"upstream_bind_config: {extra_source_addresses: [{address: {address: 1.2.3.4, port_value: 0}}]}", "upstream_bind_config.source_address: is required"},
		{"filters: [{name: x}]", "filters[0]: Didn't find a registered implementation for name: 'x'"},
		{"circuit_breakers: {per_host_thresholds: [{max_requests: 1}]}", "circuit_breakers.per_host_thresholds[0]"},
		{"type: STRICT_DNS\ndns_failure_refresh_rate: {base_interval: 2s, max_interval: 1s}", "dns_failure_refresh_rate: "},
		{"lb_subset_config: {subset_selectors: [{keys: [a, b], single_host_per_subset: true}]}", "subset_selectors[0].single_host_per_subset"},
		{"lb_subset_config: {subset_selectors: [{keys: [a, b], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [c]}]}", "fallback_keys_subset must be a subset"},
		{"common_lb_config: {locality_weighted_lb_config: {}}\nload_balancing_policy: {}", "load_balancing_policy: cannot be combined"},
	} {
		m, _ := manager(&fiber.Worker{})
		err := m.Add(read(t, c.text), true)
		if err == nil || !strings.HasPrefix(err.Error(), `cluster "c": `) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n got %v\nwant %s", c.text, err, c.want)
		}
		if m.Get("c") != nil {
			t.Errorf("%s: it is there all the same", c.text)
		}
	}
}

func TestDefaultsAndSettings(t *testing.T) {
	m, _ := manager(&fiber.Worker{})
	text := "alt_stat_name: other\nconnect_timeout: 1s\nper_connection_buffer_limit_bytes: 7\nmax_requests_per_connection: 3\n" +
		"common_http_protocol_options: {idle_timeout: 2s, max_connection_duration: 3s, max_headers_count: 5}\n" +
		"http_protocol_options: {enable_trailers: true, header_key_format: {proper_case_words: {}}}\n" +
		"circuit_breakers: {thresholds: [{priority: HIGH, max_connections: 1, retry_budget: {}}, {max_requests: 2, track_remaining: true}], per_host_thresholds: [{max_connections: 9}]}\n" +
		"track_cluster_stats: {request_response_sizes: true}\nload_balancing_policy: {policies: [{typed_extension_config: {name: x, typed_config: " +
		"{'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest, choice_count: 4, slow_start_config: {slow_start_window: 60s}}}}]}"
	for _, c := range []struct {
		text string
		want []any
	}{
		{"", []any{"c", 5 * time.Second, time.Hour, time.Duration(0), uint32(0), false, 100, int64(1024), int64(1024), int64(math.MaxInt64), false, lb.RoundRobin{}}},
		{text, []any{
			"other", time.Second, 2 * time.Second, 3 * time.Second, uint32(3), true, 5, int64(1), int64(2), int64(9), true,
			lb.LeastRequest{Choices: 4, Bias: 1, SlowStart: lb.SlowStart{Window: time.Minute, Aggression: 1, Least: .1}},
		}},
	} {
		if err := m.Add(read(t, c.text), true); err != nil {
			t.Fatal(err)
		}
		o := m.Get("c")
		got := []any{
			o.AltName, o.pools.ConnectTimeout, o.pools.IdleTimeout, o.pools.Duration(), o.pools.MaxRequests,
			o.pools.HTTP1.Trailers, o.pools.HTTP1.FieldLimit, o.Limits(pool.High).Connections.Max(), o.Limits(pool.Default).Requests.Max(),
			o.pools.HostConnections[pool.Default], o.pools.Sizes != nil, o.config.lb.policy(nil),
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%q: value %d is %v, want %v", c.text[:min(len(c.text), 20)], i, got[i], c.want[i])
			}
		}
	}
	if m.stats.Added.Value() != 1 || m.stats.Modified.Value() != 1 {
		t.Error("one cluster was added, and modified once")
	}
}

func TestDistribute(t *testing.T) {
	// healthy and all hosts of each priority, from Envoy's documentation of priority levels
	type counts struct{ healthy, degraded, all int }
	for _, c := range []struct {
		name              string
		in                []counts
		threshold         uint64
		avoid             uint32
		healthy, degraded []uint32
		panic             []bool
	}{
		{"all well", []counts{{100, 0, 100}, {100, 0, 100}}, 50, 0, []uint32{100, 0}, []uint32{0, 0}, []bool{false, false}},
		{"72 percent are enough", []counts{{72, 0, 100}, {100, 0, 100}}, 50, 0, []uint32{100, 0}, []uint32{0, 0}, []bool{false, false}},
		{"71 percent are not", []counts{{71, 0, 100}, {100, 0, 100}}, 50, 0, []uint32{99, 1}, []uint32{0, 0}, []bool{false, false}},
		{"half", []counts{{50, 0, 100}, {100, 0, 100}}, 50, 0, []uint32{70, 30}, []uint32{0, 0}, []bool{false, false}},
		{"a quarter each", []counts{{25, 0, 100}, {25, 0, 100}}, 50, 0, []uint32{50, 50}, []uint32{0, 0}, []bool{true, true}},
		{"little of each of three", []counts{{5, 0, 100}, {0, 0, 100}, {5, 0, 100}}, 0, 0, []uint32{50, 0, 50}, []uint32{0, 0, 0}, []bool{false, false, false}},
		{"degraded help", []counts{{0, 100, 100}, {0, 0, 100}}, 50, 0, []uint32{0, 0}, []uint32{100, 0}, []bool{false, false}},
		{"healthy before degraded", []counts{{0, 100, 100}, {25, 0, 100}}, 50, 0, []uint32{0, 35}, []uint32{65, 0}, []bool{false, false}},
		{"nobody at all", []counts{{0, 0, 0}}, 50, 0, []uint32{100}, []uint32{0}, []bool{true}},
		{"nobody, no panic", []counts{{0, 0, 4}}, 0, 0, []uint32{100}, []uint32{0}, []bool{false}},
		{"total panic goes by numbers", []counts{{0, 0, 10}, {0, 0, 30}}, 50, 0, []uint32{25, 75}, []uint32{0, 0}, []bool{true, true}},
		{"a retry elsewhere", []counts{{100, 0, 100}, {100, 0, 100}}, 50, 1, []uint32{0, 100}, []uint32{0, 0}, []bool{false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := make([]priority, len(c.in))
			for i, n := range c.in {
				all[i].sets = [3][]*Host{make([]*Host, n.healthy), make([]*Host, n.degraded), make([]*Host, n.all)}
			}
			got := distribute(all, 140, false, c.threshold, c.avoid)
			if want := (loads{c.healthy, c.degraded, c.panic}); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

func TestPick(t *testing.T) {
	near, far := "locality: {zone: a}, load_balancing_weight: 1, ", "locality: {zone: b}, load_balancing_weight: 3, "
	for _, c := range []struct {
		name, text string
		request    lb.Request
		picks      int
		want       map[int]int
	}{
		{"in turn", assignment(endpoints("", "", "")), lb.Request{}, 9, map[int]int{1: 3, 2: 3, 3: 3}},
		{"weights", assignment(endpoints(", load_balancing_weight: 1", ", load_balancing_weight: 2")), lb.Request{}, 9, map[int]int{1: 3, 2: 6}},
		{"unhealthy are left out", assignment(endpoints("", "", ", health_status: UNHEALTHY")), lb.Request{}, 4, map[int]int{1: 2, 2: 2}},
		{"draining count for nothing", assignment(endpoints("", ", health_status: DRAINING", ", health_status: DRAINING")), lb.Request{}, 4, map[int]int{1: 4}},
		{"panic", assignment(endpoints("", ", health_status: UNHEALTHY", ", health_status: TIMEOUT")), lb.Request{}, 9, map[int]int{1: 3, 2: 3, 3: 3}},
		{"no panic at 0", "common_lb_config: {healthy_panic_threshold: {value: 0}}\n" + assignment(endpoints("", ", health_status: UNHEALTHY", ", health_status: UNHEALTHY")), lb.Request{}, 9, map[int]int{1: 9}},
		{"no traffic in panic", "common_lb_config: {zone_aware_lb_config: {fail_traffic_on_panic: true}}\n" + assignment(endpoints("", ", health_status: UNHEALTHY", ", health_status: UNHEALTHY")), lb.Request{}, 9, map[int]int{0: 9}},
		{"degraded wait", assignment(endpoints("", ", health_status: DEGRADED")), lb.Request{}, 1, map[int]int{}},
		{"nobody", "", lb.Request{}, 2, map[int]int{0: 2}},
		{"priorities", assignment(endpoints(""), "priority: 1, lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.9, port_value: 1}}}}]"), lb.Request{}, 5, map[int]int{1: 5}},
		{"another priority", assignment(endpoints(""), "priority: 1, lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.9, port_value: 1}}}}]"), lb.Request{Avoid: 1}, 5, map[int]int{9: 5}},
		{"no priority is left", assignment(endpoints("")), lb.Request{Avoid: 1}, 5, map[int]int{1: 5}},
		{"localities", "common_lb_config: {locality_weighted_lb_config: {}}\n" + assignment(near+endpoints(""), far+"lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.9, port_value: 1}}}}]"), lb.Request{}, 8, map[int]int{1: 2, 9: 6}},
		{"localities without weights", assignment(near+endpoints(""), far+"lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.9, port_value: 1}}}}]"), lb.Request{}, 8, map[int]int{1: 4, 9: 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &fiber.Worker{}
			m, _ := manager(w)
			if err := m.Add(read(t, c.text), true); err != nil {
				t.Fatal(err)
			}
			got := counted(m.Get("c"), w, c.picks, c.request)
			if c.name == "degraded wait" { // one of two is healthy: 70 percent of the load
				many := counted(m.Get("c"), w, 20000, lb.Request{})
				if many[1] < 13600 || many[1] > 14400 {
					t.Errorf("%v", many)
				}
				return
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestSubsets(t *testing.T) {
	hosts := assignment(endpoints(", metadata: {filter_metadata: {envoy.lb: {v: '1', env: prod}}}", ", metadata: {filter_metadata: {envoy.lb: {v: '2', env: prod}}}", ", metadata: {filter_metadata: {envoy.lb: {v: '2', env: [dev, test]}}}"))
	for _, c := range []struct {
		name, text string
		match      map[string]any
		want       map[int]int
	}{
		{"one key", "subset_selectors: [{keys: [v]}]", map[string]any{"v": "2"}, map[int]int{2: 6, 3: 6}},
		{"two keys", "subset_selectors: [{keys: [v, env]}]", map[string]any{"env": "prod", "v": "2"}, map[int]int{2: 12}},
		{"no such subset", "subset_selectors: [{keys: [v]}]", map[string]any{"v": "3"}, map[int]int{0: 12}},
		{"no selector for these keys", "fallback_policy: ANY_ENDPOINT, subset_selectors: [{keys: [v]}]", map[string]any{"env": "prod"}, map[int]int{1: 4, 2: 4, 3: 4}},
		{"default subset", "fallback_policy: DEFAULT_SUBSET, default_subset: {env: prod}, subset_selectors: [{keys: [v]}]", nil, map[int]int{1: 6, 2: 6}},
		{"a selector's own fallback", "subset_selectors: [{keys: [v], fallback_policy: ANY_ENDPOINT}]", map[string]any{"v": "3"}, map[int]int{1: 4, 2: 4, 3: 4}},
		{"fewer keys", "subset_selectors: [{keys: [v, env], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [v]}, {keys: [v]}]", map[string]any{"v": "1", "env": "x"}, map[int]int{1: 12}},
		{"lists", "list_as_any: true, subset_selectors: [{keys: [env]}]", map[string]any{"env": "test"}, map[int]int{3: 12}},
		{"panic needs a fallback", "panic_mode_any: true, subset_selectors: [{keys: [v]}]", map[string]any{"v": "3"}, map[int]int{0: 12}},
		{"panic", "panic_mode_any: true, fallback_policy: DEFAULT_SUBSET, default_subset: {v: '7'}, subset_selectors: [{keys: [v]}]", map[string]any{"v": "3"}, map[int]int{1: 4, 2: 4, 3: 4}},
		{"one host", "subset_selectors: [{keys: [v], single_host_per_subset: true}]", map[string]any{"v": "2"}, map[int]int{2: 12}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &fiber.Worker{}
			m, _ := manager(w)
			if err := m.Add(read(t, "lb_subset_config: {"+c.text+"}\n"+hosts), true); err != nil {
				t.Fatal(err)
			}
			if got := counted(m.Get("c"), w, 12, lb.Request{Match: lb.Criteria(c.match)}); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestZones(t *testing.T) {
	group := func(zone string, hosts ...int) string {
		var l []string
		for _, h := range hosts {
			l = append(l, fmt.Sprintf("{endpoint: {address: {socket_address: {address: 10.0.0.%d, port_value: 1}}}}", h))
		}
		return "locality: {zone: " + zone + "}, lb_endpoints: [" + strings.Join(l, ", ") + "]"
	}
	w := &fiber.Worker{}
	m, _ := manager(w)
	m.env.Locality, m.env.LocalCluster = Locality{Zone: "a"}, "me"
	local := read(t, assignment(group("a", 101), group("b", 102)))
	local.Name = "me"
	big := read(t, assignment(group("a", 1, 2, 3), group("b", 4, 5, 6)))
	skew := read(t, assignment(group("a", 1, 2), group("b", 3, 4, 5, 6, 7, 8)))
	skew.Name = "skew"
	small := read(t, assignment(group("a", 1), group("b", 2)))
	small.Name = "small"
	for _, c := range []*clusterv3.Cluster{big, skew, small, local} {
		if err := m.Add(c, true); err != nil {
			t.Fatal(err)
		}
	}
	near := func(name string, most int) float64 {
		n := 0
		for h, k := range counted(m.Get(name), w, 10000, lb.Request{}) {
			if h <= most {
				n += k
			}
		}
		return float64(n) / 10000
	}
	for _, c := range []struct {
		name string
		most int
		want float64
	}{{"c", 3, 1}, {"skew", 2, .5}, {"small", 1, .5}} {
		if got := near(c.name, c.most); math.Abs(got-c.want) > .02 {
			t.Errorf("%s: %.3f stay in the zone, want %v", c.name, got, c.want)
		}
	}
	if m.Get("small").Stats.ZoneClusterTooSmall.Value() == 0 {
		t.Error("the small one is not counted as too small")
	}
}

func TestUpdateKeepsHosts(t *testing.T) {
	w := &fiber.Worker{}
	m, _ := manager(w)
	if err := m.Add(read(t, assignment(endpoints("", ""))), true); err != nil {
		t.Fatal(err)
	}
	c := m.Get("c")
	before := c.Hosts()
	a := *c.config.assignment
	a.Groups = append(a.Groups[:0:0], a.Groups...)
	a.Groups[0].Endpoints = append(a.Groups[0].Endpoints[:0:0], a.Groups[0].Endpoints...)
	a.Groups[0].Endpoints[1].Weight = 5
	c.update(&a)
	after := c.Hosts()
	if after[0] != before[0] || after[1].Peer != before[1].Peer || after[1].Weight != 5 {
		t.Error("hosts that stay keep their connections, and are the same value if nothing changed")
	}
	if c.Stats.MembershipChange.Value() != 1 {
		t.Error("no host came or went")
	}
	a.Groups[0].Endpoints = a.Groups[0].Endpoints[:1]
	c.update(&a)
	if c.Stats.MembershipChange.Value() != 2 || c.Stats.MembershipTotal.Value() != 1 {
		t.Error("one has gone")
	}
}

func TestOriginalDestination(t *testing.T) {
	w := &fiber.Worker{}
	m, _ := manager(w)
	err := m.Add(read(t, "type: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\noriginal_dst_lb_config: {use_http_header: true, upstream_port_override: 81, metadata_key: {key: ns, path: [{key: to}]}}"), true)
	if err != nil {
		t.Fatal(err)
	}
	c := m.Get("c")
	conn := &stream.Conn{Local: stream.Address{AddrPort: netip.MustParseAddrPort("10.0.0.1:80")}}
	for _, k := range []struct {
		name, header, metadata string
		restored               bool
		want                   string
	}{
		{"where the client wanted to go", "", "", true, "10.0.0.1:81"},
		{"not restored", "", "", false, "invalid AddrPort"},
		{"metadata are before the header", "10.0.0.2:80", "10.0.0.3:80", true, "10.0.0.3:81"},
		{"the header", "10.0.0.2:80", "", true, "10.0.0.2:81"},
		{"the header after bad metadata", "10.0.0.2:80", "nonsense", true, "10.0.0.2:81"},
		{"a filter is before all", "state 10.0.0.2:80", "10.0.0.3:80", true, "10.0.0.2:81"},
		{"a bad header", "nonsense", "", true, "10.0.0.1:81"},
	} {
		var h header.Map
		i := &stream.Info{Conn: conn}
		conn.LocalRestored = k.restored
		if v, ok := strings.CutPrefix(k.header, "state "); ok {
			i.State = stream.FilterState{originalState: v}
		} else if k.header != "" {
			h.Add("x-envoy-original-dst-host", k.header)
		}
		if k.metadata != "" {
			i.Metadata.Set("ns", "to", k.metadata)
		}
		q := lb.Request{}
		c.Aim(&q, i, "", &h)
		to := q.Destination
		if to.String() != k.want {
			t.Errorf("%s: %v, want %s", k.name, to, k.want)
		}
		if host := c.Pick(w, lb.Request{Destination: to}); (host != nil) != to.IsValid() || host != nil && host.Address.String() != k.want {
			t.Errorf("%s: host %v", k.name, host)
		}
	}
	if c.Stats.OriginalDstInvalid.Value() != 2 || c.Stats.MembershipTotal.Value() != 3 || len(c.Hosts()) != 3 {
		t.Errorf("%d invalid, %d hosts", c.Stats.OriginalDstInvalid.Value(), c.Stats.MembershipTotal.Value())
	}
	c.cleanup()
	c.Pick(w, lb.Request{Destination: netip.MustParseAddrPort("10.0.0.1:81")})
	c.cleanup()
	if c.Stats.MembershipTotal.Value() != 1 {
		t.Error("hosts that nobody asks for are forgotten")
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	w := &fiber.Worker{}
	for _, text := range []string{
		assignment(endpoints("", "")), assignment(endpoints("", ", health_status: DEGRADED")),
		"lb_subset_config: {fallback_policy: ANY_ENDPOINT, subset_selectors: [{keys: [v]}]}\n" + assignment(endpoints("", ", metadata: {filter_metadata: {envoy.lb: {v: '1'}}}")),
	} {
		m, _ := manager(w)
		if err := m.Add(read(t, text), true); err != nil {
			t.Fatal(err)
		}
		c := m.Get("c")
		r := lb.Request{Match: lb.Criteria(map[string]any{"v": "1"})}
		if n := testing.AllocsPerRun(1000, func() { r.Random++; c.Pick(w, r) }); n != 0 {
			t.Errorf("%s allocates %v", text, n)
		}
	}
}

func TestAddAfterStart(t *testing.T) {
	w := &fiber.Worker{}
	m, loop := manager(w)
	ready := false
	m.Start(func(then func()) { then() }, func() { ready = true })
	if !ready {
		t.Error("nobody to wait for")
	}
	if err := m.Add(read(t, assignment(endpoints(""))), false); err != nil || m.Get("c") == nil {
		t.Errorf("%v", err)
	}
	first := m.Get("c")
	if err := m.Add(read(t, assignment(endpoints(""))), false); err != nil || m.Get("c") != first {
		t.Error("the same again is no update")
	}
	if err := m.Add(read(t, "type: STRICT_DNS\ndns_lookup_family: V4_ONLY\n"+strings.ReplaceAll(assignment(endpoints("")), "10.0.0.1", "localhost")), false); err != nil || m.Get("c") != first || len(m.Warming()) != 1 {
		t.Error("the old version serves until the new one is warm")
	}
	done := make(chan struct{})
	go func() { defer close(done); loop.Run() }() // ends with Stop
	for warm := false; !warm; {
		loop.Do(func() { warm = m.Get("c") != first })
	}
	loop.Do(func() {
		if c := m.Get("c"); len(c.Hosts()) != 1 || c.Stats.UpdateSuccess.Value() != 1 {
			t.Error("the new version has its host")
		}
		if !m.Remove("c") || m.Get("c") != nil || m.Remove("c") {
			t.Error("removed, once")
		}
		m.Close()
	})
	loop.Stop()
	<-done
}

func BenchmarkTenThousandClusters(b *testing.B) {
	protos := make([]*clusterv3.Cluster, 10000)
	for i := range protos {
		protos[i] = read(b, assignment(endpoints("", "")))
		protos[i].Name = fmt.Sprintf("outbound|%d||svc.ns.svc.cluster.local", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		m, _ := manager(&fiber.Worker{})
		for _, p := range protos {
			if err := m.Add(p, true); err != nil {
				b.Fatal(err)
			}
		}
		m.Start(func(then func()) { then() }, func() {})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("name: c\n" + assignment(endpoints(""))))
	f.Add([]byte("name: c\ntype: LOGICAL_DNS\nlb_subset_config: {subset_selectors: [{keys: [a]}]}"))
	f.Add([]byte("name: c\ntype: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\noriginal_dst_lb_config: {metadata_key: {key: a}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p := &clusterv3.Cluster{}
		if _, err := protofile.Parse(text, protofile.YAML, p); err != nil || p.ValidateAll() != nil {
			return
		}
		m, _ := manager(&fiber.Worker{})
		if m.Add(p, true) == nil && m.Get(p.GetName()) == nil {
			t.Error("added, and not there")
		}
	})
}
