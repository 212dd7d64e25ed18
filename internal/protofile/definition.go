package protofile

import (
	"slices"
	"strings"
	"sync"

	udpav1a "github.com/cncf/xds/go/udpa/annotations"
	xdsannotations "github.com/cncf/xds/go/xds/annotations/v3"
	"github.com/envoyproxy/go-control-plane/envoy/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// definition is what Check asks of a message type.
type definition struct {
	wip    bool
	fields []definedField // by number
}

// definedField is what Check asks of a field.
type definedField struct {
	descriptor protoreflect.FieldDescriptor
	plain      bool   // nothing within it can be wrong, unknown or discouraged
	deprecated string // what to say of its use
	refused    bool
	wip        bool
}

// definitions by descriptor: options are extensions, and to read one costs as much as to check a small message.
var definitions sync.Map

func definitionOf(m protoreflect.MessageDescriptor) *definition {
	if d, ok := definitions.Load(m); ok {
		return d.(*definition)
	}
	d := &definition{wip: workInProgress(m)}
	for i := range m.Fields().Len() {
		d.fields = append(d.fields, define(m.Fields().Get(i)))
	}
	slices.SortFunc(d.fields, func(a, b definedField) int { return int(a.descriptor.Number() - b.descriptor.Number()) })
	definitions.Store(m, d)
	return d
}

func define(f protoreflect.FieldDescriptor) definedField {
	d := definedField{descriptor: f}
	o, _ := f.Options().(*descriptorpb.FieldOptions)
	if o.GetDeprecated() {
		d.deprecated = usingDeprecated("option '"+string(f.FullName())+"'", f)
		d.refused, _ = proto.GetExtension(o, annotations.E_DisallowedByDefault).(bool)
	}
	s, _ := proto.GetExtension(o, xdsannotations.E_FieldStatus).(*xdsannotations.FieldStatusAnnotation)
	d.wip = s.GetWorkInProgress()
	d.plain = f.Message() == nil && f.Enum() == nil && d.deprecated == "" && !d.wip
	return d
}

func usingDeprecated(what string, f protoreflect.FieldDescriptor) string {
	file := f.ParentFile().Path()
	return "using deprecated " + what + " from file " + file[strings.LastIndex(file, "/")+1:] + "; it will be removed from Envoy soon"
}

func workInProgress(d protoreflect.MessageDescriptor) bool {
	s, _ := proto.GetExtension(d.Options(), xdsannotations.E_MessageStatus).(*xdsannotations.MessageStatusAnnotation)
	if s.GetWorkInProgress() {
		return true
	}
	f, _ := proto.GetExtension(d.ParentFile().Options(), xdsannotations.E_FileStatus).(*xdsannotations.FileStatusAnnotation)
	u, _ := proto.GetExtension(d.ParentFile().Options(), udpav1a.E_FileStatus).(*udpav1a.StatusAnnotation)
	return f.GetWorkInProgress() || u.GetWorkInProgress()
}
