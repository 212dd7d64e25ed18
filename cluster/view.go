package cluster

import (
	"maps"
	"slices"
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
