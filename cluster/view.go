package cluster

import (
	"maps"
	"slices"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
)

// Warming names the clusters whose first look-up is still under way: what the start of the process waits for, and versions that have
// not taken the place of the ones before. Control loop only.
func (m *Manager) Warming() []string {
	names := maps.Clone(m.warming)
	for n, c := range m.clusters {
		if !c.warm {
			names[n] = c
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// EachVersion calls f for every cluster in force and every one that is warming, sorted by name. Control loop only.
func (m *Manager) EachVersion(f func(c *Cluster, warming bool)) {
	for _, n := range m.Names() {
		f(m.clusters[n], false)
	}
	for _, n := range slices.Sorted(maps.Keys(m.warming)) {
		f(m.warming[n], true)
	}
}

// Overprovisioning is the overprovisioning_factor of the hosts, in percent.
func (c *Cluster) Overprovisioning() uint32 {
	if f := c.hosts.Load().overprovisioning; f > 0 {
		return f
	}
	return discovery.DefaultOverprovisioning
}

// LocalityWeight is the weight of a locality in a priority; 0: it has none. Control loop only.
func (c *Cluster) LocalityWeight(l Locality, priority uint32) uint32 {
	return c.weights[place{l, priority}]
}
