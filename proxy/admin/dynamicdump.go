package admin

import (
	"errors"
	"regexp"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/filter"
)

// What a dump shows of resources that a control plane has sent, beside those in force.

// dumpClusterFailures adds clusters whose last update was refused.
func (s *Server) dumpClusterFailures(d *adminv3.ClustersConfigDump, name *regexp.Regexp) (failed error) {
	for _, f := range s.Dynamic.Failures(CDS) {
		if !name.MatchString(f.Name) {
			continue
		}
		state, err := f.state()
		failed = errors.Join(failed, err)
		if c := dynamicCluster(d, f.Name); c != nil {
			c.ErrorState = state
			continue
		}
		d.DynamicWarmingClusters = append(d.DynamicWarmingClusters, &adminv3.ClustersConfigDump_DynamicCluster{ErrorState: state})
	}
	return failed
}

// dynamicCluster finds the entry of a cluster that is in force, or warming.
func dynamicCluster(d *adminv3.ClustersConfigDump, name string) *adminv3.ClustersConfigDump_DynamicCluster {
	for _, list := range [][]*adminv3.ClustersConfigDump_DynamicCluster{d.GetDynamicActiveClusters(), d.GetDynamicWarmingClusters()} {
		for _, c := range list {
			p := &clusterv3.Cluster{}
			if c.GetCluster().UnmarshalTo(p) == nil && p.GetName() == name {
				return c
			}
		}
	}
	return nil
}

// dumpListenerFailures adds to listeners whose last update was refused.
func (s *Server) dumpListenerFailures(d *adminv3.ListenersConfigDump, name *regexp.Regexp) (failed error) {
	for _, f := range s.Dynamic.Failures(LDS) {
		if !name.MatchString(f.Name) {
			continue
		}
		state, err := f.state()
		failed = errors.Join(failed, err)
		dynamicListener(d, f.Name).ErrorState = state
	}
	return failed
}

func (f *Failure) state() (*adminv3.UpdateFailureState, error) {
	s := &adminv3.UpdateFailureState{LastUpdateAttempt: timestamppb.New(f.At), Details: f.Reason, VersionInfo: f.Version}
	if f.Proto == nil {
		return s, nil
	}
	var err error
	s.FailedConfiguration, err = anypb.New(f.Proto)
	return s, err
}

func dumpDynamicRoute(d *adminv3.RoutesConfigDump, v filter.RouteView, failed error) error {
	if failed != nil || v.Proto == nil {
		return failed
	}
	a, err := anypb.New(v.Proto)
	d.DynamicRouteConfigs = append(d.DynamicRouteConfigs, &adminv3.RoutesConfigDump_DynamicRouteConfig{
		RouteConfig: a, VersionInfo: v.Version, LastUpdated: timestamppb.New(v.Updated),
	})
	return err
}

// assignment turns the hosts of a cluster back into an assignment.
func assignment(c *cluster.Cluster) *endpointv3.ClusterLoadAssignment {
	a := &endpointv3.ClusterLoadAssignment{ClusterName: c.Name, Policy: &endpointv3.ClusterLoadAssignment_Policy{OverprovisioningFactor: wrapperspb.UInt32(140)}}
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
			g = &endpointv3.LocalityLbEndpoints{Priority: h.Priority, Locality: &corev3.Locality{Region: at.Region, Zone: at.Zone, SubZone: at.Subzone}}
			groups[at] = g
			a.Endpoints = append(a.Endpoints, g)
		}
		g.LbEndpoints = append(g.LbEndpoints, &endpointv3.LbEndpoint{
			HealthStatus: hostStatus(h).GetHealthStatus().GetEdsHealthStatus(), LoadBalancingWeight: wrapperspb.UInt32(h.LoadWeight()),
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address(h.Address), Hostname: h.Hostname}},
		})
	}
	return a
}
