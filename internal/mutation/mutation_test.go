package mutation

import (
	"fmt"
	"strings"
	"testing"

	mutationrulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &corev3.HeaderValueOption{}, &corev3.HeaderValue{}, &mutationrulesv3.HeaderMutation{})
}

func newStream() *stream.Stream {
	s := &stream.Stream{}
	s.Info.Conn = &stream.Conn{}
	s.Info.Metadata = stream.Metadata{"ns": {"s": "text", "nl": "a\r\nb"}}
	s.Info.State = stream.FilterState{"k1": "state"}
	s.Request.Path = "/p"
	s.Request.Header.Add("x-a", "old")
	s.Request.Header.Add("x-a", "old2")
	return s
}

func show(h *header.Map) string {
	var lines []string
	for _, f := range h.All() {
		lines = append(lines, f.Name+"="+f.Value)
	}
	return strings.Join(lines, " ")
}

func opt(key, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: key, Value: value}}
}

func with(o *corev3.HeaderValueOption, change func(o *corev3.HeaderValueOption)) *corev3.HeaderValueOption {
	change(o)
	return o
}

const (
	always     = corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
	ifAbsent   = corev3.HeaderValueOption_ADD_IF_ABSENT
	overwrite  = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
	onlyExists = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS
)

func act(o *corev3.HeaderValueOption, a corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	o.AppendAction = a
	return o
}

