package protofile

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	"github.com/envoyproxy/go-control-plane/envoy/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// Findings are what Check saw and an operator should hear of. Every entry begins with the path.
type Findings struct {
	Unknown    []string // fields that the message types do not have
	Deprecated []string
	WIP        []string // work in progress: messages and fields without any promise
}

// Check holds m, and all messages within its Any fields, to the rules of their definitions (protoc-gen-validate). The error names the path.
func Check(m proto.Message) (Findings, error) {
	c := &checker{}
	err := c.message(m.ProtoReflect())
	return c.Findings, err
}

// Unpack returns the message in a. A TypedStruct is turned into the message that it names, if the binary has that type.
func Unpack(a *anypb.Any) (m proto.Message, unknown []string, err error) {
	t, err := find(a.GetTypeUrl())
	if err != nil {
		return nil, nil, err
	}
	m = t.New().Interface()
	if err := proto.Unmarshal(a.GetValue(), m); err != nil {
		return nil, nil, fmt.Errorf("unable to unpack as %s: %w", t.Descriptor().FullName(), err)
	}
	switch s := m.(type) {
	case *udpav1.TypedStruct:
		return typedStruct(s.GetTypeUrl(), s.GetValue())
	case *xdsv3.TypedStruct:
		return typedStruct(s.GetTypeUrl(), s.GetValue())
	}
	return m, nil, nil
}

func typedStruct(url string, value *structpb.Struct) (proto.Message, []string, error) {
	if !strings.Contains(url, "/") {
		url = "type.googleapis.com/" + url
	}
	t, err := find(url)
	if err != nil {
		return nil, nil, err
	}
	m := t.New().Interface()
	unknown, err := FromStruct(value, m)
	return m, unknown, at("value", err)
}

type checker struct {
	Findings

	trail trail
	depth int
}

// here puts the path of where the checker stands before an error.
func (c *checker) here(err error) error {
	if err == nil || len(c.trail) == 0 {
		return err
	}
	return at(c.trail.String(), err)
}

func (c *checker) message(m protoreflect.Message) error {
	if v, ok := m.Interface().(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return c.here(constraint(m.Descriptor(), err))
		}
	}
	return c.walk(m)
}

// walk looks at what Validate does not: unknown and discouraged fields, and messages within Any fields.
func (c *checker) walk(m protoreflect.Message) error {
	if c.depth++; c.depth > 2*maxDepth {
		return c.here(fmt.Errorf("nested deeper than %d levels", 2*maxDepth))
	}
	defer func() { c.depth-- }()
	switch v := m.Interface().(type) {
	case *anypb.Any:
		return c.any(v)
	case *durationpb.Duration:
		return c.here(duration(v))
	}
	if numbers := fieldNumbers(m.GetUnknown()); len(numbers) > 0 {
		c.Unknown = append(c.Unknown, fmt.Sprintf("%s: unknown field numbers %v in %s", c.trail, numbers, m.Descriptor().FullName()))
	}
	d := definitionOf(m.Descriptor())
	if d.wip {
		c.WIP = append(c.WIP, fmt.Sprintf("%s: message %s is marked as work-in-progress", c.trail, m.Descriptor().FullName()))
	}
	for i := range d.fields {
		f := &d.fields[i]
		if f.plain || !m.Has(f.descriptor) {
			continue
		}
		c.trail.field(string(f.descriptor.Name()))
		err := c.field(m, f)
		c.trail.back()
		if err != nil && !optional(m, err) {
			return err
		}
	}
	return nil
}

// optional says that err is about an extension that need not be known: of the load-balancing policies of a cluster the first known one
// is taken.
func optional(m protoreflect.Message, err error) bool {
	var u *UnknownTypeError
	return m.Descriptor().FullName() == "envoy.config.cluster.v3.LoadBalancingPolicy.Policy" && errors.As(err, &u)
}

// duration refuses what Envoy has no meaning for, wherever it stands.
func duration(d *durationpb.Duration) error {
	if d.GetSeconds() < 0 || d.GetNanos() < 0 {
		return errors.New("invalid duration: expected positive duration")
	}
	if err := d.CheckValid(); err != nil || d.GetSeconds() >= math.MaxInt64/int64(time.Second) { // Envoy counts in nanoseconds
		return errors.New("invalid duration: out of range")
	}
	return nil
}

func (c *checker) field(m protoreflect.Message, f *definedField) error {
	v := m.Get(f.descriptor)
	if err := c.discouraged(v, f); err != nil {
		return c.here(err)
	}
	switch {
	case f.descriptor.IsMap():
		return c.entries(f.descriptor, v.Map())
	case f.descriptor.Message() == nil:
		return nil
	case f.descriptor.IsList():
		for i := range v.List().Len() {
			c.trail.item(i)
			err := c.walk(v.List().Get(i).Message())
			c.trail.back()
			if err != nil {
				return err
			}
		}
		return nil
	default:
		return calledBy(m, c.walk(v.Message()))
	}
}

