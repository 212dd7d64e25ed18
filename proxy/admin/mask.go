package admin

import (
	annotations "github.com/cncf/xds/go/udpa/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// keep copies the field at path from one message to another of its type, through lists and Any messages; false: there is none.
func keep(to, from protoreflect.Message, path []string) bool {
	f := from.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	if f == nil {
		return false
	}
	switch {
	case !from.Has(f):
		return true
	case len(path) == 1:
		to.Set(f, from.Get(f))
		return true
	case f.IsMap() || f.Message() == nil:
		return false
	case f.IsList():
		return keepList(to, from, f, path[1:])
	}
	return keepIn(to.Mutable(f).Message(), from.Get(f).Message(), path[1:])
}

// keepList copies a path of each element.
func keepList(to, from protoreflect.Message, f protoreflect.FieldDescriptor, path []string) bool {
	source, target := from.Get(f).List(), to.Mutable(f).List()
	ok := true
	for i := range source.Len() {
		if i == target.Len() {
			target.AppendMutable()
		}
		ok = keepIn(target.Get(i).Message(), source.Get(i).Message(), path) && ok
	}
	return ok
}

// keepIn is keep that looks into an Any.
func keepIn(to, from protoreflect.Message, path []string) bool {
	a, ok := from.Interface().(*anypb.Any)
	if !ok {
		return keep(to, from, path)
	}
	inner, err := a.UnmarshalNew()
	if err != nil {
		return false
	}
	kept := inner.ProtoReflect().New()
	target, _ := to.Interface().(*anypb.Any)
	if before, err := target.UnmarshalNew(); err == nil {
		kept = before.ProtoReflect()
	}
	return keep(kept, inner.ProtoReflect(), path) && target.MarshalFrom(kept.Interface()) == nil
}

// redact takes the values of sensitive fields out of m, which must be a copy: those that the protos mark with
// udpa.annotations.sensitive.
func redact(m protoreflect.Message) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		redactAny(a)
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if sensitive, _ := proto.GetExtension(f.Options(), annotations.E_Sensitive).(bool); sensitive {
			blank(m, f, v)
			return true
		}
		switch {
		case f.Message() == nil:
		case f.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool {
				if f.MapValue().Message() != nil {
					redact(e.Message())
				}
				return true
			})
		case f.IsList():
			for i := range v.List().Len() {
				redact(v.List().Get(i).Message())
			}
		default:
			redact(v.Message())
		}
		return true
	})
}

func redactAny(a *anypb.Any) {
	inner, err := a.UnmarshalNew()
	if err != nil {
		return // a type that this build does not know is shown as it is
	}
	redact(inner.ProtoReflect())
	_ = a.MarshalFrom(inner)
}

const redacted = "[redacted]"

// blank overwrites all text and bytes below a sensitive field.
func blank(m protoreflect.Message, f protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case f.IsList() || f.IsMap():
		m.Clear(f)
	case f.Kind() == protoreflect.StringKind:
		m.Set(f, protoreflect.ValueOfString(redacted))
	case f.Kind() == protoreflect.BytesKind:
		m.Set(f, protoreflect.ValueOfBytes([]byte(redacted)))
	case f.Message() != nil:
		v.Message().Range(func(g protoreflect.FieldDescriptor, u protoreflect.Value) bool {
			blank(v.Message(), g, u)
			return true
		})
	default:
		m.Clear(f)
	}
}
