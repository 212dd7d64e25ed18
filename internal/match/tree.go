package match

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"

	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Data is what the inputs of a Tree read. What is not known yet is nil or empty. It goes by value: behind a function a pointer would escape.
type Data struct {
	Conn              *stream.Conn
	Stream            *stream.Stream
	TransportProtocol string // "tls", "raw_buffer"
	Draw              uint64 // for runtime_fraction
}

// Input reads one value; false: it is not there, and nothing matches.
type Input func(d Data) (string, bool)

// TreeEnv is what CompileTree may use.
type TreeEnv[A any] struct {
	// Action compiles what stands at a leaf.
	Action func(c *xdscorev3.TypedExtensionConfig) (A, error)
	// Input compiles inputs beyond those of this package; nil: there are none.
	Input   func(c *xdscorev3.TypedExtensionConfig) (Input, error)
	Runtime *runtime.Loader
}

// Tree is the generic matcher (xds.type.matcher.v3.Matcher): it leads to an action.
type Tree[A any] struct {
	list      []entry[A] // in order
	input     Input      // of the maps below; nil: it is a list
	exact     map[string]*result[A]
	prefix    map[string]*result[A]
	lengths   []int // of the keys of prefix, longest first
	ranges    []rangeEntry[A]
	otherwise *result[A]
}

// result is an action or another tree.
type result[A any] struct {
	action A
	tree   *Tree[A]
}

type entry[A any] struct {
	predicate predicate
	then      *result[A]
}

// rangeEntry is a range of addresses of an IPMatcher; those with the longest prefix come first.
type rangeEntry[A any] struct {
	bits int
	set  *CIDRs
	then *result[A]
}

// predicate says yes or no.
type predicate func(d Data) bool

// CompileTree compiles a matcher. Errors begin with the path of the field.
func CompileTree[A any](m *xdsmatcherv3.Matcher, env TreeEnv[A]) (*Tree[A], error) {
	t := &Tree[A]{}
	var err error
	switch p := m.GetMatcherType().(type) {
	case *xdsmatcherv3.Matcher_MatcherList_:
		err = t.compileList(p.MatcherList, env)
	case *xdsmatcherv3.Matcher_MatcherTree_:
		err = t.compileMap(p.MatcherTree, env)
	}
	if err != nil {
		return nil, err
	}
	if o := m.GetOnNoMatch(); o != nil {
		if t.otherwise, err = compileResult(o, env); err != nil {
			return nil, fmt.Errorf("on_no_match.%w", err)
		}
	}
	return t, nil
}

// Match returns the action that the data lead to. It does not allocate, other than what an Input does.
func (t *Tree[A]) Match(d Data) (action A, ok bool) {
	if t.input == nil {
		action, ok = t.matchList(d)
	} else if v, there := t.input(d); there {
		action, ok = t.matchMap(v, d)
	}
	if !ok && t.otherwise != nil {
		return t.otherwise.get(d)
	}
	return action, ok
}

func (t *Tree[A]) matchList(d Data) (none A, ok bool) {
	for i := range t.list {
		if t.list[i].predicate(d) {
			if a, ok := t.list[i].then.get(d); ok {
				return a, true
			}
		}
	}
	return none, false
}

func (t *Tree[A]) matchMap(v string, d Data) (none A, ok bool) {
	if r := t.exact[v]; r != nil {
		return r.get(d)
	}
	for _, n := range t.lengths {
		if n <= len(v) {
			if r := t.prefix[v[:n]]; r != nil {
				if a, ok := r.get(d); ok {
					return a, true
				}
			}
		}
	}
	for i := range t.ranges {
		if addr, ok := parseAddr(v); ok && t.ranges[i].set.Contains(addr) {
			if a, ok := t.ranges[i].then.get(d); ok {
				return a, true
			}
		}
	}
	return none, false
}

func (r *result[A]) get(d Data) (A, bool) {
	if r.tree != nil {
		return r.tree.Match(d)
	}
	return r.action, true
}

