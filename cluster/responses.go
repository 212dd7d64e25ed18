package cluster

import (
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// Routing is what the router keeps with a cluster.
type Routing struct {
	*pool.Responses

	// MaintenanceKey is the runtime key of the share of requests that are refused.
	MaintenanceKey string
}

// Routing returns what the router keeps with the cluster; it is made when it is first asked for.
func (c *Cluster) Routing() *Routing {
	if r := c.routing.Load(); r != nil {
		return r
	}
	c.routing.CompareAndSwap(nil, &Routing{stats.New[pool.Responses](c.Codes), "upstream.maintenance_mode." + c.Name})
	return c.routing.Load()
}
