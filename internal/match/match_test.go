package match

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// read fills m from JSON.
func read[M proto.Message](t testing.TB, text string, m M) M {
	t.Helper()
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return m
}

func TestString(t *testing.T) {
	for _, c := range []struct{ matcher, yes, no string }{
		{`{"exact":"a"}`, "a", "A aa  b"},
		{`{"exact":"a","ignore_case":true}`, "a A", "aa b"},
		{`{"prefix":"ab"}`, "ab abc", "a aab"},
		{`{"prefix":"aB","ignore_case":true}`, "Abc", "a"},
		{`{"suffix":"bc"}`, "bc abc", "abcd c"},
		{`{"suffix":"bc","ignore_case":true}`, "aBC", "c"},
		{`{"contains":"b"}`, "abc b", "ac B"},
		{`{"contains":"bc","ignore_case":true}`, "xBCx abc", "cb b"},
		{`{"safe_regex":{"regex":"a|ab"}}`, "a ab", "abc xa"},
		{`{"safe_regex":{"regex":"(?i)a.c"}}`, "ABC", "abcd"},
	} {
		m, err := CompileString(read(t, c.matcher, &matcherv3.StringMatcher{}))
		if err != nil {
			t.Fatal(err)
		}
		for s := range strings.SplitSeq(c.yes, " ") {
			if !m.Match(s) {
				t.Errorf("%s does not match %q", c.matcher, s)
			}
		}
		for s := range strings.SplitSeq(c.no, " ") {
			if m.Match(s) {
				t.Errorf("%s matches %q", c.matcher, s)
			}
		}
	}
}

func TestRefusedStrings(t *testing.T) {
	for matcher, want := range map[string]string{
		`{}`:                               "match_pattern: is required",
		`{"safe_regex":{"regex":"(?=a)"}}`: "safe_regex: invalid regex '(?=a)'",
		`{"safe_regex":{"regex":"abcdef","google_re2":{"max_program_size":2}}}`: "max_program_size",
		`{"custom":{"name":"x"}}`: "custom: didn't find a registered implementation for 'x' with type URL: ''",
	} {
		if _, err := CompileString(read(t, matcher, &matcherv3.StringMatcher{})); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", matcher, err, want)
		}
	}
}

// request makes one with headers "name: value" separated by "|".
func request(headers string) *stream.Request {
	q := &stream.Request{Method: "GET", Path: "/p?q=1", Authority: "a.test", Scheme: "http"}
	for h := range strings.SplitSeq(headers, "|") {
		if k, v, ok := strings.Cut(h, ": "); ok {
			q.Header.Add(k, v)
		}
	}
	return q
}

// TestHeader has rows that were compared with Envoy.
func TestHeader(t *testing.T) {
	for _, c := range []struct {
		matcher, headers string
		want             bool
	}{
		{`{"string_match":{"exact":"a"}}`, "x-t: a", true},
		{`{"string_match":{"exact":"a"}}`, "x-t: b|x-t: a", true},
		{`{"string_match":{"exact":"a,b"}}`, "x-t: a|x-t: b", false},
		{`{"string_match":{"exact":"a"}}`, "", false},
		{`{"string_match":{"exact":"a"},"invert_match":true}`, "", false},
		{`{"string_match":{"exact":"a"},"invert_match":true}`, "x-t: b", true},
		{`{"string_match":{"exact":"a"},"invert_match":true}`, "x-t: b|x-t: a", false},
		{`{"string_match":{"exact":"a"},"invert_match":true,"treat_missing_header_as_empty":true}`, "", true},
		{`{"string_match":{"exact":""},"treat_missing_header_as_empty":true}`, "", true},
		{`{"range_match":{"start":-10,"end":3}}`, "x-t: -10", true},
		{`{"range_match":{"start":-10,"end":3}}`, "x-t: 3", false},
		{`{"range_match":{"start":-10,"end":3}}`, "x-t: +2", true},
		{`{"range_match":{"start":-10,"end":3}}`, "x-t: 1x", false},
		{`{"range_match":{"start":-10,"end":3},"invert_match":true}`, "x-t: x", true},
		{`{"present_match":true}`, "x-t: ", true},
		{`{"present_match":true}`, "", false},
		{`{"present_match":false}`, "", true},
		{`{"present_match":true,"invert_match":true}`, "", true},
		{`{}`, "x-t: 1", true},
		{`{"exact_match":"a"}`, "x-t: a", true},
		{`{"prefix_match":"a"}`, "x-t: ab", true},
		{`{"suffix_match":"b"}`, "x-t: ab", true},
		{`{"contains_match":"b"}`, "x-t: abc", true},
		{`{"safe_regex_match":{"regex":"a.c"}}`, "x-t: abc", true},
		{`{"name":":path","string_match":{"prefix":"/p"}}`, "", true},
		{`{"name":"Host","string_match":{"exact":"a.test"}}`, "", true},
		{`{"name":":method","present_match":true}`, "", true},
	} {
		p := read(t, c.matcher, &routev3.HeaderMatcher{})
		if p.Name == "" {
			p.Name = "X-T"
		}
		m, err := CompileHeader(p)
		if err != nil {
			t.Fatal(err)
		}
		q := request(c.headers)
		if got := m.Match(q); got != c.want {
			t.Errorf("%s of %q: %v", c.matcher, c.headers, got)
		}
		if n := testing.AllocsPerRun(20, func() { m.Match(q) }); n != 0 {
			t.Errorf("%s: %v allocations", c.matcher, n)
		}
	}
}

