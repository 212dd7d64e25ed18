package admin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
	"github.com/outrigger-proxy/outrigger/internal/transport"
	"github.com/outrigger-proxy/outrigger/listener"
	"github.com/outrigger-proxy/outrigger/xdsclient"
)

// csds is the client status discovery service (envoy.service.status.v3): what this proxy knows of every resource, over gRPC on the address of
// the admin interface. Envoy does not serve it; it is served as gRPC's own xDS clients do, who define what it means of a client.
type csds struct {
	statusv3.UnimplementedClientStatusDiscoveryServiceServer

	s *Server
}

// newGRPC makes the gRPC services of the interface.
func newGRPC(s *Server) *grpc.Server {
	g := grpc.NewServer()
	statusv3.RegisterClientStatusDiscoveryServiceServer(g, csds{s: s})
	return g
}

// isGRPC says whether a request is a gRPC call.
func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// FetchClientStatus answers once.
func (c csds) FetchClientStatus(_ context.Context, q *statusv3.ClientStatusRequest) (*statusv3.ClientStatusResponse, error) {
	if len(q.GetNodeMatchers()) > 0 {
		return nil, status.Error(codes.InvalidArgument, "node_matchers: there is one node here")
	}
	config, err := c.s.clientConfig(!q.GetExcludeResourceContents())
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &statusv3.ClientStatusResponse{Config: []*statusv3.ClientConfig{config}}, nil
}

// StreamClientStatus answers every request of a stream.
func (c csds) StreamClientStatus(g statusv3.ClientStatusDiscoveryService_StreamClientStatusServer) error {
	for {
		q, err := g.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		a, err := c.FetchClientStatus(g.Context(), q)
		if err != nil {
			return err
		}
		if err := g.Send(a); err != nil {
			return err
		}
	}
}

// clientConfig is what is known of all resources; bodies says whether with what is in them.
func (s *Server) clientConfig(bodies bool) (*statusv3.ClientConfig, error) {
	p := &statusv3.ClientConfig{Node: proto.CloneOf(s.Node)}
	var err error
	ok := s.Control.Do(func() {
		managed := map[[2]string]proto.Message{}
		p.GenericXdsConfigs, err = s.staticConfigs(managed)
		for _, r := range s.Dynamic.Resources() {
			var one *statusv3.ClientConfig_GenericXdsConfig
			one, failed := generic(&r, managed)
			p.GenericXdsConfigs = append(p.GenericXdsConfigs, one)
			err = errors.Join(err, failed)
		}
	})
	if !ok {
		return nil, errors.New("the process is ending")
	}
	for _, one := range p.GetGenericXdsConfigs() {
		if !bodies {
			one.XdsConfig = nil
			continue
		}
		redact(one.ProtoReflect())
	}
	return p, err
}

// staticConfigs are the resources of the bootstrap. Those of a control plane, which their managers alone have, are put into managed, by type
// and name. It is for the control loop.
func (s *Server) staticConfigs(managed map[[2]string]proto.Message) (list []*statusv3.ClientConfig_GenericXdsConfig, err error) {
	add := func(t subscription.Type, name string, m proto.Message, static bool, updated *timestamppb.Timestamp) {
		if !static {
			managed[[2]string{t.URL, name}] = m
			return
		}
		a, failed := anypb.New(m)
		err = errors.Join(err, failed)
		list = append(list, &statusv3.ClientConfig_GenericXdsConfig{
			TypeUrl: t.URL, Name: name, XdsConfig: a, LastUpdated: updated, IsStaticResource: true, ClientStatus: adminv3.ClientResourceStatus_ACKED,
		})
	}
	s.Clusters.EachVersion(func(c *cluster.Cluster, _ bool) {
		add(subscription.Clusters(), c.Name, c.Proto, c.Static, timestamppb.New(c.Updated))
	})
	s.Listeners.Each(func(v listener.View) {
		add(subscription.Listeners(), v.Name, v.Proto, v.Static, timestamppb.New(v.Updated))
	})
	for _, p := range s.Secrets.Static() {
		add(subscription.Secrets(), p.GetName(), transport.Redacted(p), true, timestamppb.New(s.Started))
	}
	return list, err
}

func generic(r *xdsclient.Status, managed map[[2]string]proto.Message) (*statusv3.ClientConfig_GenericXdsConfig, error) {
	p := &statusv3.ClientConfig_GenericXdsConfig{
		TypeUrl: r.Type, Name: r.Name, VersionInfo: r.Version, XdsConfig: proto.CloneOf(r.Body), ClientStatus: r.State, ErrorState: failureState(r),
	}
	if !r.Updated.IsZero() {
		p.LastUpdated = timestamppb.New(r.Updated)
	}
	if m := managed[[2]string{r.Type, r.Name}]; p.GetXdsConfig() == nil && m != nil && r.Version != "" {
		var err error
		p.XdsConfig, err = anypb.New(m)
		return p, err
	}
	return p, nil
}
