package admin

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/cluster/health"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/listener"
)

func clusters(s *Server, w *response, r *http.Request) {
	q := r.URL.Query()
	filter, err := regexp.Compile(q.Get("filter"))
	if err != nil {
		w.failf(http.StatusBadRequest, "Invalid re2 regex: %v", err)
		return
	}
	var all []*cluster.Cluster
	s.Control.Do(func() {
		s.Clusters.Each(func(c *cluster.Cluster) {
			if filter.MatchString(c.Name) {
				all = append(all, c)
			}
		})
	})
	if q.Get("format") == "json" {
		list := &adminv3.Clusters{}
		for _, c := range all {
			list.ClusterStatuses = append(list.ClusterStatuses, clusterStatus(c))
		}
		w.proto(list, false)
		return
	}
	for _, c := range all {
		clusterText(w, c)
	}
}

func clusterText(w *response, c *cluster.Cluster) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, c.Name+"::"+format+"\n", args...) }
	line("observability_name::%s", c.AltName)
	if d := c.Detector(); d != nil {
		for i, prefix := range []string{"", "local_origin_"} {
			r := d.Rate(i == 1)
			line("outlier::%ssuccess_rate_average::%v", prefix, r.Average)
			line("outlier::%ssuccess_rate_ejection_threshold::%v", prefix, r.Threshold)
		}
	}
	for p := range pool.Priorities {
		l := c.Limits(p)
		line("%s_priority::max_connections::%d", p, l.Connections.Max())
		line("%s_priority::max_pending_requests::%d", p, l.Pending.Max())
		line("%s_priority::max_requests::%d", p, l.Requests.Max())
		line("%s_priority::max_retries::%d", p, l.Retries.Max())
	}
	line("added_via_api::%v", !c.Static)
	if v := c.Proto.GetEdsClusterConfig().GetServiceName(); v != "" {
		line("eds_service_name::%s", v)
	}
	for _, h := range c.Hosts() {
		host := func(name string, v any) { line("%s::%s::%v", h.Address, name, v) }
		for _, m := range hostMetrics(h) {
			host(m.GetName(), m.GetValue())
		}
		host("hostname", h.Hostname)
		host("health_flags", h.Standing())
		host("weight", h.LoadWeight())
		host("region", h.Locality.Region)
		host("zone", h.Locality.Zone)
		host("sub_zone", h.Locality.Subzone)
		host("canary", h.Canary)
		host("priority", h.Priority)
		host("success_rate", h.Outlier.SuccessRate(false))
		host("local_origin_success_rate", h.Outlier.SuccessRate(true))
	}
}

// hostMetrics are the counters and gauges of a host, by name.
func hostMetrics(h *cluster.Host) []*adminv3.SimpleMetric {
	counter := func(name string, v uint64) *adminv3.SimpleMetric {
		return &adminv3.SimpleMetric{Name: name, Value: v, Type: adminv3.SimpleMetric_COUNTER}
	}
	gauge := func(name string, v int64) *adminv3.SimpleMetric {
		return &adminv3.SimpleMetric{Name: name, Value: uint64(v), Type: adminv3.SimpleMetric_GAUGE}
	}
	s := &h.Stats
	return []*adminv3.SimpleMetric{
		gauge("cx_active", s.CxActive.Load()), counter("cx_connect_fail", s.CxConnectFail.Load()), counter("cx_total", s.CxTotal.Load()),
		gauge("rq_active", s.RqActive.Load()), counter("rq_error", s.RqError.Load()), gauge("rq_pending_active", s.RqPendingActive.Load()),
		counter("rq_success", s.RqSuccess.Load()), counter("rq_timeout", s.RqTimeout.Load()), counter("rq_total", s.RqTotal.Load()),
	}
}