func TestResponseStatus(t *testing.T) {
	list, err := CompileHeaders([]*routev3.HeaderMatcher{read(t, `{"name":":status","range_match":{"start":500,"end":600}}`, &routev3.HeaderMatcher{})})
	if err != nil {
		t.Fatal(err)
	}
	if !list.MatchAnyResponse(&stream.Response{Status: 503}) || list.MatchAnyResponse(&stream.Response{Status: 200}) {
		t.Error(":status is not matched")
	}
}

func TestQuery(t *testing.T) {
	for _, c := range []struct {
		matcher, path string
		want          bool
	}{
		{`{"string_match":{"exact":"1"}}`, "/?q=1&q=2", true},
		{`{"string_match":{"exact":"1"}}`, "/?q=2&q=1", false},
		{`{"string_match":{"exact":"1"}}`, "/?q=%31", false},
		{`{"string_match":{"exact":""}}`, "/?q", true},
		{`{"present_match":true}`, "/?x=1&q", true},
		{`{"present_match":false}`, "/?x=q", true},
		{`{}`, "/", false},
	} {
		p := read(t, c.matcher, &routev3.QueryParameterMatcher{})
		p.Name = "q"
		m, err := CompileQuery(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Match(c.path); got != c.want {
			t.Errorf("%s of %q: %v", c.matcher, c.path, got)
		}
	}
}

func TestCookie(t *testing.T) {
	for header, want := range map[string]string{"cookie: a=1": "1", `cookie: a="1"`: "1", "cookie: b=2; a=1": "1", "cookie: b=1|cookie: a=1": "1", "cookie: a": "-", "": "-"} {
		got, ok := CookieValue(&request(header).Header, "a")
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}

func TestMetadata(t *testing.T) {
	md := stream.Metadata{"ns": {"s": "v", "n": 2.5, "b": true, "l": []any{"x", "y"}, "m": map[string]any{"k": "deep"}, "z": nil}}
	for _, c := range []struct {
		path, value string
		want        bool
	}{
		{"s", `{"string_match":{"exact":"v"}}`, true},
		{"s", `{"bool_match":true}`, false},
		{"n", `{"double_match":{"exact":2.5}}`, true},
		{"n", `{"double_match":{"range":{"start":2.5,"end":3}}}`, true},
		{"n", `{"double_match":{"range":{"start":1,"end":2.5}}}`, false},
		{"b", `{"bool_match":true}`, true},
		{"l", `{"list_match":{"one_of":{"string_match":{"exact":"y"}}}}`, true},
		{"l", `{"list_match":{"one_of":{"string_match":{"exact":"z"}}}}`, false},
		{"m.k", `{"string_match":{"prefix":"de"}}`, true},
		{"m.x", `{"string_match":{"prefix":"de"}}`, false},
		{"s.k", `{"present_match":true}`, false},
		{"z", `{"null_match":{}}`, true},
		{"x", `{"present_match":false}`, true},
		{"s", `{"or_match":{"value_matchers":[{"bool_match":true},{"string_match":{"exact":"v"}}]}}`, true},
	} {
		p := &matcherv3.MetadataMatcher{Filter: "ns", Value: read(t, c.value, &matcherv3.ValueMatcher{})}
		for key := range strings.SplitSeq(c.path, ".") {
			p.Path = append(p.Path, &matcherv3.MetadataMatcher_PathSegment{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: key}})
		}
		for _, invert := range []bool{false, true} {
			p.Invert = invert
			m, err := CompileMetadata(p)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Match(md); got != (c.want != invert) {
				t.Errorf("%s %s invert=%v: %v", c.path, c.value, invert, got)
			}
		}
	}
}

type text string

func (t text) String() string { return string(t) }

func TestFilterState(t *testing.T) {
	list, err := CompileFilterStates([]*matcherv3.FilterStateMatcher{
		read(t, `{"key":"k","string_match":{"exact":"v"}}`, &matcherv3.FilterStateMatcher{}),
		read(t, `{"key":"ip","address_match":{"ranges":[{"address_prefix":"10.0.0.0","prefix_len":8}]}}`, &matcherv3.FilterStateMatcher{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &stream.Stream{}
	if list[0].Match(s) || list[1].Match(s) {
		t.Error("a missing object matches")
	}
	s.Info.Conn = &stream.Conn{State: stream.FilterState{"k": text("v"), "ip": netip.MustParseAddrPort("10.1.2.3:1")}}
	if !list[0].Match(s) || !list[1].Match(s) {
		t.Error("the objects of the connection do not match")
	}
}

func TestCIDRs(t *testing.T) {
	var list []*corev3.CidrRange
	for _, p := range []string{"10.0.0.0/8", "192.168.1.7/32", "fd00::/9"} {
		n := netip.MustParsePrefix(p)
		list = append(list, &corev3.CidrRange{AddressPrefix: n.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(n.Bits()))})
	}
	set, err := CompileCIDRs(list)
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "11.0.0.0": false, "192.168.1.7": true, "192.168.1.8": false, "fd12::1": true, "fe80::1": false} {
		if got := set.Contains(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
	for _, bad := range []*corev3.CidrRange{{AddressPrefix: "x"}, {AddressPrefix: "1.2.3.4", PrefixLen: wrapperspb.UInt32(33)}} {
		if _, err := CompileCIDRs([]*corev3.CidrRange{bad}); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

func TestSubstitution(t *testing.T) {
	for _, c := range []struct{ pattern, substitution, in, want string }{
		{"^/service/([^/]+)(/.*)$", `\2/instance/\1`, "/service/foo/v1/api", "/v1/api/instance/foo"},
		{"one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"},
		{"^(.*?)one(.*)$", `\1two\2`, "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"},
		{"(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"},
		{"b", `\\\0`, "abc", `a\bc`},
		{"(a)|(b)", `[\1\2]`, "ab", "[a][b]"},
		{"b(c)", `x\2`, "abcd", "abcd"},
		{"b(c)", `\0x\`, "abcd", "abcxd"},
		{"b(c)", `a\xb`, "abcd", "aad"},
	} {
		s, err := CompileSubstitution(&matcherv3.RegexMatchAndSubstitute{Pattern: &matcherv3.RegexMatcher{Regex: c.pattern}, Substitution: c.substitution})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(s.Append(nil, c.in)); got != c.want {
			t.Errorf("%s -> %s of %q: %q, want %q", c.pattern, c.substitution, c.in, got, c.want)
		}
	}
}

func config(t testing.TB, m proto.Message) *xdscorev3.TypedExtensionConfig {
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return &xdscorev3.TypedExtensionConfig{Name: "n", TypedConfig: a}
}

func leaf(name string) *xdsmatcherv3.Matcher_OnMatch {
	return &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{Action: &xdscorev3.TypedExtensionConfig{Name: name}}}
}

func compileNames(t testing.TB, m *xdsmatcherv3.Matcher) (*Tree[string], error) {
	t.Helper()
	return CompileTree(m, TreeEnv[string]{Action: func(c *xdscorev3.TypedExtensionConfig) (string, error) { return c.GetName(), nil }})
}

type (
	list      = xdsmatcherv3.Matcher_MatcherList
	field     = xdsmatcherv3.Matcher_MatcherList_FieldMatcher
	pred      = xdsmatcherv3.Matcher_MatcherList_Predicate
	singly    = xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate
	treeProto = xdsmatcherv3.Matcher_MatcherTree
)

func headerIs(t testing.TB, name, value string) *pred {
	return &pred{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{SinglePredicate: &singly{
		Input: config(t, &matcherv3.HttpRequestHeaderMatchInput{HeaderName: name}),
		Matcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: &xdsmatcherv3.StringMatcher{
			MatchPattern: &xdsmatcherv3.StringMatcher_Exact{Exact: value},
		}},
	}}}
}

func TestTreeList(t *testing.T) {
	both := &xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList{Predicate: []*pred{headerIs(t, "a", "1"), headerIs(t, "b", "1")}}
	tree, err := compileNames(t, &xdsmatcherv3.Matcher{
		MatcherType: &xdsmatcherv3.Matcher_MatcherList_{MatcherList: &list{Matchers: []*field{
			{Predicate: &pred{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_AndMatcher{AndMatcher: both}}, OnMatch: leaf("and")},
			{Predicate: &pred{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_OrMatcher{OrMatcher: both}}, OnMatch: leaf("or")},
			{Predicate: &pred{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_NotMatcher{NotMatcher: headerIs(t, "c", "1")}}, OnMatch: leaf("not")},
		}}},
		OnNoMatch: leaf("none"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for headers, want := range map[string]string{"a: 1|b: 1": "and", "a: 1": "or", "": "not", "c: 1": "none"} {
		s := &stream.Stream{Request: *request(headers)}
		if got, ok := tree.Match(Data{Stream: s}); !ok || got != want {
			t.Errorf("%q: %q, want %q", headers, got, want)
		}
		if n := testing.AllocsPerRun(20, func() { tree.Match(Data{Stream: s}) }); n != 0 {
			t.Errorf("%q: %v allocations", headers, n)
		}
	}
}

func TestTreeMaps(t *testing.T) {
	m := map[string]*xdsmatcherv3.Matcher_OnMatch{"/a": leaf("a"), "/a/b": leaf("ab")}
	for kind, c := range map[string]struct {
		tree *treeProto
		want map[string]string
	}{
		"exact":  {&treeProto{TreeType: &xdsmatcherv3.Matcher_MatcherTree_ExactMatchMap{ExactMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: m}}}, map[string]string{"/a": "a", "/a/b": "ab", "/a/": ""}},
		"prefix": {&treeProto{TreeType: &xdsmatcherv3.Matcher_MatcherTree_PrefixMatchMap{PrefixMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: m}}}, map[string]string{"/a": "a", "/a/b/c": "ab", "/a/c": "a", "/": ""}},
	} {
		c.tree.Input = config(t, &matcherv3.HttpRequestHeaderMatchInput{HeaderName: ":path"})
		tree, err := compileNames(t, &xdsmatcherv3.Matcher{MatcherType: &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: c.tree}})
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range c.want {
			if got, _ := tree.Match(Data{Stream: &stream.Stream{Request: stream.Request{Path: path}}}); got != want {
				t.Errorf("%s %q: %q, want %q", kind, path, got, want)
			}
		}
	}
}

func TestTreeAddresses(t *testing.T) {
	cidr := func(p string) *xdscorev3.CidrRange {
		n := netip.MustParsePrefix(p)
		return &xdscorev3.CidrRange{AddressPrefix: n.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(n.Bits()))}
	}
	ranges := &xdsmatcherv3.IPMatcher{RangeMatchers: []*xdsmatcherv3.IPMatcher_IPRangeMatcher{
		{Ranges: []*xdscorev3.CidrRange{cidr("10.0.0.0/8")}, OnMatch: leaf("wide")}, {Ranges: []*xdscorev3.CidrRange{cidr("10.1.0.0/16")}, OnMatch: leaf("narrow")},
	}}
	tree, err := compileNames(t, &xdsmatcherv3.Matcher{MatcherType: &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: &treeProto{
		Input: config(t, &networkv3.SourceIPInput{}), TreeType: &xdsmatcherv3.Matcher_MatcherTree_CustomMatch{CustomMatch: config(t, ranges)},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]string{"10.1.2.3": "narrow", "10.2.2.3": "wide", "11.0.0.1": ""} {
		c := &stream.Conn{}
		c.Remote.AddrPort = netip.MustParseAddrPort(a + ":1")
		if got, _ := tree.Match(Data{Conn: c}); got != want {
			t.Errorf("%s: %q, want %q", a, got, want)
		}
	}
}

func TestCustomPredicate(t *testing.T) {
	p := &pred{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{SinglePredicate: &singly{
		Input: config(t, &networkv3.DestinationIPInput{}),
		Matcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_CustomMatch{CustomMatch: config(t, &ipv3.Ip{
			StatPrefix: "x",
			CidrRanges: []*corev3.CidrRange{{AddressPrefix: "127.0.0.0", PrefixLen: wrapperspb.UInt32(8)}},
		})},
	}}}
	f, err := inputs{}.predicate(p)
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]bool{"127.0.0.9:1": true, "128.0.0.1:1": false} {
		c := &stream.Conn{}
		c.Local.AddrPort = netip.MustParseAddrPort(a)
		if f(Data{Conn: c}) != want {
			t.Errorf("%s: not %v", a, want)
		}
	}
}

func TestRefusedTrees(t *testing.T) {
	keep := leaf("x")
	keep.KeepMatching = true
	for want, m := range map[string]*xdsmatcherv3.Matcher{
		"on_no_match.keep_matching: is not supported": {OnNoMatch: keep},
		"matcher_tree.input: didn't find a registered implementation for 'n' with type URL: 'type.googleapis.com/xds.core.v3.CidrRange'": {
			MatcherType: &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: &treeProto{Input: config(t, &xdscorev3.CidrRange{})}},
		},
	} {
		if _, err := compileNames(t, m); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func FuzzSubstitution(f *testing.F) {
	f.Add("a(b)", `\1\0`, "ab")
	f.Add("(", `\`, "")
	f.Fuzz(func(t *testing.T, pattern, substitution, in string) {
		s, err := CompileSubstitution(&matcherv3.RegexMatchAndSubstitute{Pattern: &matcherv3.RegexMatcher{Regex: pattern}, Substitution: substitution})
		if err == nil && len(in) < 1000 {
			_ = fmt.Sprint(len(s.Append(nil, in)))
		}
	})
}
