package admin

import (
	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// dumpEndpoints shows the hosts of a cluster in force as an assignment, unless something has failed before. It is static or dynamic as the
// cluster is. Version, time and error_state of what EDS has brought go beyond what Envoy shows.
func (k known) dumpEndpoints(d *adminv3.EndpointsConfigDump, c *cluster.Cluster, warming bool, failed error) error {
	if failed != nil || warming {
		return failed
	}
	p, err := assignment(c)
	if err != nil {
		return err
	}
	a, err := anypb.New(p)
	r := k[[2]string{subscription.Endpoints().URL, p.GetClusterName()}]
	var updated *timestamppb.Timestamp
	if c.Proto.GetType() == clusterv3.Cluster_EDS && r != nil && !r.Updated.IsZero() {
		updated = timestamppb.New(r.Updated)
	}
	if c.Static {
		d.StaticEndpointConfigs = append(d.StaticEndpointConfigs, &adminv3.EndpointsConfigDump_StaticEndpointConfig{EndpointConfig: a, LastUpdated: updated})
		return err
	}
	one := &adminv3.EndpointsConfigDump_DynamicEndpointConfig{EndpointConfig: a, LastUpdated: updated}
	if c.Proto.GetType() == clusterv3.Cluster_EDS && r != nil {
		one.VersionInfo, one.ErrorState = r.Version, failureState(r)
	}
	d.DynamicEndpointConfigs = append(d.DynamicEndpointConfigs, one)
	return err
}

// assignment turns the hosts of a cluster back into an assignment.
func assignment(c *cluster.Cluster) (*endpointv3.ClusterLoadAssignment, error) {
	a := &endpointv3.ClusterLoadAssignment{
		ClusterName: c.Name, Policy: &endpointv3.ClusterLoadAssignment_Policy{OverprovisioningFactor: wrapperspb.UInt32(c.Overprovisioning())},
	}
	if n := c.Proto.GetEdsClusterConfig().GetServiceName(); n != "" {
		a.ClusterName = n
	}
	type place struct {
		cluster.Locality

		priority uint32
	}
	groups := map[place]*endpointv3.LocalityLbEndpoints{}
	for _, h := range c.Hosts() {
		at := place{h.Locality, h.Priority}
		g := groups[at]
		if g == nil {
			g = &endpointv3.LocalityLbEndpoints{
				Priority: h.Priority, Locality: &corev3.Locality{Region: at.Region, Zone: at.Zone, SubZone: at.Subzone},
				LoadBalancingWeight: wrapperspb.UInt32(c.LocalityWeight(h.Locality, h.Priority)),
			}
			groups[at] = g
			a.Endpoints = append(a.Endpoints, g)
		}
		e, err := endpoint(h)
		if err != nil {
			return nil, err
		}
		g.LbEndpoints = append(g.LbEndpoints, e)
	}
	return a, nil
}

func endpoint(h *cluster.Host) (*endpointv3.LbEndpoint, error) {
	m, err := metadata(h.Metadata)
	if err != nil {
		return nil, err
	}
	health := corev3.HealthStatus_HEALTHY
	switch f := h.Standing(); {
	case f.Unhealthy():
		health = corev3.HealthStatus_UNHEALTHY
	case f.Degraded():
		health = corev3.HealthStatus_DEGRADED
	}
	return &endpointv3.LbEndpoint{
		HealthStatus: health, LoadBalancingWeight: wrapperspb.UInt32(h.LoadWeight()), Metadata: m,
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: address(h.Address), Hostname: h.Hostname, HealthCheckConfig: &endpointv3.Endpoint_HealthCheckConfig{},
		}},
	}, nil
}

func metadata(m stream.Metadata) (*corev3.Metadata, error) {
	if len(m) == 0 {
		return nil, nil
	}
	p := &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{}}
	for namespace, values := range m {
		s, err := structpb.NewStruct(values)
		if err != nil {
			return nil, err
		}
		p.FilterMetadata[namespace] = s
	}
	return p, nil
}
