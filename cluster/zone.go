package cluster

import (
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/lb"
)

// zoneRouting keeps requests of priority 0 in the proxy's own zone, as far as that is fair to the other zones (Envoy:
// ZoneAwareLoadBalancerBase). The zero zoneRouting does not.
type zoneRouting struct {
	on       bool
	direct   bool     // all requests stay
	percent  uint64   // else so many in 10,000
	residual []uint64 // sums of what the localities can take of the rest
	enabled  uint64   // percent of requests that are routed so at all
	panic    bool     // the local cluster is in panic
}

// percentage of 10,000 that a locality has, of the hosts here and of this proxy's peers.
type percentage struct{ upstream, local uint64 }

// zones are what the routing of zones depends on besides the hosts.
type zones struct {
	*zoneOptions

	own       Locality
	threshold uint64 // of panic in the local cluster
	rt        *runtime.Snapshot
	stats     *Stats
	times     uint64 // each computation counts: Envoy makes one for each worker, and one more
}

// route computes the routing of p towards local, the cluster that this proxy is a part of.
func (o *zones) route(p, local *priority) (z zoneRouting) {
	s, rt, own := o.stats, o.rt, o.own
	s.RecalculateZones.Add(o.times)
	z.enabled = rt.Uint("upstream.zone_routing.enabled", o.routing)
	force, least := o.forceLocal, uint64(o.forceMin)
	if n := rt.Uint("upstream.zone_routing.force_local_zone.min_size", 0); n > 0 {
		force, least = true, n
	}
	here := len(p.localities) > 0 && p.localities[0].name == own && len(p.localities[0].sets[healthy]) > 0
	switch {
	case len(p.localities) < 2 || !force && len(local.localities) < 2:
		return z
	case len(local.localities) == 0 || local.localities[0].name != own:
		s.LocalClusterNotOK.Add(o.times)
		return z
	case uint64(len(p.sets[healthy])) < rt.Uint("upstream.zone_routing.min_cluster_size", o.minSize):
		s.ZoneClusterTooSmall.Add(o.times)
		return z
	}
	z.on, z.panic = true, local.inPanic(o.threshold)
	share := percentages(p, local, o.byWeight)
	if here && (force && uint64(len(p.localities[0].sets[healthy])) >= least || share[0].upstream > 0 && share[0].upstream >= share[0].local) {
		z.direct = true
		return z
	}
	z.residual = make([]uint64, len(share))
	sum := uint64(0)
	for i, v := range share {
		switch {
		case i == 0 && p.localities[0].name == own:
			if v.local > 0 {
				z.percent = v.upstream * 10000 / v.local
			}
		case v.upstream > v.local:
			sum += v.upstream - v.local
		}
		z.residual[i] = sum
	}
	return z
}

func percentages(p, local *priority, byWeight bool) []percentage {
	size := func(l []*Host) (n uint64) {
		if !byWeight {
			return uint64(len(l))
		}
		for _, h := range l {
			n += uint64(h.Weight)
		}
		return n
	}
	share := make([]percentage, len(p.localities))
	all, peers := size(p.sets[healthy]), size(local.sets[healthy])
	for i, l := range p.localities {
		if all > 0 {
			share[i].upstream = 10000 * size(l.sets[healthy]) / all
		}
		for _, m := range local.localities {
			if m.name == l.name && peers > 0 {
				share[i].local = 10000 * size(m.sets[healthy]) / peers
			}
		}
	}
	return share
}

// choose draws a locality.
func (z *zoneRouting) choose(r *lb.Request, s *Stats) int {
	if z.direct {
		s.ZoneAllDirectly.Inc()
		return 0
	}
	r.Random = lb.Next(r.Random)
	if r.Random%10000 < z.percent {
		s.ZoneSampled.Inc()
		return 0
	}
	s.ZoneCross.Inc()
	r.Random = lb.Next(r.Random)
	last := z.residual[len(z.residual)-1]
	if last == 0 {
		s.ZoneNoCapacity.Inc()
		return int(r.Random % uint64(len(z.residual)))
	}
	at, i := r.Random%last, 0
	for at >= z.residual[i] {
		i++
	}
	return i
}
