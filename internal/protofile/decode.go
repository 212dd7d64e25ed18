package protofile

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// maxNodes bounds what aliases may blow up to.
const maxNodes = 2 << 20

var errTooLarge = errors.New("the document is too large")

// decoder fills messages from trees. Its errors begin with the path of the field.
type decoder struct {
	unknown []string // paths of fields and enum values that the messages do not have
	trail   trail
	nodes   int
	depth   int
}

// at puts a field before the path of an error.
func at(field string, err error) error {
	var e *pathError
	if err == nil {
		return nil
	}
	if !errors.As(err, &e) {
		return &pathError{field, err}
	}
	if !strings.HasPrefix(e.path, "[") {
		field += "."
	}
	return &pathError{field + e.path, e.reason}
}

// pathError is a reason with the path of the field that it is about.
type pathError struct {
	path   string
	reason error
}

func (e *pathError) Error() string { return e.path + ": " + e.reason.Error() }
func (e *pathError) Unwrap() error { return e.reason }

// unexpected says what stands where something else belongs.
func unexpected(n *node, want string) error {
	got := kindNames[n.kind]
	if n.text != "" {
		got = strconv.Quote(n.text)
	}
	return located(n, fmt.Errorf("expected %s, not %s", want, got))
}

// located adds the line to a reason.
func located(n *node, err error) error {
	if n.line == 0 {
		return err
	}
	return &lineError{n.line, err}
}

// lineError is a reason with the line of the text that it is about. Its text is made when it is asked for: the reason may be completed.
type lineError struct {
	line   int
	reason error
}

func (e *lineError) Error() string { return fmt.Sprintf("%s (line %d)", e.reason, e.line) }
func (e *lineError) Unwrap() error { return e.reason }

// message fills m.
func (d *decoder) message(m protoreflect.Message, n *node) error {
	d.depth++
	defer func() { d.depth-- }()
	if d.depth > maxDepth {
		return located(n, fmt.Errorf("nested deeper than %d levels", maxDepth))
	}
	if handled, err := d.wellKnown(m, n); handled {
		return err
	}
	if n.kind != mapping {
		return unexpected(n, "a map of the fields of "+string(m.Descriptor().FullName()))
	}
	return d.fields(m, n, "")
}

// fields fills m with the entries of a mapping, but for the key skip.
func (d *decoder) fields(m protoreflect.Message, n *node, skip string) error {
	for i, key := range n.keys {
		if skip != "" && key == skip {
			continue
		}
		f := fieldByKey(m.Descriptor(), key)
		if f == nil {
			d.unknown = append(d.unknown, fmt.Sprintf("%s: no such field in %s", join(d.trail.String(), key), m.Descriptor().FullName()))
			continue
		}
		d.trail.field(string(f.Name()))
		err := d.field(m, f, n, n.items[i])
		d.trail.back()
		if err != nil {
			return at(string(f.Name()), err)
		}
	}
	return nil
}

// fieldByKey finds a field by its name, in snake or in camel case, or as an extension in brackets.
func fieldByKey(m protoreflect.MessageDescriptor, key string) protoreflect.FieldDescriptor {
	if f := m.Fields().ByName(protoreflect.Name(key)); f != nil {
		return f
	}
	return m.Fields().ByJSONName(key)
}

func join(path, field string) string {
	if path == "" || field == "" {
		return path + field
	}
	return path + "." + field
}

func (d *decoder) field(m protoreflect.Message, f protoreflect.FieldDescriptor, parent, n *node) error {
	if d.nodes++; d.nodes > maxNodes {
		return errTooLarge
	}
	if n.kind == null && (f.IsList() || f.IsMap() || !takesNull(f)) {
		return nil
	}
	if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() {
		if other := m.WhichOneof(o); other != nil && other != f {
			return located(n, fmt.Errorf("conflicts with %s: only one of %s may be set", other.Name(), o.Name()))
		}
	}
	switch {
	case f.IsMap():
		return d.mapField(m, f, n)
	case f.IsList():
		return d.listField(m, f, n)
	case f.Message() != nil:
		return named(d.message(m.Mutable(f).Message(), n), f.Message(), parent.get("name"))
	}
	v, ok, err := d.scalar(f, n)
	if ok && err == nil {
		m.Set(f, v)
	}
	return err
}

// named completes the error about an extension that is not there with the name that its configuration goes by.
func named(err error, of protoreflect.MessageDescriptor, name *node) error {
	var u *UnknownTypeError
	if of.FullName() == "google.protobuf.Any" && errors.As(err, &u) && u.Name == "" && name != nil {
		u.Name = name.text
	}
	return err
}