// The expectations are what Envoy 1.40 sent upstream.
func TestAppendActions(t *testing.T) {
	for _, c := range []struct {
		action corev3.HeaderValueOption_HeaderAppendAction
		value  string
		keep   bool
		want   string
	}{
		{always, "v", false, "x-a=old x-a=old2 x-a=v"},
		{always, "", false, "x-a=old x-a=old2"},
		{always, "", true, "x-a=old x-a=old2 x-a="},
		{always, "%REQ(x-none)%", false, "x-a=old x-a=old2"},
		{always, "%REQ(x-none)%", true, "x-a=old x-a=old2 x-a="},
		{ifAbsent, "v", true, "x-a=old x-a=old2"},
		{overwrite, "v", false, "x-a=v"},
		{overwrite, "", false, "x-a=old x-a=old2"},
		{overwrite, "%REQ(x-none)%", true, "x-a="},
		{onlyExists, "v", false, "x-a=v"},
		{onlyExists, "", false, "x-a=old x-a=old2"},
		{onlyExists, "", true, "x-a="},
	} {
		t.Run(fmt.Sprint(c.action, c.value, c.keep), func(t *testing.T) {
			o := act(opt("X-A", c.value), c.action)
			o.KeepEmptyValue = c.keep
			if got := apply(t, []*corev3.HeaderValueOption{o}, nil); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func apply(t *testing.T, add []*corev3.HeaderValueOption, remove []string) string {
	t.Helper()
	l, err := Compile(add, remove)
	if err != nil {
		t.Fatal(err)
	}
	s := newStream()
	l.Apply(&s.Request.Header, s)
	return show(&s.Request.Header)
}

func TestApply(t *testing.T) {
	for _, c := range []struct {
		name   string
		add    []*corev3.HeaderValueOption
		remove []string
		want   string
	}{
		{"nothing", nil, nil, "x-a=old x-a=old2"},
		{"append: false", []*corev3.HeaderValueOption{with(opt("x-a", "v"), func(o *corev3.HeaderValueOption) { o.Append = wrapperspb.Bool(false) })}, nil, "x-a=v"},
		{"append: true", []*corev3.HeaderValueOption{with(opt("x-a", "v"), func(o *corev3.HeaderValueOption) { o.Append = wrapperspb.Bool(true) })}, nil, "x-a=old x-a=old2 x-a=v"},
		{"values are found before anything changes", []*corev3.HeaderValueOption{opt("x-z", "%REQ(x-y)%"), opt("x-y", "1"), opt("x-q", "%REQ(x-y)%")}, nil, "x-a=old x-a=old2 x-y=1"},
		{"overwritten before added", []*corev3.HeaderValueOption{act(opt("x-a", "%REQ(x-a)%n"), overwrite), opt("x-a", "m"), act(opt("x-a", "p"), overwrite)}, nil, "x-a=p x-a=m"},
		{"absent twice", []*corev3.HeaderValueOption{act(opt("x-n", "1"), ifAbsent), act(opt("x-n", "2"), ifAbsent)}, nil, "x-a=old x-a=old2 x-n=1 x-n=2"},
		{"exists not", []*corev3.HeaderValueOption{act(opt("x-n", "1"), onlyExists)}, nil, "x-a=old x-a=old2"},
		{"removed first", []*corev3.HeaderValueOption{act(opt("x-a", "new"), ifAbsent)}, []string{"X-A"}, "x-a=new"},
		{"joined", []*corev3.HeaderValueOption{opt("user-agent", "a"), opt("User-Agent", "b"), opt("x-custom", "a"), opt("x-custom", "b")}, nil, "x-a=old x-a=old2 user-agent=a,b x-custom=a x-custom=b"},
		{"text and operators", []*corev3.HeaderValueOption{opt("x-t", "a %RESPONSE_CODE% 100%%")}, nil, "x-a=old x-a=old2 x-t=a 0 100%"},
		{"operators of old", []*corev3.HeaderValueOption{opt("x-m", `%DYNAMIC_METADATA(["ns", "s"])%-%PER_REQUEST_STATE(k1)%`)}, nil, "x-a=old x-a=old2 x-m=text-state"},
		{"a value with a line break", []*corev3.HeaderValueOption{opt("x-m", "%DYNAMIC_METADATA(ns:nl)%")}, nil, "x-a=old x-a=old2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := apply(t, c.add, c.remove); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestResponsesJoinOtherHeaders(t *testing.T) {
	l, err := Compile([]*corev3.HeaderValueOption{opt("user-agent", "a"), opt("user-agent", "b"), opt("vary", "a"), opt("vary", "b")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newStream()
	l.Apply(&s.Response.Header, s)
	if got := show(&s.Response.Header); got != "user-agent=a user-agent=b vary=a,b" {
		t.Error(got)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		add    *corev3.HeaderValueOption
		remove string
		want   string
	}{
		{opt(":path", "v"), "", "headers_to_add[0].header.key: :-prefixed or host headers may not be modified"},
		{opt("Host", "v"), "", "headers_to_add[0].header.key: :-prefixed or host headers may not be modified"},
		{opt("x y", "v"), "", `headers_to_add[0].header.key: "x y" is not a header name`},
		{opt("", "v"), "", `headers_to_add[0].header.key: "" is not a header name`},
		{opt("x", "%NOPE%"), "", "headers_to_add[0].header.value: Not supported field in StreamInfo: NOPE"},
		{opt("x", "100%"), "", "headers_to_add[0].header.value: Incorrect configuration: 100%. Couldn't find valid command at position 3"},
		{with(act(opt("x", "v"), onlyExists), func(o *corev3.HeaderValueOption) { o.Append = wrapperspb.Bool(true) }), "", "headers_to_add[0].append_action: Both append and append_action are set and it's not allowed"},
		{nil, ":path", "headers_to_remove[0]: :-prefixed or host headers may not be removed"},
		{nil, "HOST", "headers_to_remove[0]: :-prefixed or host headers may not be removed"},
	} {
		var err error
		if c.add != nil {
			_, err = Compile([]*corev3.HeaderValueOption{c.add}, nil)
		} else {
			_, err = Compile(nil, []string{c.remove})
		}
		if err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestNilChangesNothing(t *testing.T) {
	s := newStream()
	l, err := Compile(nil, nil)
	l.Apply(&s.Request.Header, s)
	if got := show(&s.Request.Header); err != nil || l != nil || got != "x-a=old x-a=old2" {
		t.Error(l, err, got)
	}
}

func TestMutations(t *testing.T) {
	appending := func(o *corev3.HeaderValueOption) *mutationrulesv3.HeaderMutation {
		return &mutationrulesv3.HeaderMutation{Action: &mutationrulesv3.HeaderMutation_Append{Append: o}}
	}
	l, err := CompileMutations([]*mutationrulesv3.HeaderMutation{
		appending(opt("x-b", "%REQ(x-a)%")),
		{Action: &mutationrulesv3.HeaderMutation_Remove{Remove: "X-A"}},
		appending(opt("x-c", "%REQ(x-a)%")),
		appending(opt("y-1", "1")), appending(opt("y-2", "1")),
		{Action: &mutationrulesv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &mutationrulesv3.HeaderMutation_RemoveOnMatch{
			KeyMatcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "y-"}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := newStream()
	l.Apply(&s.Request.Header, s)
	if got := show(&s.Request.Header); got != "x-b=old" {
		t.Error(got)
	}
	for want, m := range map[string]*mutationrulesv3.HeaderMutation{
		"[0].action: must be one of remove, append and remove_on_match":         {},
		"[0].remove: :-prefixed or host headers may not be removed":             {Action: &mutationrulesv3.HeaderMutation_Remove{Remove: ":path"}},
		"[0].append.header.key: :-prefixed or host headers may not be modified": appending(act(opt(":path", "/"), overwrite)),
		"[0].append.header.value: Not supported field in StreamInfo: NOPE":      appending(opt("x", "%NOPE%")),
	} {
		if _, err := CompileMutations([]*mutationrulesv3.HeaderMutation{m}); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestApplyDoesNotAllocate(t *testing.T) {
	l, err := Compile([]*corev3.HeaderValueOption{opt("x-1", "a"), opt("x-2", "%RESPONSE_CODE% %REQ(x-a)%"), act(opt("x-a", "n"), overwrite)}, []string{"x-1", "x-2"})
	if err != nil {
		t.Fatal(err)
	}
	s := newStream()
	l.Apply(&s.Request.Header, s)
	before := 0.0
	n := testing.AllocsPerRun(200, func() { l.Apply(&s.Request.Header, s) })
	if n > before { // the arena, which nobody resets here, grows now and then: fewer than one per run
		t.Errorf("%v allocations", n)
	}
}

func FuzzModernize(f *testing.F) {
	f.Add(`%DYNAMIC_METADATA(["a","b"])% %PER_REQUEST_STATE(x)%`)
	f.Add(`%UPSTREAM_METADATA([`)
	f.Fuzz(func(t *testing.T, value string) {
		if got := modernize(value); !strings.Contains(value, "_METADATA([") && !strings.Contains(value, "%PER_REQUEST_STATE(") && got != value {
			t.Errorf("%q became %q", value, got)
		}
	})
}
