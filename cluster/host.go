package cluster

import (
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Locality is where a host, or this proxy, runs (envoy.config.core.v3.Locality).
type Locality struct{ Region, Zone, Subzone string }

// Health is what a host is fit for.
type Health uint8

// The states of health.
const (
	Healthy Health = iota
	Degraded
	Unhealthy
)

// Host is one version of an upstream host; its connections and counters live in the Peer, which all versions share. Two Hosts with
// the same Peer are the same host.
type Host struct {
	// set at construction
	*pool.Peer
	Hostname string
	Metadata stream.Metadata
	Locality Locality
	Priority uint32
	Weight   uint32
	Canary   bool // metadata envoy.lb, canary: true
	Health   Health
}
