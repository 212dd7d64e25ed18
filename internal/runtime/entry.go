package runtime

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// kinds say what a value can be read as; "1" is an unsigned integer and a double.
type kinds uint8

const (
	isUint kinds = 1 << iota
	isDouble
	isBool
	isFraction
)

type entry struct {
	raw         string
	kinds       kinds
	bool        bool
	uint        uint64
	double      float64
	numerator   uint64
	denominator uint64
}

// parse reads a value of the configuration or of a file.
func parse(v *structpb.Value) entry {
	switch k := v.GetKind().(type) {
	case *structpb.Value_NumberValue:
		return number(k.NumberValue, strconv.FormatFloat(k.NumberValue, 'g', -1, 64))
	case *structpb.Value_BoolValue:
		return entry{raw: strconv.FormatBool(k.BoolValue), kinds: isBool, bool: k.BoolValue}
	case *structpb.Value_StructValue:
		return fractional(k.StructValue)
	default:
		return text(v.GetStringValue())
	}
}

func text(s string) entry {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return number(f, s)
	}
	return entry{raw: s}
}

func number(f float64, raw string) entry {
	e := entry{raw: raw, kinds: isDouble, double: f}
	if f >= 0 && f == math.Trunc(f) && f < 1<<63 {
		e.kinds |= isUint
		e.uint = uint64(f)
	}
	return e
}

// fractional reads {numerator: 1, denominator: TEN_THOUSAND}.
func fractional(s *structpb.Struct) entry {
	f := s.GetFields()
	n := parse(f["numerator"])
	d, known := typev3.FractionalPercent_DenominatorType_value[strings.ToUpper(f["denominator"].GetStringValue())]
	if _, given := f["denominator"]; given && !known {
		d = int32(f["denominator"].GetNumberValue())
	}
	e := entry{numerator: n.uint, denominator: denominator(typev3.FractionalPercent_DenominatorType(d))}
	e.raw = fmt.Sprintf("%d/%d", e.numerator, e.denominator)
	if n.kinds&isUint != 0 || f["numerator"] == nil {
		e.kinds = isFraction
	}
	return e
}

// flatten adds the values of a tree to those of a layer: {a: {b: 1}} is a.b.
func flatten(into map[string]entry, prefix string, v *structpb.Value) error {
	switch k := v.GetKind().(type) {
	case nil, *structpb.Value_NullValue, *structpb.Value_ListValue:
		return fmt.Errorf("invalid runtime entry value for %s", prefix)
	case *structpb.Value_StructValue:
		if !leaf(k.StructValue) {
			return flattenStruct(into, prefix, k.StructValue)
		}
	}
	into[prefix] = parse(v)
	return nil
}

func leaf(s *structpb.Struct) bool {
	f := s.GetFields()
	return len(f) == 0 || f["numerator"] != nil || f["denominator"] != nil
}

func flattenStruct(into map[string]entry, prefix string, s *structpb.Struct) error {
	for name, v := range s.GetFields() {
		if prefix != "" {
			name = prefix + "." + name
		}
		if err := flatten(into, name, v); err != nil {
			return err
		}
	}
	return nil
}
