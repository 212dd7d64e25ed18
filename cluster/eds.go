package cluster

import (
	"errors"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	edssource "github.com/outrigger-proxy/outrigger/cluster/discovery/eds"
)

// edsOptions say where a cluster's endpoints come from (EdsClusterConfig).
type edsOptions struct {
	from *corev3.ConfigSource
	name string
}

func (o *config) parseEDS(c *clusterv3.Cluster) error {
	e := c.GetEdsClusterConfig()
	switch {
	case e.GetEdsConfig() == nil:
		return refused("eds_cluster_config.eds_config", "cannot create an EDS cluster without an EDS config")
	case c.GetLoadAssignment() != nil:
		return refused("load_assignment", "is for clusters whose endpoints are not discovered")
	case c.GetOriginalDstLbConfig() != nil:
		return refused("original_dst_lb_config", "is for ORIGINAL_DST clusters alone")
	}
	o.assignment = &discovery.Assignment{}
	o.eds = edsOptions{from: e.GetEdsConfig(), name: e.GetServiceName()}
	if o.eds.name == "" {
		o.eds.name = o.name
	}
	return o.parseDNS(c) // its fields are held to their rules, and mean nothing
}

// primary says that the cluster needs no stream of a control plane: the server may be found with its help.
func (c *Cluster) primary() bool {
	return c.config.kind != eds || c.config.eds.from.GetPath() != "" || c.config.eds.from.GetPathConfigSource() != nil
}

var errNoControlPlane = errors.New("there is no control plane to ask")

// discover makes the source of the endpoints.
func (c *Cluster) discover() (discovery.Source, error) {
	if c.m.env.Resources == nil {
		return nil, fmt.Errorf("eds_cluster_config.eds_config.%w", errNoControlPlane)
	}
	s, err := edssource.New(edssource.Config{
		Name: c.config.eds.name, From: c.config.eds.from, Source: c.m.env.Resources, Scope: c.Codes, Counts: counts{c.Stats},
		After: c.m.after, Limited: &c.Stats.AssignmentTimeout, Stale: &c.Stats.AssignmentStale,
	})
	if err != nil {
		return nil, fmt.Errorf("eds_cluster_config.eds_config.%w", err)
	}
	return s, nil
}
