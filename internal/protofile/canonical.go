package protofile

import (
	"slices"
	"sync"

	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	"github.com/envoyproxy/go-control-plane/envoy/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Canonical returns bytes that two messages share if and only if they mean the same: packed messages are looked into, so that the order
// in which somebody marshalled fields and map entries makes no difference. It brings the packed messages within m into that form. On the
// way it looks whether there is anything that Check could object to or, deprecated fields aside, would report: clean says that there is not,
// so that resources by the thousand are unpacked once and not three times.
func Canonical(m proto.Message) (b []byte, clean bool) {
	w := canonical{clean: true}
	w.message(m.ProtoReflect())
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	return b, w.clean && err == nil
}

// canonical walks a message.
type canonical struct {
	clean bool
	depth int
}

// message is a message that stands for itself: the whole one, or one that was packed.
func (w *canonical) message(m protoreflect.Message) {
	if v, ok := m.Interface().(interface{ Validate() error }); ok && w.clean {
		w.clean = v.Validate() == nil
	}
	w.walk(m)
}

func (w *canonical) walk(m protoreflect.Message) {
	if w.depth++; w.depth > 2*maxDepth {
		w.clean = false
		return
	}
	defer func() { w.depth-- }()
	switch v := m.Interface().(type) {
	case *anypb.Any:
		w.any(v)
		return
	case *durationpb.Duration:
		w.clean = w.clean && duration(v) == nil
		return
	}
	w.clean = w.clean && len(m.GetUnknown()) == 0
	refused := refusedFields(m.Descriptor())
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		for i := range refused {
			w.clean = w.clean && !refused[i].hits(f, v)
		}
		switch {
		case f.IsMap():
			if f.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool { w.walk(e.Message()); return true })
			}
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				w.walk(v.List().Get(i).Message())
			}
		default:
			w.walk(v.Message())
		}
		return true
	})
}

// any brings a packed message into the one form; what is of an unknown type is compared by its bytes.
func (w *canonical) any(a *anypb.Any) {
	if a.GetTypeUrl() == "" {
		return
	}
	inner, err := a.UnmarshalNew()
	if err != nil {
		w.clean = false
		return
	}
	switch inner.(type) {
	case *udpav1.TypedStruct, *xdsv3.TypedStruct:
		w.typedStruct(a)
	}
	w.message(inner.ProtoReflect())
	if b, err := (proto.MarshalOptions{Deterministic: true}).Marshal(inner); err == nil {
		a.Value = b
	}
}

// typedStruct looks at the message that a TypedStruct stands for.
func (w *canonical) typedStruct(a *anypb.Any) {
	m, unknown, err := Unpack(a)
	if err != nil || len(unknown) > 0 {
		w.clean = false
		return
	}
	w.message(m.ProtoReflect())
}

// refusals remembers, by the full name of a message type, what refusedFields has found: it never changes.
var refusals sync.Map

// refusal is a field that Envoy refuses by default, or only with some of its values.
type refusal struct {
	field  protoreflect.FieldNumber
	values []protoreflect.EnumNumber // nil: all
}

func (r *refusal) hits(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
	if f.Number() != r.field {
		return false
	}
	return r.values == nil || f.IsList() || f.IsMap() || slices.Contains(r.values, v.Enum())
}

func refusedFields(d protoreflect.MessageDescriptor) []refusal {
	if l, ok := refusals.Load(d.FullName()); ok {
		return l.([]refusal)
	}
	var l []refusal
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		o, _ := f.Options().(*descriptorpb.FieldOptions)
		if refused, _ := proto.GetExtension(o, annotations.E_DisallowedByDefault).(bool); refused {
			l = append(l, refusal{field: f.Number()})
		} else if f.Enum() != nil {
			if values := refusedValues(f.Enum()); values != nil {
				l = append(l, refusal{f.Number(), values})
			}
		}
	}
	refusals.Store(d.FullName(), l)
	return l
}

func refusedValues(d protoreflect.EnumDescriptor) (l []protoreflect.EnumNumber) {
	for i := range d.Values().Len() {
		v := d.Values().Get(i)
		o, _ := v.Options().(*descriptorpb.EnumValueOptions)
		if refused, _ := proto.GetExtension(o, annotations.E_DisallowedByDefaultEnum).(bool); refused {
			l = append(l, v.Number())
		}
	}
	return l
}