func compileResult[A any](m *xdsmatcherv3.Matcher_OnMatch, env TreeEnv[A]) (*result[A], error) {
	if m.GetKeepMatching() {
		return nil, errors.New("keep_matching: is not supported")
	}
	r := &result[A]{}
	var err error
	switch o := m.GetOnMatch().(type) {
	case *xdsmatcherv3.Matcher_OnMatch_Matcher:
		if r.tree, err = CompileTree(o.Matcher, env); err != nil {
			return nil, fmt.Errorf("matcher.%w", err)
		}
	case *xdsmatcherv3.Matcher_OnMatch_Action:
		if r.action, err = env.Action(o.Action); err != nil {
			return nil, fmt.Errorf("action: %w", err)
		}
	default:
		return nil, errors.New("on_match: is required")
	}
	return r, nil
}

func (t *Tree[A]) compileList(p *xdsmatcherv3.Matcher_MatcherList, env TreeEnv[A]) error {
	c := inputs{env.Input, env.Runtime}
	for i, m := range p.GetMatchers() {
		e := entry[A]{}
		var err error
		if e.predicate, err = c.predicate(m.GetPredicate()); err != nil {
			return fmt.Errorf("matcher_list.matchers[%d].predicate.%w", i, err)
		}
		if e.then, err = compileResult(m.GetOnMatch(), env); err != nil {
			return fmt.Errorf("matcher_list.matchers[%d].on_match.%w", i, err)
		}
		t.list = append(t.list, e)
	}
	return nil
}

func (t *Tree[A]) compileMap(p *xdsmatcherv3.Matcher_MatcherTree, env TreeEnv[A]) (err error) {
	c := inputs{env.Input, env.Runtime}
	if t.input, err = c.input(p.GetInput()); err != nil {
		return fmt.Errorf("matcher_tree.input: %w", err)
	}
	switch m := p.GetTreeType().(type) {
	case *xdsmatcherv3.Matcher_MatcherTree_ExactMatchMap:
		t.exact, err = compileEntries("matcher_tree.exact_match_map", m.ExactMatchMap, env)
	case *xdsmatcherv3.Matcher_MatcherTree_PrefixMatchMap:
		t.prefix, err = compileEntries("matcher_tree.prefix_match_map", m.PrefixMatchMap, env)
		for key := range t.prefix {
			t.lengths = append(t.lengths, len(key))
		}
		slices.SortFunc(t.lengths, func(a, b int) int { return b - a })
		t.lengths = slices.Compact(t.lengths)
	case *xdsmatcherv3.Matcher_MatcherTree_CustomMatch:
		err = t.compileRanges(m.CustomMatch, env)
	default:
		err = errors.New("matcher_tree.tree_type: is required")
	}
	return err
}

func compileEntries[A any](field string, m *xdsmatcherv3.Matcher_MatcherTree_MatchMap, env TreeEnv[A]) (map[string]*result[A], error) {
	all := map[string]*result[A]{}
	for key, o := range m.GetMap() {
		r, err := compileResult(o, env)
		if err != nil {
			return nil, fmt.Errorf("%s[%q].%w", field, key, err)
		}
		all[strings.Clone(key)] = r
	}
	return all, nil
}

// compileRanges compiles an IPMatcher. Ranges of one length keep their order; an exclusive one ends the search, which the
// order gives already unless its own tree has no answer.
func (t *Tree[A]) compileRanges(c *xdscorev3.TypedExtensionConfig, env TreeEnv[A]) error {
	p := &xdsmatcherv3.IPMatcher{}
	if err := unpack(c, p); err != nil {
		return fmt.Errorf("matcher_tree.custom_match: %w", err)
	}
	for i, m := range p.GetRangeMatchers() {
		then, err := compileResult(m.GetOnMatch(), env)
		if err != nil {
			return fmt.Errorf("matcher_tree.custom_match.range_matchers[%d].on_match.%w", i, err)
		}
		if m.GetExclusive() {
			return fmt.Errorf("matcher_tree.custom_match.range_matchers[%d].exclusive: is not supported", i)
		}
		for j, r := range m.GetRanges() {
			set, err := CompileCIDRs([]*xdscorev3.CidrRange{r})
			if err != nil {
				return fmt.Errorf("matcher_tree.custom_match.range_matchers[%d].ranges[%d]%w", i, j, err)
			}
			t.ranges = append(t.ranges, rangeEntry[A]{int(r.GetPrefixLen().GetValue()), set, then})
		}
	}
	slices.SortStableFunc(t.ranges, func(a, b rangeEntry[A]) int { return b.bits - a.bits })
	return nil
}
