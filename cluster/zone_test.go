package cluster

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/lb"
)

// zoned is a priority with so many healthy hosts in zone a, b and so on; a is this proxy's.
func zoned(hosts ...int) *priority {
	var list []*Host
	for i, n := range hosts {
		for range n {
			list = append(list, &Host{Locality: Locality{Zone: string(rune('a' + i))}, Weight: uint32(i + 1)})
		}
	}
	return &arrange(list, nil, Locality{Zone: "a"})[0]
}

func zonesOf(o zoneOptions) *zones {
	return &zones{&o, Locality{Zone: "a"}, 50, &runtime.Snapshot{}, &Stats{}, 1}
}

// TestZoneNumbers holds the routing to the numbers of Envoy's documentation of zone-aware routing and of its source.
func TestZoneNumbers(t *testing.T) {
	usual := zoneOptions{routing: 100, minSize: 6}
	for name, c := range map[string]struct {
		o               zoneOptions
		upstream, local *priority
		on, direct      bool
		percent         uint64
		residual        []uint64
	}{
		"more hosts than peers":         {usual, zoned(5, 5), zoned(1, 1), true, true, 0, nil},
		"40, 40, 20 against 25, 50, 25": {usual, zoned(5, 10, 5), zoned(4, 4, 2), true, false, 6250, []uint64{0, 1000, 1500}},
		"nobody here":                   {usual, zoned(0, 3, 3), zoned(1, 1, 1), true, false, 0, []uint64{1667, 3334}},
		"too small":                     {usual, zoned(2, 3), zoned(1, 1), false, false, 0, nil},
		"one zone":                      {usual, zoned(9), zoned(1, 1), false, false, 0, nil},
		"one zone of ours":              {usual, zoned(5, 5), zoned(2), false, false, 0, nil},
		"we are nowhere":                {usual, zoned(5, 5), zoned(0, 1, 1), false, false, 0, nil},
		"forced":                        {zoneOptions{routing: 100, minSize: 6, forceLocal: true, forceMin: 2}, zoned(2, 8), zoned(9), true, true, 0, nil},
		"forced, but too few":           {zoneOptions{routing: 100, minSize: 6, forceLocal: true, forceMin: 3}, zoned(2, 8), zoned(9, 1), true, false, 2222, []uint64{0, 7000}},
		"by weight":                     {zoneOptions{routing: 100, minSize: 6, byWeight: true}, zoned(6, 2), zoned(1, 1), true, true, 0, nil},
	} {
		z := zonesOf(c.o).route(c.upstream, c.local)
		if z.on != c.on || z.direct != c.direct || z.percent != c.percent || !slices.Equal(z.residual, c.residual) {
			t.Errorf("%s: %+v", name, z)
		}
	}
}

// TestZonesAreFair simulates a fleet whose proxies stand in the zones as peers says: each host gets the same share of all requests, and no
// more of them leave their zone than must.
func TestZonesAreFair(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	peers, hosts := []int{4, 4, 2}, []int{5, 10, 5}
	served := map[string]float64{}
	const requests = 20000
	local := 0
	for at, n := range peers {
		own := Locality{Zone: string(rune('a' + at))}
		up, us := move(hosts, own), move(peers, own)
		z := (&zones{&zoneOptions{routing: 100, minSize: 6}, own, 50, &runtime.Snapshot{}, &Stats{}, 1}).route(up, us)
		for range requests * n {
			l := z.choose(&lb.Request{Random: r.Uint64()}, &Stats{})
			if served[up.localities[l].name.Zone]++; up.localities[l].name == own {
				local++
			}
		}
	}
	for i, n := range hosts {
		zone := string(rune('a' + i))
		if got := served[zone] / float64(n) / (10 * requests) * 20; math.Abs(got-1) > .02 {
			t.Errorf("a host in zone %s gets %.3f of its share", zone, got)
		}
	}
	if got := float64(local) / (10 * requests); math.Abs(got-.85) > .01 { // 25 of 40 in a, 40 of 40 in b, 20 of 20 in c
		t.Errorf("%.3f stay in their zone", got)
	}
}

// move is zoned for a proxy in another zone.
func move(hosts []int, own Locality) *priority {
	var list []*Host
	for i, n := range hosts {
		for range n {
			list = append(list, &Host{Locality: Locality{Zone: string(rune('a' + i))}, Weight: 1})
		}
	}
	return &arrange(list, nil, own)[0]
}
