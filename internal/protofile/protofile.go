// Package protofile reads protobuf messages from the forms that Envoy takes: YAML, JSON, binary and text. It has Envoy's leniencies, refuses
// the rest with the path and the reason, and checks messages by the rules that their definitions carry.
package protofile

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// Format is how a message is written.
type Format uint8

// The formats.
const (
	JSON Format = iota
	YAML
	Binary
	Text
)

// FormatOf tells the format of a file from its name, as Envoy does: .yaml and .yml, .pb, .pb_text; all others are JSON.
func FormatOf(path string) Format {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".yaml", ".yml":
		return YAML
	case ".pb":
		return Binary
	case ".pb_text":
		return Text
	}
	return JSON
}

// Read fills m from a file. unknown lists what a YAML or JSON text has beyond m, fields and enum values, each as path and reason: whether to
// refuse that is the caller's decision (Refuse does). What a binary message has beyond m, Check finds.
func Read(path string, m proto.Message) (unknown []string, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(raw, FormatOf(path), m)
}

// Parse fills m from text; see Read. It does no I/O.
func Parse(raw []byte, f Format, m proto.Message) (unknown []string, err error) {
	switch f {
	case Binary:
		if err := proto.Unmarshal(raw, m); err != nil {
			return nil, fmt.Errorf("unable to parse as a binary protobuf (type %s): %w", m.ProtoReflect().Descriptor().FullName(), err)
		}
		return nil, nil
	case Text:
		if err := prototext.Unmarshal(raw, m); err != nil {
			return nil, fmt.Errorf("unable to parse as a text protobuf (type %s): %w", m.ProtoReflect().Descriptor().FullName(), err)
		}
		return nil, nil
	case YAML:
		return parse(parseYAML, raw, m)
	default:
		return parse(parseJSON, raw, m)
	}
}

func parse(read func([]byte) (*node, error), raw []byte, m proto.Message) ([]string, error) {
	n, err := read(raw)
	if err != nil {
		return nil, err
	}
	return decode(n, m)
}

func decode(n *node, m proto.Message) ([]string, error) {
	d := &decoder{}
	err := d.message(m.ProtoReflect(), n)
	return d.unknown, err
}

// Refuse is an error about unknown fields, nil if there are none.
func Refuse(unknown []string) error {
	if len(unknown) == 0 {
		return nil
	}
	return errors.New(strings.Join(unknown, "; "))
}

// Value reads any YAML, as Envoy reads the values of runtime files.
func Value(raw []byte) (*structpb.Value, error) {
	n, err := parseYAML(raw)
	if err != nil {
		return nil, err
	}
	return (&decoder{}).valueOf(n)
}

// FromStruct fills m from a Struct, such as the value of a TypedStruct.
func FromStruct(s *structpb.Struct, m proto.Message) (unknown []string, err error) {
	return decode(nodeOfStruct(s), m)
}

func nodeOfStruct(s *structpb.Struct) *node {
	n := &node{kind: mapping}
	for _, k := range slices.Sorted(maps.Keys(s.GetFields())) {
		n.keys, n.items = append(n.keys, k), append(n.items, nodeOf(s.GetFields()[k]))
	}
	return n
}

func nodeOf(v *structpb.Value) *node {
	switch k := v.GetKind().(type) {
	case *structpb.Value_BoolValue:
		return &node{kind: boolean, bool: k.BoolValue}
	case *structpb.Value_NumberValue:
		return &node{kind: number, text: strconv.FormatFloat(k.NumberValue, 'g', -1, 64)}
	case *structpb.Value_StringValue:
		return &node{kind: text, text: k.StringValue}
	case *structpb.Value_StructValue:
		return nodeOfStruct(k.StructValue)
	case *structpb.Value_ListValue:
		n := &node{kind: list}
		for _, e := range k.ListValue.GetValues() {
			n.items = append(n.items, nodeOf(e))
		}
		return n
	}
	return &node{kind: null}
}
