package health

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datacorev3 "github.com/envoyproxy/go-control-plane/envoy/data/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/outrigger-proxy/outrigger/internal/logfile"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// event puts what has happened into e.
type event func(e *datacorev3.HealthCheckEvent)

func added(first bool) event {
	return func(e *datacorev3.HealthCheckEvent) {
		e.Event = &datacorev3.HealthCheckEvent_AddHealthyEvent{AddHealthyEvent: &datacorev3.HealthCheckAddHealthy{FirstCheck: first}}
	}
}

func ejected(v verdict) event {
	return func(e *datacorev3.HealthCheckEvent) {
		e.Event = &datacorev3.HealthCheckEvent_EjectUnhealthyEvent{EjectUnhealthyEvent: &datacorev3.HealthCheckEjectUnhealthy{
			FailureType: v.failure, HttpStatusCode: uint32(v.status),
		}}
	}
}

func failed(v verdict, first bool) event {
	return func(e *datacorev3.HealthCheckEvent) {
		e.Event = &datacorev3.HealthCheckEvent_HealthCheckFailureEvent{HealthCheckFailureEvent: &datacorev3.HealthCheckFailure{
			FailureType: v.failure, FirstCheck: first, HttpStatusCode: uint32(v.status),
		}}
	}
}

func successful() event {
	return func(e *datacorev3.HealthCheckEvent) {
		e.Event = &datacorev3.HealthCheckEvent_SuccessfulHealthCheckEvent{SuccessfulHealthCheckEvent: &datacorev3.HealthCheckSuccessful{}}
	}
}

func nowDegraded() event {
	return func(e *datacorev3.HealthCheckEvent) {
		e.Event = &datacorev3.HealthCheckEvent_DegradedHealthyHost{DegradedHealthyHost: &datacorev3.DegradedHealthyHost{}}
	}
}

func noLongerDegraded() event {
	return func(e *datacorev3.HealthCheckEvent) {
		e.Event = &datacorev3.HealthCheckEvent_NoLongerDegradedHost{NoLongerDegradedHost: &datacorev3.NoLongerDegradedHost{}}
	}
}

// message is what is logged of an event.
func (s *Session) message(put event) *datacorev3.HealthCheckEvent {
	h := s.host
	e := &datacorev3.HealthCheckEvent{
		HealthCheckerType: s.c.config.kind, Host: address(h.Address), ClusterName: s.c.env.Cluster, Timestamp: logfile.Moment(),
		Metadata: metadata(h.Metadata),
		Locality: &corev3.Locality{Region: h.Region, Zone: h.Zone, SubZone: h.Subzone},
	}
	put(e)
	return e
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

func metadata(m stream.Metadata) *corev3.Metadata {
	if m == nil {
		return nil
	}
	p := &corev3.Metadata{}
	for namespace, values := range m {
		if s, err := structpb.NewStruct(values); err == nil {
			if p.FilterMetadata == nil {
				p.FilterMetadata = map[string]*structpb.Struct{}
			}
			p.FilterMetadata[namespace] = s
		}
	}
	return p
}