func takesNull(f protoreflect.FieldDescriptor) bool {
	return f.Message() != nil && f.Message().FullName() == "google.protobuf.Value" ||
		f.Enum() != nil && f.Enum().FullName() == "google.protobuf.NullValue"
}

func (d *decoder) listField(m protoreflect.Message, f protoreflect.FieldDescriptor, n *node) error {
	l := m.Mutable(f).List()
	items := n.items
	if n.kind != list {
		items = []*node{n} // a single value stands for a list of it
	}
	for i, e := range items {
		d.trail.item(i)
		err := d.element(l, f, e)
		d.trail.back()
		if err != nil {
			return at(fmt.Sprintf("[%d]", i), err)
		}
	}
	return nil
}

func (d *decoder) element(l protoreflect.List, f protoreflect.FieldDescriptor, n *node) error {
	if d.nodes++; d.nodes > maxNodes {
		return errTooLarge
	}
	if f.Message() != nil {
		if n.kind == null && !takesNull(f) {
			l.AppendMutable()
			return nil
		}
		return d.message(l.AppendMutable().Message(), n)
	}
	v, ok, err := d.scalar(f, n)
	if ok && err == nil {
		l.Append(v)
	}
	return err
}

func (d *decoder) mapField(m protoreflect.Message, f protoreflect.FieldDescriptor, n *node) error {
	if n.kind != mapping {
		return unexpected(n, "a map")
	}
	entries := m.Mutable(f).Map()
	for i, key := range n.keys {
		d.trail.entry(key)
		err := d.entry(entries, f, key, n.items[i])
		d.trail.back()
		if err != nil {
			return at(fmt.Sprintf("[%q]", key), err)
		}
	}
	return nil
}

func (d *decoder) entry(entries protoreflect.Map, f protoreflect.FieldDescriptor, key string, n *node) error {
	kn := &node{kind: text, text: key, line: n.line}
	k, _, err := d.scalar(f.MapKey(), kn)
	if err != nil {
		return err
	}
	if d.nodes++; d.nodes > maxNodes {
		return errTooLarge
	}
	if f.MapValue().Message() != nil {
		return named(d.message(entries.Mutable(k.MapKey()).Message(), n), f.MapValue().Message(), kn)
	}
	v, ok, err := d.scalar(f.MapValue(), n)
	if ok && err == nil {
		entries.Set(k.MapKey(), v)
	}
	return err
}

// scalar reads a value that is no message. ok is false for an enum value that is not known, which counts as an unknown field.
func (d *decoder) scalar(f protoreflect.FieldDescriptor, n *node) (v protoreflect.Value, ok bool, err error) {
	switch f.Kind() {
	case protoreflect.BoolKind:
		v, err = boolValue(n)
	case protoreflect.StringKind:
		v, err = stringValue(n)
	case protoreflect.BytesKind:
		v, err = bytesValue(n)
	case protoreflect.EnumKind:
		return d.enum(f.Enum(), n)
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		v, err = floatValue(f.Kind(), n)
	default:
		v, err = intValue(f.Kind(), n)
	}
	return v, true, err
}

func boolValue(n *node) (protoreflect.Value, error) {
	if n.kind == boolean {
		return protoreflect.ValueOfBool(n.bool), nil
	}
	if n.kind == text {
		switch strings.ToLower(n.text) {
		case "true", "t", "yes", "y", "1":
			return protoreflect.ValueOfBool(true), nil
		case "false", "f", "no", "n", "0":
			return protoreflect.ValueOfBool(false), nil
		}
	}
	return protoreflect.Value{}, unexpected(n, "true or false")
}

func stringValue(n *node) (protoreflect.Value, error) {
	if n.kind != text {
		return protoreflect.Value{}, unexpected(n, "a string (quote it)")
	}
	return protoreflect.ValueOfString(n.text), nil
}

// bytesValue reads base64, of both alphabets, with or without padding.
func bytesValue(n *node) (protoreflect.Value, error) {
	if n.kind != text {
		return protoreflect.Value{}, unexpected(n, "a string of base64")
	}
	enc := base64.RawStdEncoding
	if strings.ContainsAny(n.text, "-_") {
		enc = base64.RawURLEncoding
	}
	b, err := enc.DecodeString(strings.TrimRight(n.text, "="))
	if err != nil {
		return protoreflect.Value{}, located(n, errors.New("invalid base64"))
	}
	return protoreflect.ValueOfBytes(b), nil
}

