package hashpolicy

import (
	"net/netip"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// read makes a list of JSON in which single quotes stand for double ones.
func read(t *testing.T, policies ...string) (List, error) {
	t.Helper()
	var l []*routev3.RouteAction_HashPolicy
	for _, text := range policies {
		p := &routev3.RouteAction_HashPolicy{}
		if err := protojson.Unmarshal([]byte(strings.ReplaceAll(text, "'", `"`)), p); err != nil {
			t.Fatal(err)
		}
		l = append(l, p)
	}
	return Compile(l)
}

// object is a piece of filter state that has a hash.
type object uint64

func (o object) Hash() uint64   { return uint64(o) }
func (o object) String() string { return "object" }

// TestSources asks what takes part in a hash: the same request, and one that differs in one thing.
func TestSources(t *testing.T) {
	begin := func() *stream.Stream {
		s := &stream.Stream{}
		s.Request.Path, s.Request.Authority, s.Request.Method = "/p?q=1&r=2", "host", "GET"
		s.Request.Header.Add("x-a", "1")
		s.Request.Header.Add("cookie", "c=1; d=2")
		s.Info.Conn = &stream.Conn{Remote: stream.Address{AddrPort: netip.MustParseAddrPort("10.0.0.1:1000")}}
		return s
	}
	for name, c := range map[string]struct {
		policy string
		change func(s *stream.Stream)
		has    bool
		differ bool
	}{
		"header":                 {"{'header':{'header_name':'X-A'}}", func(s *stream.Stream) { s.Request.Header.Set("x-a", "2") }, true, true},
		"header, rewritten":      {"{'header':{'header_name':'x-a','regex_rewrite':{'pattern':{'regex':'[12]'},'substitution':'n'}}}", func(s *stream.Stream) { s.Request.Header.Set("x-a", "2") }, true, false},
		"pseudo header":          {"{'header':{'header_name':':path'}}", func(s *stream.Stream) { s.Request.Path = "/" }, true, true},
		"no header":              {"{'header':{'header_name':'x-b'}}", nil, false, false},
		"cookie":                 {"{'cookie':{'name':'c'}}", func(s *stream.Stream) { s.Request.Header.Set("cookie", "c=2") }, true, true},
		"another cookie":         {"{'cookie':{'name':'c'}}", func(s *stream.Stream) { s.Request.Header.Set("cookie", "c=1; d=3") }, true, false},
		"no cookie":              {"{'cookie':{'name':'e'}}", nil, false, false},
		"source address":         {"{'connection_properties':{'source_ip':true}}", func(s *stream.Stream) { s.Info.Conn.Remote.AddrPort = netip.MustParseAddrPort("10.0.0.2:1000") }, true, true},
		"source port":            {"{'connection_properties':{'source_ip':true}}", func(s *stream.Stream) { s.Info.Conn.Remote.AddrPort = netip.MustParseAddrPort("10.0.0.1:1001") }, true, false},
		"no property":            {"{'connection_properties':{}}", nil, false, false},
		"query parameter":        {"{'query_parameter':{'name':'q'}}", func(s *stream.Stream) { s.Request.Path = "/p?q=2" }, true, true},
		"another query":          {"{'query_parameter':{'name':'q'}}", func(s *stream.Stream) { s.Request.Path = "/x?q=1&r=3" }, true, false},
		"state that has no hash": {"{'filter_state':{'key':'k'}}", nil, false, false},
	} {
		l, err := read(t, c.policy)
		if err != nil {
			t.Fatal(err)
		}
		a, ok, set := l.Hash(begin(), nil)
		if ok != c.has || len(set) != 0 {
			t.Errorf("%s: has %v, cookies %v", name, ok, set)
		}
		if c.change == nil {
			continue
		}
		s := begin()
		c.change(s)
		if b, _, _ := l.Hash(s, nil); (a != b) != c.differ {
			t.Errorf("%s: %x and %x", name, a, b)
		}
	}
}

func TestState(t *testing.T) {
	l, err := read(t, "{'filter_state':{'key':'k'}}")
	if err != nil {
		t.Fatal(err)
	}
	s := &stream.Stream{}
	s.Info.State = stream.FilterState{"k": object(7)}
	if h, ok, _ := l.Hash(s, nil); h != 7 || !ok {
		t.Errorf("%d, %v", h, ok)
	}
}

// TestJoined shows that policies are joined in their order, until one is terminal and has something to say.
func TestJoined(t *testing.T) {
	const a, b = "{'header':{'header_name':'a'}}", "{'header':{'header_name':'b'}}"
	hash := func(headers string, policies ...string) uint64 {
		l, err := read(t, policies...)
		if err != nil {
			t.Fatal(err)
		}
		s := &stream.Stream{}
		for h := range strings.FieldsSeq(headers) {
			s.Request.Header.Add(h, "1"+h)
		}
		h, _, _ := l.Hash(s, nil)
		return h
	}
	terminal := "{'header':{'header_name':'a'},'terminal':true}"
	if hash("a b", a, b) == hash("a b", b, a) {
		t.Error("the order does not matter")
	}
	if hash("a b", terminal, b) != hash("a", a) || hash("b", terminal, b) != hash("b", b) {
		t.Error("a terminal policy ends the list if it has something to say, and only then")
	}
}

func TestErrors(t *testing.T) {
	for policy, want := range map[string]string{
		"{}": "[0].policy_specifier: is required",
		"{'header':{'header_name':'a','regex_rewrite':{'pattern':{'regex':'('}}}}": "[0].header.regex_rewrite.pattern: ",
	} {
		if _, err := read(t, policy); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", policy, err, want)
		}
	}
}
