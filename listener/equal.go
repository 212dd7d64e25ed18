package listener

import (
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// canonical is a text that two messages share if and only if they mean the same: typed configurations are looked into, so that the
// order in which somebody marshalled their fields makes no difference.
func canonical(m proto.Message) string {
	c := proto.Clone(m)
	remarshal(c.ProtoReflect())
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		return ""
	}
	return string(b)
}

// remarshal brings every Any below m into the one deterministic form.
func remarshal(m protoreflect.Message) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		inner, err := a.UnmarshalNew()
		if err != nil {
			return // an unknown type is compared by its bytes
		}
		remarshal(inner.ProtoReflect())
		if b, err := (proto.MarshalOptions{Deterministic: true}).Marshal(inner); err == nil {
			a.Value = b
		}
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			if f.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool { remarshal(e.Message()); return true })
			}
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				remarshal(v.List().Get(i).Message())
			}
		default:
			remarshal(v.Message())
		}
		return true
	})
}

// chainKey is what makes a filter chain the same chain: all but the rules that lead to it.
func chainKey(f *listenerv3.FilterChain) string {
	if f.GetFilterChainMatch() != nil {
		f = proto.CloneOf(f)
		f.FilterChainMatch = nil
	}
	return canonical(f)
}

// environment is what filters know of their listener (filter.Listener); a chain is built anew when it changes.
func environment(p *listenerv3.Listener) string {
	return canonical(&listenerv3.Listener{
		Name: p.GetName(), StatPrefix: p.GetStatPrefix(), Metadata: p.GetMetadata(), Address: p.GetAddress(),
		TrafficDirection: p.GetTrafficDirection(), DrainType: p.GetDrainType(),
		PerConnectionBufferLimitBytes: p.GetPerConnectionBufferLimitBytes(),
	})
}

// sockets is what makes sockets the same sockets: a listener whose sockets stay is updated in place.
func sockets(p *listenerv3.Listener) string {
	return canonical(&listenerv3.Listener{
		Address: p.GetAddress(), AdditionalAddresses: p.GetAdditionalAddresses(), StatPrefix: p.GetStatPrefix(), DrainType: p.GetDrainType(),
		Transparent: p.GetTransparent(), Freebind: p.GetFreebind(), SocketOptions: p.GetSocketOptions(), TcpKeepalive: p.GetTcpKeepalive(),
		TcpFastOpenQueueLength: p.GetTcpFastOpenQueueLength(), EnableReusePort: p.GetEnableReusePort(), TcpBacklogSize: p.GetTcpBacklogSize(),
		BindToPort: p.GetBindToPort(), DeprecatedV1: p.GetDeprecatedV1(), ConnectionBalanceConfig: p.GetConnectionBalanceConfig(),
		MaxConnectionsToAcceptPerSocketEvent: p.GetMaxConnectionsToAcceptPerSocketEvent(),
	})
}
