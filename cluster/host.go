package cluster

import (
	"time"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	"github.com/outrigger-proxy/outrigger/cluster/health"
	"github.com/outrigger-proxy/outrigger/cluster/outlier"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Locality is where a host, or this proxy, runs.
type Locality = discovery.Locality

// Health is what is known of a host's health.
type Health = discovery.Health

// The states of health; see discovery.
const (
	Healthy   = discovery.Healthy
	Degraded  = discovery.Degraded
	Unhealthy = discovery.Unhealthy
	Draining  = discovery.Draining
	Timeout   = discovery.Timeout
)

// Host is one version of an upstream host; its connections and counters live in the Peer, which all versions share. Two Hosts with
// the same Peer are the same host.
type Host struct {
	// set at construction
	*pool.Peer

	Address  stream.Address
	Hostname string
	Metadata stream.Metadata
	Locality Locality
	Priority uint32
	Weight   uint32
	Canary   bool         // metadata envoy.lb, canary: true
	Health   Health       // as the control plane says
	Flags    health.Flags // all that is known against it
	// Outlier takes reports of how it does, Check those of a response that says that it wants no more; both may be nil, and take them all the same.
	Outlier *outlier.Monitor
	Check   *health.Session

	// Zone counts the responses of hosts of its zone; nil where this proxy's zone or the host's is not known.
	Zone *pool.ZoneResponses

	since  time.Duration // it has been fit for service, on the manager's clock
	member *member
}

// usable says whether a host is sound, degraded (used when there are not enough sound ones), or neither.
func (h *Host) sound() bool    { return !h.Flags.Unhealthy() && !h.Flags.Degraded() }
func (h *Host) degraded() bool { return h.Flags.Degraded() }
func (h *Host) excluded() bool { return h.Flags.Excluded() } // counts for nothing

// LoadWeight is the weight that it is balanced by: what its reports have come to where the policy goes by them, else Weight. Any
// goroutine may call it.
func (h *Host) LoadWeight() uint32 {
	if l := h.member.load; l != nil && l.Weight() != 0 {
		return l.Weight()
	}
	return h.Weight
}

// status is its health in one word, as override_host_status has it.
func (h *Host) status() Health {
	switch f := h.Flags; {
	case f.Has(health.FailedActive | health.FailedOutlier):
		return Unhealthy
	case f.Has(health.FailedEDS | health.DrainingEDS):
		return h.Health
	case f.Has(health.DegradedActive | health.DegradedOutlier):
		return Degraded
	}
	return h.Health
}

// Cluster is the one that the host belongs to, which a cluster that has chosen it need not be (envoy.clusters.aggregate).
func (h *Host) Cluster() *Cluster { return h.member.cluster }

func newHost(e *discovery.Endpoint, g *discovery.Group, m *member) *Host {
	canary, _ := e.Metadata["envoy.lb"]["canary"].(bool)
	return &Host{
		Peer: m.Peer, Address: e.Address, Hostname: e.Hostname, Metadata: e.Metadata, Locality: g.Locality, Priority: g.Priority,
		Weight: e.Weight, Health: e.Health, Canary: canary, Flags: m.flags, Outlier: m.monitor, Check: m.session(), member: m,
	}
}