func (d *decoder) enum(e protoreflect.EnumDescriptor, n *node) (protoreflect.Value, bool, error) {
	switch n.kind {
	case null:
		return protoreflect.ValueOfEnum(0), true, nil
	case text:
		for _, name := range []string{n.text, strings.ToUpper(n.text)} {
			if v := e.Values().ByName(protoreflect.Name(name)); v != nil {
				return protoreflect.ValueOfEnum(v.Number()), true, nil
			}
		}
	}
	i, err := integer(n, math.MinInt32, math.MaxInt32)
	if err == nil {
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(i)), true, nil
	}
	if n.kind != text {
		return protoreflect.Value{}, false, unexpected(n, "a value of "+string(e.FullName()))
	}
	d.unknown = append(d.unknown, fmt.Sprintf("%s: unknown enum value %q of %s", d.trail, n.text, e.FullName()))
	return protoreflect.Value{}, false, nil
}

func floatValue(k protoreflect.Kind, n *node) (protoreflect.Value, error) {
	f, err := strconv.ParseFloat(n.text, 64)
	if (n.kind != number && n.kind != text) || err != nil || !goodFloat(n, f) {
		return protoreflect.Value{}, unexpected(n, "a number")
	}
	if k == protoreflect.FloatKind {
		return protoreflect.ValueOfFloat32(float32(f)), nil
	}
	return protoreflect.ValueOfFloat64(f), nil
}

// goodFloat refuses what ParseFloat takes and JSON's mapping does not.
func goodFloat(n *node, f float64) bool {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return n.text == "NaN" || n.text == "Infinity" || n.text == "-Infinity"
	}
	return !strings.Contains(n.text, "_")
}

func intValue(k protoreflect.Kind, n *node) (protoreflect.Value, error) {
	switch k {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		i, err := integer(n, math.MinInt32, math.MaxInt32)
		return protoreflect.ValueOfInt32(int32(i)), err
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		i, err := integer(n, math.MinInt64, math.MaxInt64)
		return protoreflect.ValueOfInt64(i), err
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		u, err := unsigned(n, math.MaxUint32)
		return protoreflect.ValueOfUint32(uint32(u)), err
	default:
		u, err := unsigned(n, math.MaxUint64)
		return protoreflect.ValueOfUint64(u), err
	}
}

func integer(n *node, low, high int64) (int64, error) {
	if n.kind != number && n.kind != text {
		return 0, unexpected(n, "an integer")
	}
	i, err := strconv.ParseInt(n.text, 10, 64)
	if err != nil {
		f, ok := whole(n.text)
		if !ok || f < -(1<<63) || f >= 1<<63 {
			return 0, unexpected(n, "an integer")
		}
		i = int64(f)
	}
	if i < low || i > high {
		return 0, located(n, fmt.Errorf("%d is out of range", i))
	}
	return i, nil
}

func unsigned(n *node, high uint64) (uint64, error) {
	if n.kind != number && n.kind != text {
		return 0, unexpected(n, "an integer")
	}
	u, err := strconv.ParseUint(n.text, 10, 64)
	if err != nil {
		f, ok := whole(n.text)
		if !ok || f < 0 || f >= 1<<64 {
			return 0, unexpected(n, "an integer that is not negative")
		}
		u = uint64(f)
	}
	if u > high {
		return 0, located(n, fmt.Errorf("%d is out of range", u))
	}
	return u, nil
}

// whole reads an integer written as a floating-point number (8e1, 80.0) or in hexadecimal.
func whole(s string) (float64, bool) {
	if h, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		u, err := strconv.ParseUint(h, 16, 63)
		return float64(u), err == nil
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && f == math.Trunc(f) && !strings.Contains(s, "_")
}

// UnknownTypeError is the error about an extension whose message type is not part of the binary.
type UnknownTypeError struct {
	Name string // as configured, if there is one
	URL  string
}

func (u *UnknownTypeError) Error() string {
	return fmt.Sprintf("didn't find a registered implementation for '%s' with type URL '%s'", u.Name, u.URL)
}

// find resolves a type URL.
func find(url string) (protoreflect.MessageType, error) {
	host, name, ok := cutLast(url, "/")
	if !ok || host == "" || name == "" {
		return nil, fmt.Errorf("@type must contain at least one / and a nonempty host; got: %s", url)
	}
	t, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		return nil, &UnknownTypeError{URL: url}
	}
	return t, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
