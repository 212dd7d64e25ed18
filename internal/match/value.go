package match

import (
	"errors"
	"fmt"
	"net/netip"

	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Value matches a value of metadata, as encoding/json decodes it (envoy.type.matcher.v3.ValueMatcher).
type Value struct {
	kind       valueKind
	text       String
	is         bool // byBool, byPresent
	start, end float64
	any        []Value // byList: its one matcher; byOr
}

type valueKind uint8

const (
	byNull valueKind = iota
	byDouble
	byDoubleRange
	byString
	byBool
	byPresent
	byList
	byOr
)

// CompileValue compiles a ValueMatcher.
func CompileValue(m *matcherv3.ValueMatcher) (Value, error) {
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.ValueMatcher_NullMatch_:
		return Value{kind: byNull}, nil
	case *matcherv3.ValueMatcher_DoubleMatch:
		if r := p.DoubleMatch.GetRange(); r != nil {
			return Value{kind: byDoubleRange, start: r.GetStart(), end: r.GetEnd()}, nil
		}
		return Value{kind: byDouble, start: p.DoubleMatch.GetExact()}, nil
	case *matcherv3.ValueMatcher_StringMatch:
		s, err := CompileString(p.StringMatch)
		if err != nil {
			return Value{}, fmt.Errorf("string_match.%w", err)
		}
		return Value{kind: byString, text: s}, nil
	case *matcherv3.ValueMatcher_BoolMatch:
		return Value{kind: byBool, is: p.BoolMatch}, nil
	case *matcherv3.ValueMatcher_PresentMatch:
		return Value{kind: byPresent, is: p.PresentMatch}, nil
	case *matcherv3.ValueMatcher_ListMatch:
		one, err := CompileValue(p.ListMatch.GetOneOf())
		if err != nil {
			return Value{}, fmt.Errorf("list_match.one_of.%w", err)
		}
		return Value{kind: byList, any: []Value{one}}, nil
	case *matcherv3.ValueMatcher_OrMatch:
		v := Value{kind: byOr}
		for i, m := range p.OrMatch.GetValueMatchers() {
			one, err := CompileValue(m)
			if err != nil {
				return v, fmt.Errorf("or_match.value_matchers[%d].%w", i, err)
			}
			v.any = append(v.any, one)
		}
		return v, nil
	}
	return Value{}, errors.New("match_pattern: is required")
}

// Match says whether v matches; there is false where metadata have no such value.
func (m *Value) Match(v any, there bool) bool {
	switch m.kind {
	case byNull:
		return there && v == nil
	case byPresent:
		return there == m.is
	case byOr:
		for i := range m.any {
			if m.any[i].Match(v, there) {
				return true
			}
		}
		return false
	}
	if !there {
		return false
	}
	switch x := v.(type) {
	case float64:
		return m.kind == byDouble && x == m.start || m.kind == byDoubleRange && m.start <= x && x < m.end
	case string:
		return m.kind == byString && m.text.Match(x)
	case bool:
		return m.kind == byBool && x == m.is
	case []any:
		return m.kind == byList && m.matchAny(x)
	}
	return false
}

func (m *Value) matchAny(list []any) bool {
	for _, v := range list {
		if m.any[0].Match(v, true) {
			return true
		}
	}
	return false
}

// Metadata matches one value of metadata (envoy.type.matcher.v3.MetadataMatcher).
type Metadata struct {
	namespace string
	path      []string
	value     Value
	invert    bool
}

// CompileMetadata compiles a MetadataMatcher.
func CompileMetadata(m *matcherv3.MetadataMatcher) (Metadata, error) {
	v, err := CompileValue(m.GetValue())
	if err != nil {
		return Metadata{}, fmt.Errorf("value.%w", err)
	}
	c := Metadata{namespace: m.GetFilter(), value: v, invert: m.GetInvert()}
	for _, p := range m.GetPath() {
		c.path = append(c.path, p.GetKey())
	}
	return c, nil
}

// CompileMetadatas compiles a list.
func CompileMetadatas(list []*matcherv3.MetadataMatcher) ([]Metadata, error) {
	var all []Metadata
	for i, m := range list {
		c, err := CompileMetadata(m)
		if err != nil {
			return nil, fmt.Errorf("[%d].%w", i, err)
		}
		all = append(all, c)
	}
	return all, nil
}

// Match says whether the value matches.
func (m *Metadata) Match(md stream.Metadata) bool {
	v, there := m.find(md)
	return m.value.Match(v, there) != m.invert
}

func (m *Metadata) find(md stream.Metadata) (any, bool) {
	ns, ok := md[m.namespace]
	if !ok || len(m.path) == 0 {
		return nil, false
	}
	v, ok := ns[m.path[0]]
	for _, key := range m.path[1:] {
		next, isMap := v.(map[string]any)
		if !isMap {
			return nil, false
		}
		v, ok = next[key]
	}
	return v, ok
}

// FilterState matches an object of the filter state (envoy.type.matcher.v3.FilterStateMatcher) by its text or as an address.
type FilterState struct {
	key    string
	text   String
	cidrs  *CIDRs // nil: by text
	invert bool
}

// CompileFilterStates compiles a list.
func CompileFilterStates(list []*matcherv3.FilterStateMatcher) ([]FilterState, error) {
	var all []FilterState
	for i, m := range list {
		c, err := CompileFilterState(m)
		if err != nil {
			return nil, fmt.Errorf("[%d].%w", i, err)
		}
		all = append(all, c)
	}
	return all, nil
}

// CompileFilterState compiles a FilterStateMatcher.
func CompileFilterState(m *matcherv3.FilterStateMatcher) (FilterState, error) {
	c := FilterState{key: m.GetKey()}
	var err error
	switch p := m.GetMatcher().(type) {
	case *matcherv3.FilterStateMatcher_StringMatch:
		if c.text, err = CompileString(p.StringMatch); err != nil {
			return c, fmt.Errorf("string_match.%w", err)
		}
	case *matcherv3.FilterStateMatcher_AddressMatch:
		c.invert = p.AddressMatch.GetInvertMatch()
		if c.cidrs, err = compileCIDRs(p.AddressMatch.GetRanges()); err != nil {
			return c, fmt.Errorf("address_match.ranges%w", err)
		}
	default:
		return c, errors.New("matcher: is required")
	}
	return c, nil
}

// Match says whether the object of the stream, or else that of its connection, matches.
func (m *FilterState) Match(s *stream.Stream) bool {
	o, ok := s.Info.State[m.key]
	if !ok && s.Info.Conn != nil {
		o, ok = s.Info.Conn.State[m.key]
	}
	if !ok {
		return false
	}
	if m.cidrs == nil {
		text, ok := o.(fmt.Stringer)
		return ok && m.text.Match(text.String())
	}
	a, ok := o.(interface{ Addr() netip.Addr })
	return ok && m.cidrs.Contains(a.Addr()) != m.invert
}
