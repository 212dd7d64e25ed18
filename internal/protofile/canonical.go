package protofile

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Canonical returns bytes that two messages share if and only if they mean the same: packed messages are looked into, so that the order
// in which somebody marshalled fields and map entries makes no difference. It brings the packed messages within m into that form.
func Canonical(m proto.Message) []byte {
	remarshal(m.ProtoReflect(), 0)
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil
	}
	return b
}

// remarshal brings every Any below m into the one deterministic form; what is of an unknown type is compared by its bytes.
func remarshal(m protoreflect.Message, depth int) {
	if depth > 2*maxDepth {
		return
	}
	if a, ok := m.Interface().(*anypb.Any); ok {
		inner, err := a.UnmarshalNew()
		if err != nil {
			return
		}
		remarshal(inner.ProtoReflect(), depth+1)
		if b, err := (proto.MarshalOptions{Deterministic: true}).Marshal(inner); err == nil {
			a.Value = b
		}
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			if f.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool { remarshal(e.Message(), depth+1); return true })
			}
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				remarshal(v.List().Get(i).Message(), depth+1)
			}
		default:
			remarshal(v.Message(), depth+1)
		}
		return true
	})
}