// calledBy completes the error about an extension that is not there with the name in m, if m is what holds its configuration.
func calledBy(m protoreflect.Message, err error) error {
	var u *UnknownTypeError
	name := m.Descriptor().Fields().ByName("name")
	if errors.As(err, &u) && u.Name == "" && name != nil && name.Kind() == protoreflect.StringKind && !name.IsList() {
		u.Name = m.Get(name).String()
	}
	return err
}

func (c *checker) entries(f protoreflect.FieldDescriptor, entries protoreflect.Map) error {
	if f.MapValue().Message() == nil {
		return nil
	}
	var keys []protoreflect.MapKey
	entries.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return strings.Compare(a.String(), b.String()) })
	for _, k := range keys {
		c.trail.entry(k.String())
		err := c.walk(entries.Get(k).Message())
		c.trail.back()
		if err != nil {
			return err
		}
	}
	return nil
}

// any checks what is packed.
func (c *checker) any(a *anypb.Any) error {
	if a.GetTypeUrl() == "" {
		return nil
	}
	m, unknown, err := Unpack(a)
	if err != nil {
		return c.here(err)
	}
	for _, u := range unknown {
		c.Unknown = append(c.Unknown, join(c.trail.String(), "value."+u))
	}
	return c.message(m.ProtoReflect())
}

// discouraged notes deprecated and unfinished fields, and refuses those that Envoy refuses by default.
func (c *checker) discouraged(v protoreflect.Value, f *definedField) error {
	if f.deprecated != "" {
		c.Deprecated = append(c.Deprecated, c.trail.String()+": "+f.deprecated)
	}
	if f.refused {
		return fmt.Errorf("%s is deprecated and no longer accepted", f.descriptor.FullName())
	}
	if f.wip {
		c.WIP = append(c.WIP, fmt.Sprintf("%s: field %s is marked as work-in-progress", c.trail, f.descriptor.FullName()))
	}
	if f.descriptor.Enum() != nil && !f.descriptor.IsList() && !f.descriptor.IsMap() {
		return c.enumValue(f.descriptor.Enum().Values().ByNumber(v.Enum()), f.descriptor)
	}
	return nil
}

func (c *checker) enumValue(v protoreflect.EnumValueDescriptor, f protoreflect.FieldDescriptor) error {
	if v == nil {
		return nil
	}
	o, _ := v.Options().(*descriptorpb.EnumValueOptions)
	if !o.GetDeprecated() {
		return nil
	}
	c.Deprecated = append(c.Deprecated, c.trail.String()+": "+usingDeprecated(fmt.Sprintf("value %s for enum '%s'", v.Name(), f.FullName()), f))
	if refused, _ := proto.GetExtension(o, annotations.E_DisallowedByDefaultEnum).(bool); refused {
		return fmt.Errorf("%s is deprecated and no longer accepted", v.FullName())
	}
	return nil
}

// violation is what the generated Validate methods return.
type violation interface {
	Field() string
	Reason() string
	Cause() error
}

// constraint turns the chain of a generated error into a path and the reason.
func constraint(d protoreflect.MessageDescriptor, err error) error {
	v, ok := err.(violation)
	if !ok {
		return err
	}
	name, index, _ := strings.Cut(v.Field(), "[")
	field, next := fieldByGoName(d, name)
	if index != "" {
		field += "[" + index
	}
	if v.Cause() == nil {
		return &pathError{field, fmt.Errorf("proto constraint validation failed: %s", v.Reason())}
	}
	if next == nil {
		return &pathError{field, fmt.Errorf("proto constraint validation failed: %w", v.Cause())}
	}
	return at(field, constraint(next, v.Cause()))
}

// fieldByGoName finds a field, or a oneof, by the name that the Go code gives it.
func fieldByGoName(d protoreflect.MessageDescriptor, name string) (string, protoreflect.MessageDescriptor) {
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if !strings.EqualFold(strings.ReplaceAll(string(f.Name()), "_", ""), name) {
			continue
		}
		if f.IsMap() {
			return string(f.Name()), f.MapValue().Message()
		}
		return string(f.Name()), f.Message()
	}
	for i := range d.Oneofs().Len() {
		if o := d.Oneofs().Get(i); strings.EqualFold(strings.ReplaceAll(string(o.Name()), "_", ""), name) {
			return string(o.Name()), nil
		}
	}
	return name, nil
}
