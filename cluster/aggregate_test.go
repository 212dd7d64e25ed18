package cluster

import (
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/lb"
)

func aggregateOf(members string) string {
	return `lb_policy: CLUSTER_PROVIDED
cluster_type: {name: envoy.clusters.aggregate, typed_config: {"@type": type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig, clusters: [` + members + `]}}
`
}

// called makes a cluster of YAML with a name.
func called(t testing.TB, name, text string) *clusterv3.Cluster {
	p := read(t, text)
	p.Name = name
	return p
}

// at says where an aggregate's next request goes: the last number of the address, and what it took for the priority.
func at(c *Cluster, w *fiber.Worker, q lb.Request) string {
	h := c.Pick(w, q)
	if h == nil {
		return "nobody"
	}
	return h.Cluster().Name + strings.TrimPrefix(h.Address.Addr().String(), "10.0.0") + "/" + string(rune('0'+c.PriorityOf(h)))
}

func TestAggregateFollowsItsMembers(t *testing.T) {
	w := &fiber.Worker{}
	m, _ := manager(w)
	add := func(name, text string) {
		t.Helper()
		if err := m.Add(called(t, name, text), false); err != nil {
			t.Fatal(err)
		}
	}
	add("all", aggregateOf("first, second"))
	m.Start(func(then func()) { then() }, func() {})
	one, two, sick := assignment(endpoints("")), assignment(endpoints(""), "priority: 1, "+endpoints("", "")), assignment(endpoints(", health_status: UNHEALTHY"))
	for _, c := range []struct {
		does string
		do   func()
		want string
	}{
		{"no member is there", func() {}, "nobody"},
		{"the second comes", func() { add("second", one) }, "second.1/0"},
		{"the first comes, with two priorities", func() { add("first", two) }, "first.1/0"},
		{"the first gets sick", func() { add("first", sick) }, "second.1/1"},
		{"the second goes: the first is better than nobody", func() { m.Remove("second") }, "first.1/0"},
		{"the first goes", func() { m.Remove("first") }, "nobody"},
		{"both are back", func() { m.Batch(func() { add("first", sick); add("second", two) }) }, "second.1/1"},
		{"the aggregate turns around", func() { add("all", aggregateOf("second, first")) }, "second.1/0"},
		{"an aggregate has no hosts for another", func() { add("second", aggregateOf("first")) }, "first.1/0"},
	} {
		c.do()
		if got := at(m.Get("all"), w, lb.Request{}); got != c.want {
			t.Errorf("%s: %s, want %s", c.does, got, c.want)
		}
	}
	m.Remove("all")
	if len(m.aggregates) != 1 {
		t.Errorf("%d aggregates are kept", len(m.aggregates))
	}
	m.Close()
}

// TestAggregateLoads: shares follow the health of priorities, as within one cluster, with each member's own overprovisioning.
func TestAggregateLoads(t *testing.T) {
	w := &fiber.Worker{}
	m, _ := manager(w)
	half := endpoints("", ", health_status: UNHEALTHY")
	for name, text := range map[string]string{
		"c": aggregateOf("usual, modest, degraded"), "usual": assignment(half),
		"modest":   "load_assignment: {cluster_name: c, policy: {overprovisioning_factor: 100}, endpoints: [{" + half + "}]}",
		"degraded": assignment(endpoints(", health_status: DEGRADED")),
	} {
		if err := m.Add(called(t, name, text), true); err != nil {
			t.Fatal(err)
		}
	}
	m.Start(func(then func()) { then() }, func() {})
	c := m.Get("c")
	got := map[string]int{}
	for draw := range uint64(100) {
		got[at(c, w, lb.Request{Random: draw})]++
	}
	if got["usual.1/0"] != 70 || got["modest.1/1"] != 30 {
		t.Errorf("%v, want 70 and 30", got)
	}
	if got := at(c, w, lb.Request{Avoid: 0b11}); got != "degraded.1/2" {
		t.Errorf("avoiding the first two leads to %s", got)
	}
	if got := at(c, w, lb.Request{Avoid: 0b111}); got == "nobody" {
		t.Error("with nothing left it is as if nothing were avoided")
	}
	r := lb.Request{}
	if n := testing.AllocsPerRun(1000, func() { r.Random++; c.Pick(w, r) }); n != 0 {
		t.Errorf("a pick allocates %v", n)
	}
}
