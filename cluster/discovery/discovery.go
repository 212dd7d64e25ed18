// Package discovery is how a cluster comes to know its hosts: the parsed form of a ClusterLoadAssignment and the contract of its sources.
package discovery

import (
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Assignment says which endpoints a cluster has (envoy.config.endpoint.v3.ClusterLoadAssignment).
type Assignment struct {
	Groups []Group
	// Overprovisioning is overprovisioning_factor in percent.
	Overprovisioning uint32
	// WeightedHealth is weighted_priority_health: a priority's health counts weights, not hosts.
	WeightedHealth bool
	// Drop is the share of requests, in millionths, that goes to nobody (drop_overloads).
	Drop uint64
	// Stale is how long endpoints may be used that a control plane has assigned (endpoint_stale_after); 0: for ever.
	Stale time.Duration
}

// Group are the endpoints of one locality and priority.
type Group struct {
	Locality  Locality
	Priority  uint32
	Weight    uint32 // load_balancing_weight; 0: none given, so no traffic where localities are weighted
	Metadata  stream.Metadata
	Endpoints []Endpoint
}

// Locality is where a host, or this proxy, runs (envoy.config.core.v3.Locality).
type Locality struct{ Region, Zone, Subzone string }

// Health is what a control plane says of an endpoint (envoy.config.core.v3.HealthStatus).
type Health uint8

// The states of health.
const (
	Healthy Health = iota // UNKNOWN too
	Degraded
	Unhealthy
	Draining
	Timeout
)

// String returns the name that /clusters shows.
func (h Health) String() string {
	return [...]string{"HEALTHY", "DEGRADED", "UNHEALTHY", "DRAINING", "TIMEOUT"}[h]
}

// Endpoint is one of them: where it is, or whom to ask where it is.
type Endpoint struct {
	Address stream.Address // zero: Name is to be resolved
	Name    string         // DNS name
	Port    uint16         // of Name
	// Hostname is endpoint.hostname, or what the DNS was asked for.
	Hostname string
	// Key says which endpoint is the same as one before; empty: its address says it. A logical host keeps its key when it moves.
	Key        string
	Additional []stream.Address // further addresses of the same host, for happy eyeballs
	Metadata   stream.Metadata
	Typed      map[string]*anypb.Any // typed_filter_metadata; transport sockets read it
	Health     Health
	Weight     uint32 // at least 1
	Check      Check
}

// Check is what an endpoint says of active health checks (envoy.config.endpoint.v3.Endpoint.HealthCheckConfig).
type Check struct {
	Address  stream.Address // where they go to; zero: to the endpoint
	Port     uint16         // of the endpoint's address; 0: as it is
	Hostname string         // that they name
	Disabled bool
}

// Source finds a cluster's endpoints. It belongs to the control loop.
type Source interface {
	// Start begins; update is called on the control loop with what was found, each time that it may have changed, and with nil
	// if the first attempt found nothing, so that nobody waits for it any longer.
	Start(update func(*Assignment))
	// Close ends it; update is not called any more.
	Close()
}

// Counts are what a source counts for its cluster: update_attempt and so on.
type Counts interface {
	Attempt()
	Success()
	Failure()
	Empty()
	Unchanged()
}

// Timer calls f on the control loop after d; stop ends it.
type Timer func(d time.Duration, f func()) (stop func())
