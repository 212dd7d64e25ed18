package admin

import (
	"regexp"
	"slices"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
	"github.com/outrigger-proxy/outrigger/xdsclient"
)

// What a dump shows of resources that a control plane has sent, beside those in force.

// known is what a control plane has sent, or was asked for, by type and name.
type known map[[2]string]*xdsclient.Status

func (s *Server) known() known {
	k := known{}
	for _, r := range s.Dynamic.Resources() {
		if at := [2]string{r.Type, r.Name}; k[at] == nil {
			k[at] = &r
		}
	}
	return k
}

// failure is the error_state of a resource, nil if its last update was taken.
func (k known) failure(t subscription.Type, name string) *adminv3.UpdateFailureState {
	if r := k[[2]string{t.URL, name}]; r != nil {
		return failureState(r)
	}
	return nil
}

// failures are the names of resources of a type whose last update was refused, sorted.
func (k known) failures(t subscription.Type, name *regexp.Regexp) (names []string) {
	for at, r := range k {
		if at[0] == t.URL && r.Failure != nil && name.MatchString(at[1]) {
			names = append(names, at[1])
		}
	}
	slices.Sort(names)
	return names
}

// clusterFailures adds clusters whose last update was refused.
func (k known) clusterFailures(d *adminv3.ClustersConfigDump, name *regexp.Regexp) {
	for _, n := range k.failures(subscription.Clusters(), name) {
		state := k.failure(subscription.Clusters(), n)
		if c := dynamicCluster(d, n); c != nil {
			c.ErrorState = state
			continue
		}
		d.DynamicWarmingClusters = append(d.DynamicWarmingClusters, &adminv3.ClustersConfigDump_DynamicCluster{ErrorState: state})
	}
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

// listenerFailures adds to listeners whose last update was refused.
func (k known) listenerFailures(d *adminv3.ListenersConfigDump, name *regexp.Regexp) {
	for _, n := range k.failures(subscription.Listeners(), name) {
		dynamicListener(d, n).ErrorState = k.failure(subscription.Listeners(), n)
	}
}

// failureState is why an update was refused, nil if it was not.
func failureState(r *xdsclient.Status) *adminv3.UpdateFailureState {
	f := r.Failure
	if f == nil {
		return nil
	}
	return &adminv3.UpdateFailureState{LastUpdateAttempt: timestamppb.New(f.At), Details: f.Reason, VersionInfo: f.Version, FailedConfiguration: proto.CloneOf(f.Body)}
}

func (k known) dumpRoute(d *adminv3.RoutesConfigDump, v filter.RouteView, failed error) error {
	state := k.failure(subscription.Routes(), v.Name)
	if failed != nil || v.Proto == nil && state == nil {
		return failed
	}
	one := &adminv3.RoutesConfigDump_DynamicRouteConfig{ErrorState: state}
	d.DynamicRouteConfigs = append(d.DynamicRouteConfigs, one)
	if v.Proto == nil {
		return nil
	}
	var err error
	one.VersionInfo, one.LastUpdated = v.Version, timestamppb.New(v.Updated)
	one.RouteConfig, err = anypb.New(v.Proto)
	return err
}
