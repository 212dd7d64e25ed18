package protofile

import (
	"encoding/json"
	"errors"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// wellKnown fills the messages that JSON's mapping writes in a way of their own.
func (d *decoder) wellKnown(m protoreflect.Message, n *node) (handled bool, err error) {
	name := m.Descriptor().FullName()
	if name.Parent() != "google.protobuf" {
		return false, nil
	}
	switch name.Name() {
	case "Any":
		return true, d.any(m, n)
	case "Struct":
		return true, into(m, n, d.structOf)
	case "ListValue":
		return true, into(m, n, d.listOf)
	case "Value":
		return true, into(m, n, d.valueOf)
	case "Duration", "Timestamp", "FieldMask":
		if n.kind == mapping {
			return false, nil // {seconds: 5} does as well
		}
		return true, formatted(m, n)
	case "BoolValue", "StringValue", "BytesValue", "DoubleValue", "FloatValue", "Int32Value", "Int64Value", "UInt32Value", "UInt64Value":
		if n.kind == mapping {
			return false, nil // {value: 5} does as well
		}
		v, _, err := d.scalar(m.Descriptor().Fields().ByNumber(1), n)
		if err == nil {
			m.Set(m.Descriptor().Fields().ByNumber(1), v)
		}
		return true, err
	}
	return false, nil
}

// formatted reads a duration ("1.5s"), a time or a field mask.
func formatted(m protoreflect.Message, n *node) error {
	if n.kind != text || strings.HasPrefix(n.text, ".") || strings.HasSuffix(n.text, ".s") {
		return unexpected(n, form(m))
	}
	quoted, err := json.Marshal(n.text)
	if err == nil {
		err = protojson.Unmarshal(quoted, m.Interface())
	}
	if err != nil {
		return unexpected(n, form(m))
	}
	return nil
}

// form says how a message that is written as a string looks.
func form(m protoreflect.Message) string {
	switch m.Descriptor().Name() {
	case "Duration":
		return `a duration such as "5s" or "0.25s"`
	case "Timestamp":
		return `a time such as "2006-01-02T15:04:05Z"`
	default:
		return "a list of fields"
	}
}

// any fills an Any from the message that @type names.
func (d *decoder) any(m protoreflect.Message, n *node) error {
	if n.kind != mapping {
		return unexpected(n, "a map with @type")
	}
	if len(n.keys) == 0 {
		return nil
	}
	t := n.get("@type")
	if t == nil || t.kind != text {
		return located(n, errors.New("missing @type"))
	}
	mt, err := find(t.text)
	if err != nil {
		return located(n, err)
	}
	inner := mt.New()
	if err := d.packed(inner, n); err != nil {
		return err
	}
	a := m.Interface().(*anypb.Any)
	a.TypeUrl = t.text
	a.Value, err = proto.MarshalOptions{Deterministic: true, AllowPartial: true}.Marshal(inner.Interface())
	return err
}

// packed fills the message within an Any: messages with a mapping of their own stand under "value".
func (d *decoder) packed(m protoreflect.Message, n *node) error {
	name := m.Descriptor().FullName()
	if name.Parent() != "google.protobuf" || name.Name() == "Empty" {
		return d.fields(m, n, "@type")
	}
	if v := n.get("value"); v != nil {
		d.trail.field("value")
		defer d.trail.back()
		return at("value", d.message(m, v))
	}
	return nil
}

// into merges what build makes of n.
func into[M proto.Message](m protoreflect.Message, n *node, build func(*node) (M, error)) error {
	v, err := build(n)
	if err == nil {
		proto.Merge(m.Interface(), v)
	}
	return err
}

func (d *decoder) structOf(n *node) (*structpb.Struct, error) {
	if n.kind != mapping {
		return nil, unexpected(n, "a map")
	}
	s := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(n.keys))}
	for i, k := range n.keys {
		v, err := d.valueOf(n.items[i])
		if err != nil {
			return nil, at(k, err)
		}
		s.Fields[k] = v
	}
	return s, nil
}

func (d *decoder) listOf(n *node) (*structpb.ListValue, error) {
	if n.kind != list {
		return nil, unexpected(n, "a list")
	}
	l := &structpb.ListValue{Values: make([]*structpb.Value, 0, len(n.items))}
	for _, e := range n.items {
		v, err := d.valueOf(e)
		if err != nil {
			return nil, err
		}
		l.Values = append(l.Values, v)
	}
	return l, nil
}

func (d *decoder) valueOf(n *node) (*structpb.Value, error) {
	if d.nodes++; d.nodes > maxNodes {
		return nil, errTooLarge
	}
	switch n.kind {
	case null:
		return structpb.NewNullValue(), nil
	case boolean:
		return structpb.NewBoolValue(n.bool), nil
	case text:
		return structpb.NewStringValue(n.text), nil
	case number:
		f, err := json.Number(n.text).Float64()
		if err != nil {
			return nil, unexpected(n, "a number")
		}
		return structpb.NewNumberValue(f), nil
	case list:
		l, err := d.listOf(n)
		return structpb.NewListValue(l), err
	default:
		s, err := d.structOf(n)
		return structpb.NewStructValue(s), err
	}
}
