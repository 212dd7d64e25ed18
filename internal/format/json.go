package format

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// node is a value of a JSON template.
type node struct {
	literal string // JSON; where all else is empty
	op      *operator
	pieces  []piece // a string with operators in it
	fields  []field // an object
	items   []*node // a list
	kind    nodeKind
	omit    bool // leave out what has no value
}

type nodeKind uint8

const (
	isLiteral nodeKind = iota
	isNull
	isOperator
	isString
	isObject
	isList
)

// field has its name as JSON, with the colon.
type field struct {
	name  string
	value *node
}

// compileObject compiles a JSON object. Its fields come in the order of their names, whatever sort_properties says, as in Envoy.
func compileObject(p *structpb.Struct, o Options) (*node, error) {
	n := &node{kind: isObject, omit: o.OmitEmpty}
	for _, name := range slices.Sorted(maps.Keys(p.GetFields())) {
		v, err := compileValue(p.GetFields()[name], o)
		if err != nil {
			return nil, err
		}
		n.fields = append(n.fields, field{string(appendQuoted(nil, name)) + ":", v})
	}
	return n, nil
}

func compileValue(p *structpb.Value, o Options) (*node, error) {
	switch v := p.GetKind().(type) {
	case *structpb.Value_StructValue:
		return compileObject(v.StructValue, o)
	case *structpb.Value_ListValue:
		n := &node{kind: isList, omit: o.OmitEmpty}
		for _, p := range v.ListValue.GetValues() {
			item, err := compileValue(p, o)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
		}
		return n, nil
	case *structpb.Value_StringValue:
		return compileString(v.StringValue, o)
	case *structpb.Value_NumberValue:
		return &node{literal: string(appendNumber(nil, v.NumberValue))}, nil
	case *structpb.Value_BoolValue:
		return &node{literal: strconv.FormatBool(v.BoolValue)}, nil
	case *structpb.Value_NullValue:
		return &node{kind: isNull, omit: o.OmitEmpty}, nil
	}
	return nil, errors.New("a JSON format has a value of no kind")
}

func compileString(text string, o Options) (*node, error) {
	pieces, err := parse(text, o)
	switch {
	case err != nil:
		return nil, err
	case len(pieces) == 0:
		return &node{literal: `""`}, nil
	case len(pieces) > 1:
		return &node{kind: isString, pieces: pieces}, nil
	case pieces[0].op != nil:
		return &node{kind: isOperator, op: pieces[0].op, omit: o.OmitEmpty}, nil
	}
	return &node{literal: string(appendQuoted(nil, pieces[0].literal))}, nil
}

// append appends the value; false: there is none and it is to be left out.
func (n *node) append(b []byte, s *stream.Stream, missing string) ([]byte, bool) {
	switch n.kind {
	case isObject:
		return n.appendObject(b, s, missing)
	case isList:
		return n.appendList(b, s, missing), true
	case isString:
		from := len(b)
		return quoteTail(appendPieces(b, s, n.pieces, missing), from), true
	case isNull:
		return append(b, "null"...), !n.omit
	case isOperator:
		from := len(b)
		b, ok := n.op.appendJSON(b, s)
		if !ok {
			return append(b[:from], "null"...), !n.omit
		}
		return b, true
	}
	return append(b, n.literal...), true
}

// appendObject appends the fields that there are; an empty object is no value where such are left out.
func (n *node) appendObject(b []byte, s *stream.Stream, missing string) ([]byte, bool) {
	b = append(b, '{')
	first := true
	for i := range n.fields {
		from := len(b)
		var ok bool
		if !first {
			b = append(b, ',')
		}
		b = append(b, n.fields[i].name...)
		if b, ok = n.fields[i].value.append(b, s, missing); !ok {
			b = b[:from]
			continue
		}
		first = false
	}
	return append(b, '}'), !first || !n.omit
}

func (n *node) appendList(b []byte, s *stream.Stream, missing string) []byte {
	b = append(b, '[')
	first := true
	for _, item := range n.items {
		from := len(b)
		var ok bool
		if !first {
			b = append(b, ',')
		}
		if b, ok = item.append(b, s, missing); !ok {
			b = b[:from]
			continue
		}
		first = false
	}
	return append(b, ']')
}

// appendValue appends what encoding/json would decode, with the keys of objects in order.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return appendQuoted(b, v)
	case float64:
		return appendNumber(b, v)
	case bool:
		return strconv.AppendBool(b, v)
	case map[string]any:
		b = append(b, '{')
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(append(appendQuoted(b, k), ':'), v[k])
		}
		return append(b, '}')
	case []any:
		b = append(b, '[')
		for i, item := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, item)
		}
		return append(b, ']')
	}
	return append(b, "null"...)
}

// appendNumber appends the shorter one of the two shortest notations that give n back (1e+05, but 12345), as C++ to_chars does.
func appendNumber(b []byte, n float64) []byte {
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return append(b, "null"...)
	}
	var fixed, scientific [400]byte
	precision := -1
	if math.Abs(n) >= 1<<53 {
		precision = 0 // all digits of a whole number
	}
	f := strconv.AppendFloat(fixed[:0], n, 'f', precision, 64)
	e := strconv.AppendFloat(scientific[:0], n, 'e', -1, 64)
	if len(e) < len(f) {
		f = e
	}
	return append(b, f...)
}

func appendQuoted(b []byte, s string) []byte {
	from := len(b)
	return quoteTail(append(b, s...), from)
}

const hexDigits = "0123456789abcdef"

// quoteTail makes a JSON string of b[from:], in place: nothing is allocated beyond what b grows by. Text that is no UTF-8 has all
// its bytes that are no plain ASCII as \u00xx, as in Envoy.
func quoteTail(b []byte, from int) []byte {
	valid := utf8.Valid(b[from:])
	extra := 2
	for _, c := range b[from:] {
		extra += escapedLen(c, valid) - 1
	}
	n := len(b)
	for range extra {
		b = append(b, 0)
	}
	at := len(b) - 1
	b[at] = '"'
	for i := n - 1; i >= from; i-- {
		c := b[i]
		at -= escapedLen(c, valid)
		escape(b[at:], c, valid)
	}
	b[from] = '"'
	return b
}

// escapedLen is how long c is in a JSON string.
func escapedLen(c byte, valid bool) int {
	switch {
	case c >= ' ' && c != '"' && c != '\\' && (valid || c < 0x80):
		return 1
	case valid && shortEscape(c) != 0:
		return 2
	}
	return 6
}

func shortEscape(c byte) byte {
	switch c {
	case '"', '\\':
		return c
	case '\b':
		return 'b'
	case '\f':
		return 'f'
	case '\n':
		return 'n'
	case '\r':
		return 'r'
	case '\t':
		return 't'
	}
	return 0
}

func escape(b []byte, c byte, valid bool) {
	switch escapedLen(c, valid) {
	case 1:
		b[0] = c
	case 2:
		b[0], b[1] = '\\', shortEscape(c)
	default:
		copy(b, `\u00`)
		b[4], b[5] = hexDigits[c>>4], hexDigits[c&15]
	}
}
