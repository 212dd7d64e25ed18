// Package snicluster is envoy.filters.network.sni_cluster (type.googleapis.com/envoy.extensions.filters.network.sni_cluster.v3.SniCluster):
// the server name that the client asks for, as tls_inspector found it, is the name of the cluster that tcp_proxy connects to.
package snicluster

import (
	sniclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

type sniCluster struct{}

// New builds it.
func New(*sniclusterv3.SniCluster, filter.Env) (any, error) { return sniCluster{}, nil }

// OnConn notes the cluster.
func (sniCluster) OnConn(c *filter.Conn) filter.Status {
	if n := c.Info.ServerName; n != "" {
		if c.Info.State == nil {
			c.Info.State = stream.FilterState{}
		}
		c.Info.State[stream.TCPClusterState] = n
	}
	return filter.Continue
}