func clusterStatus(c *cluster.Cluster) *adminv3.ClusterStatus {
	status := &adminv3.ClusterStatus{
		Name: c.Name, AddedViaApi: !c.Static, ObservabilityName: c.AltName, CircuitBreakers: &clusterv3.CircuitBreakers{},
		EdsServiceName: c.Proto.GetEdsClusterConfig().GetServiceName(),
	}
	for p := range pool.Priorities {
		l := c.Limits(p)
		status.CircuitBreakers.Thresholds = append(status.CircuitBreakers.Thresholds, &clusterv3.CircuitBreakers_Thresholds{
			Priority:       corev3.RoutingPriority(p),
			MaxConnections: wrapperspb.UInt32(uint32(l.Connections.Max())), MaxPendingRequests: wrapperspb.UInt32(uint32(l.Pending.Max())),
			MaxRequests: wrapperspb.UInt32(uint32(l.Requests.Max())), MaxRetries: wrapperspb.UInt32(uint32(l.Retries.Max())),
		})
	}
	if d := c.Detector(); d != nil {
		status.SuccessRateEjectionThreshold = percent(d.Rate(false).Threshold, 0)
		status.LocalOriginSuccessRateEjectionThreshold = percent(d.Rate(true).Threshold, 0)
	}
	for _, h := range c.Hosts() {
		status.HostStatuses = append(status.HostStatuses, hostStatus(h))
	}
	return status
}

func hostStatus(h *cluster.Host) *adminv3.HostStatus {
	return &adminv3.HostStatus{
		Address: address(h.Address), Stats: hostMetrics(h), HealthStatus: hostHealth(h.Standing()), Weight: h.LoadWeight(), Hostname: h.Hostname,
		Priority: h.Priority, Locality: &corev3.Locality{Region: h.Locality.Region, Zone: h.Locality.Zone, SubZone: h.Locality.Subzone},
		SuccessRate: percent(h.Outlier.SuccessRate(false), 0), LocalOriginSuccessRate: percent(h.Outlier.SuccessRate(true), 0),
	}
}

// percent is v, or nil if there is none worth showing.
func percent(v, least float64) *typev3.Percent {
	if v < least {
		return nil
	}
	return &typev3.Percent{Value: v}
}

func hostHealth(f health.Flags) *adminv3.HostHealthStatus {
	s := &adminv3.HostHealthStatus{
		FailedActiveHealthCheck: f.Has(health.FailedActive), FailedOutlierCheck: f.Has(health.FailedOutlier),
		FailedActiveDegradedCheck: f.Has(health.DegradedActive), PendingDynamicRemoval: f.Has(health.PendingRemoval),
		PendingActiveHc: f.Has(health.PendingActive), ExcludedViaImmediateHcFail: f.Has(health.ExcludedAtOnce),
		ActiveHcTimeout: f.Has(health.ActiveTimeout), FailedDegradedOutlierDetection: f.Has(health.DegradedOutlier),
		EdsHealthStatus: corev3.HealthStatus_HEALTHY,
	}
	switch {
	case f.Has(health.FailedEDS):
		s.EdsHealthStatus = corev3.HealthStatus_UNHEALTHY
	case f.Has(health.DrainingEDS):
		s.EdsHealthStatus = corev3.HealthStatus_DRAINING
	case f.Has(health.DegradedEDS):
		s.EdsHealthStatus = corev3.HealthStatus_DEGRADED
	}
	return s
}

// address turns an address back into its proto.
func address(a stream.Address) *corev3.Address {
	if a.Path != "" {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: a.Path}}}
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: a.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

func listeners(s *Server, w *response, r *http.Request) {
	var views []listener.View
	s.eachListener(func(v listener.View) {
		if v.State == listener.Active {
			views = append(views, v)
		}
	})
	if r.URL.Query().Get("format") == "json" {
		list := &adminv3.Listeners{}
		for _, v := range views {
			list.ListenerStatuses = append(list.ListenerStatuses, listenerStatus(v))
		}
		w.proto(list, false)
		return
	}
	for _, v := range views {
		var all []string
		for _, a := range v.Addresses {
			all = append(all, a.String())
		}
		_, _ = fmt.Fprintf(w, "%s::%s\n", v.Name, strings.Join(all, "::"))
	}
}

func listenerStatus(v listener.View) *adminv3.ListenerStatus {
	status := &adminv3.ListenerStatus{Name: v.Name}
	for i, a := range v.Addresses {
		if i == 0 {
			status.LocalAddress = address(a)
			continue
		}
		status.AdditionalLocalAddresses = append(status.AdditionalLocalAddresses, address(a))
	}
	return status
}

// eachListener shows the listeners as the control loop has them.
func (s *Server) eachListener(f func(listener.View)) {
	s.Control.Do(func() { s.Listeners.Each(f) })
}
