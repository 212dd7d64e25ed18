package route

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

// config reads a route configuration from JSON in which single quotes stand for double ones.
func config(t testing.TB, text string) *routev3.RouteConfiguration {
	t.Helper()
	c := &routev3.RouteConfiguration{}
	if err := protojson.Unmarshal([]byte(strings.ReplaceAll(text, "'", `"`)), c); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return c
}

func table(t testing.TB, text string, env Env) *Table {
	t.Helper()
	tb, err := Compile(config(t, text), env)
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

// one makes a table of one virtual host with one route; fields may begin with more routes' fields.
func one(t testing.TB, route string) *Table {
	t.Helper()
	return table(t, `{'name':'x','virtual_hosts':[{'name':'v','domains':['*'],'routes':[{`+route+`}]}]}`, Env{})
}

func TestHosts(t *testing.T) {
	vh := func(name string, domains string) string {
		return `{'name':'` + name + `','domains':[` + domains + `],'routes':[{'match':{'prefix':''},'non_forwarding_action':{}}]}`
	}
	tb := table(t, `{'virtual_hosts':[`+strings.Join([]string{
		vh("any", "'*'"), vh("short", "'*.test'"), vh("long", "'*.a.test'"), vh("dash", "'*-a.test'"),
		vh("exact", "'A.test','[::1]'"), vh("front", "'foo.*'"), vh("port", "'p.test:80'"),
	}, ",")+`]}`, Env{})
	for host, want := range map[string]string{
		"a.test": "exact", "A.TEST": "exact", "x.a.test": "long", "x.b.test": "short", "q-a.test": "dash", "foo.com": "front",
		"foo.": "any", "bar": "any", ".test": "any", "[::1]": "exact", "p.test:80": "port", "p.test": "short",
	} {
		s := ask("/")
		s.Request.Authority = host
		if v, _ := tb.Match(s, 0); v == nil || v.Name != want {
			t.Errorf("%s: %+v, want %s", host, v, want)
		}
		if n := testing.AllocsPerRun(50, func() { tb.Match(s, 0) }); n != 0 && host == strings.ToLower(host) {
			t.Errorf("%s: %v allocations", host, n)
		}
	}
}

func TestHostOptions(t *testing.T) {
	tb := table(t, `{'ignore_port_in_host_matching':true,'vhost_header':'X-Vh','virtual_hosts':[{'name':'v','domains':['a'],'routes':[{'match':{'path':'/p'},'non_forwarding_action':{}}]}],
		'ignore_path_parameters_in_path_matching':true}`, Env{})
	for vh, want := range map[string]bool{"a": true, "a:80": true, "b": false} {
		s := ask("/p;x=1?q", "x-vh", vh)
		if v, r := tb.Match(s, 0); (v != nil && r != nil) != want {
			t.Errorf("%s: %v, %v", vh, v, r)
		}
	}
	if v, _ := tb.Match(ask("/p"), 0); v != nil {
		t.Error("a request without the header has a virtual host")
	}
}

func TestRequireTLS(t *testing.T) {
	for _, c := range []struct {
		mode, scheme string
		internal     bool
		want         string
	}{
		{"ALL", "http", true, "https://test.local/x?y"}, {"ALL", "https", false, ""}, {"EXTERNAL_ONLY", "http", false, "https://test.local/x?y"}, {"EXTERNAL_ONLY", "http", true, ""},
	} {
		tb := table(t, `{'virtual_hosts':[{'name':'v','domains':['*'],'require_tls':'`+c.mode+`','routes':[{'match':{'prefix':'/'},'direct_response':{'status':200}}]}]}`, Env{})
		s := ask("/x?y")
		s.Request.Scheme, s.Info.Internal = c.scheme, c.internal
		_, r := tb.Match(s, 0)
		if got := r.Location(s); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// TestMatch has a row for what the comparison with Envoy showed of each kind of match.
func TestMatch(t *testing.T) {
	for _, c := range []struct{ match, yes, no string }{
		{`'prefix':'/a'`, "/a /ab /a?x /a/b /a;x", "/ /A"},
		{`'prefix':'/A','case_sensitive':false`, "/a /aB /A?x", "/b"},
		{`'path':'/a'`, "/a /a?x", "/a/ /ab /A"},
		{`'path':'/A/b','case_sensitive':false`, "/a/B", "/a"},
		{`'path_separated_prefix':'/a'`, "/a /a/ /a/b /a?x", "/ab /"},
		{`'safe_regex':{'regex':'/a|/ab'}`, "/a /ab /a?x", "/abc"},
		{`'safe_regex':{'regex':'/(?i)A.*'}`, "/abc /A", "/b"},
		{`'connect_matcher':{}`, "", "/ /a"},
		{template0("/a/*"), "/a/b /a/b?x", "/a /a/ /a/b/c"},
		{template0("/a/**"), "/a/ /a/b/c", "/a"},
		{template0("/{x}/{y}.m3u8"), "/a/b.m3u8", "/a/b /a/b/c.m3u8"},
		{template0("/a/{x=b/*}"), "/a/b/c", "/a/c/b /a/b"},
	} {
		tb := one(t, `'match':{`+c.match+`},'non_forwarding_action':{}`)
		for p := range strings.FieldsSeq(c.yes) {
			if _, r := tb.Match(ask(p), 0); r == nil {
				t.Errorf("%s does not match %s", c.match, p)
			}
		}
		for p := range strings.FieldsSeq(c.no) {
			if _, r := tb.Match(ask(p), 0); r != nil {
				t.Errorf("%s matches %s", c.match, p)
			}
		}
	}
}

func template0(text string) string {
	return `'path_match_policy':{'name':'n','typed_config':{'@type':'type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig','path_template':'` + text + `'}}`
}

func TestConnect(t *testing.T) {
	tb := table(t, `{'virtual_hosts':[{'name':'v','domains':['*'],'routes':[{'name':'p','match':{'prefix':''},'non_forwarding_action':{}},{'name':'c','match':{'connect_matcher':{}},'non_forwarding_action':{}}]}]}`, Env{})
	s := ask("")
	s.Request.Method = "CONNECT"
	if _, r := tb.Match(s, 0); r == nil || r.Name != "c" {
		t.Errorf("a CONNECT without a path leads to %+v", r)
	}
}

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		match   string
		headers []string
		draw    uint64
		want    bool
	}{
		{`'grpc':{}`, []string{"content-type", "application/grpc+proto"}, 0, true},
		{`'grpc':{}`, []string{"content-type", "application/grpc-web"}, 0, false},
		{`'runtime_fraction':{'default_value':{'numerator':30}}`, nil, 29, true},
		{`'runtime_fraction':{'default_value':{'numerator':30}}`, nil, 130, false},
		{`'headers':[{'name':'a','string_match':{'exact':'1'}},{'name':'b','present_match':true}]`, []string{"a", "1"}, 0, false},
		{`'headers':[{'name':'a','string_match':{'exact':'1'}},{'name':'b','present_match':true}]`, []string{"a", "1", "b", ""}, 0, true},
		{`'query_parameters':[{'name':'q','string_match':{'exact':'1'}}]`, nil, 0, true},
		{`'cookies':[{'name':'c','string_match':{'exact':'1'}}]`, []string{"cookie", "c=1"}, 0, true},
		{`'tls_context':{'presented':false}`, nil, 0, true},
		{`'tls_context':{'presented':true}`, nil, 0, false},
		{`'dynamic_metadata':[{'filter':'f','path':[{'key':'k'}],'value':{'string_match':{'exact':'v'}}}]`, nil, 0, true},
		{`'filter_state':[{'key':'k','string_match':{'exact':'v'}}]`, nil, 0, false},
	} {
		tb := one(t, `'match':{'prefix':'/',`+c.match+`},'non_forwarding_action':{}`)
		s := ask("/?q=1", c.headers...)
		s.Info.Metadata = stream.Metadata{"f": {"k": "v"}}
		if _, r := tb.Match(s, c.draw); (r != nil) != c.want {
			t.Errorf("%s of %v, %d: %v", c.match, c.headers, c.draw, r)
		}
		if n := testing.AllocsPerRun(50, func() { tb.Match(s, c.draw) }); n != 0 {
			t.Errorf("%s: %v allocations", c.match, n)
		}
	}
}

func TestRedirect(t *testing.T) {
	for _, c := range []struct{ redirect, host, path, want string }{
		{`'https_redirect':true`, "h:80", "/a?b", "https://h/a?b"},
		{`'https_redirect':true`, "h:8080", "/", "https://h:8080/"},
		{`'host_redirect':'n'`, "h:80", "/", "http://n/"},
		{`'port_redirect':81`, "[::1]:80", "/", "http://[::1]:81/"},
		{`'path_redirect':'/n'`, "h", "/a?x=1", "http://h/n?x=1"},
		{`'path_redirect':'/n?y=2'`, "h", "/a?x=1", "http://h/n?y=2"},
		{`'path_redirect':'n','strip_query':true`, "h", "/a?x=1", "http://h/n"},
		{`'prefix_rewrite':'/z'`, "h", "/a/b?x", "http://h/z/b?x"},
		{`'prefix_rewrite':'/z','strip_query':true`, "h", "/a/b?x", "http://h/z/b"},
		{`'regex_rewrite':{'pattern':{'regex':'/a/(.)'},'substitution':'/\\1'}`, "h", "/a/b?x", "http://h/b?x"},
		{`'path_rewrite':'%REQ(x-q)%'`, "h", "/a", "http://h/q"},
	} {
		tb := one(t, `'match':{'prefix':'/a'},'redirect':{`+c.redirect+`}},{'match':{'prefix':'/'},'redirect':{`+c.redirect+`}`)
		s := ask(c.path, "x-q", "q")
		s.Request.Authority = c.host
		_, r := tb.Match(s, 0)
		r.RewritePath(s, true)
		if got := r.Location(s); got != c.want || r.Redirect.Status != 301 {
			t.Errorf("%s: %d %q, want %q", c.redirect, r.Redirect.Status, got, c.want)
		}
	}
}

func TestDirect(t *testing.T) {
	env := Env{ReadFile: func(string) ([]byte, error) { return []byte("file"), nil }, Getenv: func(string) (string, bool) { return "env", true }}
	for body, want := range map[string]string{`'inline_string':'s'`: "s", `'inline_bytes':'Yg=='`: "b", `'filename':'f'`: "file", `'environment_variable':'E'`: "env"} {
		tb := table(t, `{'virtual_hosts':[{'name':'v','domains':['*'],'routes':[{'match':{'prefix':'/'},'direct_response':{'status':201,'body':{`+body+`}}}]}]}`, env)
		s := ask("/p")
		_, r := tb.Match(s, 0)
		if got, kind := r.Direct.Body(s); got != want || kind != "text/plain" || r.Location(s) != "http://test.local/p" {
			t.Errorf("%s: %q %q %q", body, got, kind, r.Location(s))
		}
	}
}

func TestRewrite(t *testing.T) {
	for _, c := range []struct{ match, action, path, want, host string }{
		{`'prefix':'/a'`, `'prefix_rewrite':'/'`, "/a/b?x", "//b?x", "test.local"},
		{`'path':'/a'`, `'prefix_rewrite':'/z'`, "/a?x", "/z?x", "test.local"},
		{`'safe_regex':{'regex':'/a.*'}`, `'prefix_rewrite':'/z'`, "/abc", "/z", "test.local"},
		{`'prefix':'/'`, `'regex_rewrite':{'pattern':{'regex':'/a(.*)'},'substitution':'/r\\1'}`, "/ab?ab", "/rb?ab", "test.local"},
		{template0("/{x}/{y=**}"), `'path_rewrite_policy':{'name':'n','typed_config':{'@type':'type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig','path_template_rewrite':'/{y}/{x}'}}`, "/a/b/c?q", "/b/c/a?q", "test.local"},
		{`'prefix':'/'`, `'path_rewrite':'/f/%REQ(x-q)%'`, "/a?x", "/f/q?x", "test.local"},
		{`'prefix':'/'`, `'path_rewrite':'%REQ(x-none)%'`, "/a", "/a", "test.local"},
		{`'prefix':'/'`, `'host_rewrite_literal':'n'`, "/a", "/a", "n"},
		{`'prefix':'/'`, `'host_rewrite_header':'X-Q'`, "/a", "/a", "q"},
		{`'prefix':'/'`, `'host_rewrite_path_regex':{'pattern':{'regex':'^/(.+)$'},'substitution':'\\1.h'}`, "/a?b", "/a?b", "a.h"},
	} {
		tb := one(t, `'match':{`+c.match+`},'route':{'cluster':'c','append_x_forwarded_host':true,`+c.action+`}`)
		s := ask(c.path, "x-q", "q")
		_, r := tb.Match(s, 0)
		r.FinalizeRequest(s, true)
		if s.Request.Path != c.want || s.Request.Authority != c.host {
			t.Errorf("%s: %q at %q, want %q", c.action, s.Request.Path, s.Request.Authority, c.want)
		}
		if old, ok := s.Request.Header.Get("x-envoy-original-path"); ok != (c.path != c.want) || ok && old != c.path {
			t.Errorf("%s: original path %q %v", c.action, old, ok)
		}
		if old, _ := s.Request.Header.Get("x-forwarded-host"); (old == "test.local") != (c.host != "test.local") {
			t.Errorf("%s: x-forwarded-host %q", c.action, old)
		}
	}
}

func TestWeighted(t *testing.T) {
	tb := one(t, `'match':{'prefix':'/'},'typed_per_filter_config':{},'route':{'weighted_clusters':{'header_name':'X-R','clusters':[{'name':'a','weight':10},{'name':'b','weight':20},{'cluster_header':'X-C','weight':70}]}}`)
	for _, c := range []struct {
		header string
		draw   uint64
		want   string
	}{{"", 9, "a"}, {"", 10, "b"}, {"", 30, "c"}, {"", 109, "a"}, {"29", 5, "b"}, {"x", 5, "a"}} {
		s := ask("/", "x-c", "c", "x-r", c.header)
		_, r := tb.Match(s, c.draw)
		if got := r.Action.ClusterName(s); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
		if n := testing.AllocsPerRun(50, func() { tb.Match(s, c.draw) }); n != 0 {
			t.Errorf("%+v: %v allocations", c, n)
		}
	}
}

func TestLevels(t *testing.T) {
	edit := func(v string) string {
		return `'request_headers_to_add':[{'header':{'key':'x','value':'` + v + `'},'append_action':'OVERWRITE_IF_EXISTS_OR_ADD'}],'response_headers_to_remove':['drop-` + v + `']`
	}
	for wins, want := range map[string]string{"false": "table", "true": "route"} {
		tb := table(t, `{'most_specific_header_mutations_wins':`+wins+`,`+edit("table")+`,'virtual_hosts':[{'name':'v','domains':['*'],`+edit("host")+`,'routes':[{'match':{'prefix':'/'},`+edit("route")+
			`,'route':{'weighted_clusters':{'clusters':[{'name':'c','weight':1,'host_rewrite_literal':'h',`+edit("entry")+`}]}}}]}]}`, Env{})
		s := ask("/")
		_, r := tb.Match(s, 0)
		r.FinalizeRequest(s, true)
		if v, _ := s.Request.Header.Get("x"); v != want || s.Request.Authority != "h" {
			t.Errorf("wins=%s: %q at %q, want %q", wins, v, s.Request.Authority, want)
		}
		for _, l := range []string{"table", "host", "route", "entry", "other"} {
			s.Response.Header.Add("drop-"+l, "1")
		}
		if r.FinalizeResponse(s); len(s.Response.Header.All()) != 1 {
			t.Errorf("wins=%s: left %v", wins, s.Response.Header.All())
		}
	}
}

func TestFilterConfigs(t *testing.T) {
	env := Env{FilterConfig: func(name string, a *anypb.Any) (any, error) {
		if strings.HasSuffix(a.GetTypeUrl(), "Decorator") {
			return nil, &extension.NotFoundError{Name: name, URL: a.GetTypeUrl()}
		}
		m := &routev3.Vhds{}
		return name, a.UnmarshalTo(m)
	}}
	known, unknown := `{'@type':'type.googleapis.com/envoy.config.route.v3.Vhds'}`, `{'@type':'type.googleapis.com/envoy.config.route.v3.Decorator'}`
	wrap := func(s string) string {
		return `{'@type':'type.googleapis.com/envoy.config.route.v3.FilterConfig',` + s + `}`
	}
	tb := table(t, `{'typed_per_filter_config':{'a':`+known+`,'c':`+known+`},'virtual_hosts':[{'name':'v','domains':['*'],'typed_per_filter_config':{'a':`+known+`,'c':`+wrap(`'disabled':true`)+`},
		'routes':[{'match':{'prefix':'/'},'non_forwarding_action':{},'typed_per_filter_config':{'b':`+wrap(`'is_optional':true,'config':`+unknown)+`,'c':`+wrap(`'config':`+known)+`}}]}]}`, env)
	_, r := tb.Match(ask("/"), 0)
	if r.FilterConfig("a") != "a" || r.FilterConfig("b") != nil || r.FilterConfig("c") != "c" {
		t.Errorf("%+v", r.filters)
	}
	if n := len(slices.Collect(r.FilterConfigs("a"))); n != 2 {
		t.Errorf("a has %d levels, want 2", n)
	}
	if off, said := r.FilterDisabled("c"); off || !said {
		t.Errorf("c: %v %v: the route switches it on again", off, said)
	}
	if _, said := r.FilterDisabled("z"); said || (*Route)(nil).FilterConfig("a") != nil {
		t.Error("something is said of a filter that is not there")
	}
}

func TestAction(t *testing.T) {
	tb := table(t, `{'virtual_hosts':[{'name':'v','domains':['*'],'retry_policy':{'retry_on':'5xx'},'request_mirror_policies':[{'cluster':'m'}],'routes':[
		{'match':{'path':'/default'},'route':{'cluster':'c'}},
		{'match':{'prefix':'/'},'request_body_buffer_limit':7,'route':{'cluster':'c','timeout':'0s','idle_timeout':'3s','priority':'HIGH','cluster_not_found_response_code':'NOT_FOUND',
			'metadata_match':{'filter_metadata':{'envoy.lb':{'b':1,'a':'x'}}},'retry_policy':{'retry_on':'gateway-error, retriable-headers,cancelled,bogus','num_retries':0,'retriable_headers':[{'name':'h'}],
			'retry_back_off':{'base_interval':'0.01s'},'retry_host_predicate':[{'name':'p','typed_config':{'@type':'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate'}}]},
			'hedge_policy':{'hedge_on_per_try_timeout':true},'upgrade_configs':[{'upgrade_type':'WebSocket'},{'upgrade_type':'CONNECT','connect_config':{}}],'internal_redirect_policy':{'redirect_response_codes':[303,200]}}}]}]}`, Env{})
	_, r := tb.Match(ask("/default"), 0)
	if a := r.Action; a.Timeout != 15*time.Second || a.IdleTimeout != Unset || a.Retry.On != On5xx || a.Retry.NumRetries != 1 || a.Retry.Max != 250*time.Millisecond || len(a.Mirrors) != 1 || r.RequestBufferLimit != Unset {
		t.Errorf("defaults: %+v %+v", a, a.Retry)
	}
	_, r = tb.Match(ask("/"), 0)
	a := r.Action
	if a.Timeout != 0 || a.IdleTimeout != 3*time.Second || !a.High || a.ClusterNotFoundCode != 404 || r.RequestBufferLimit != 7 || !a.Hedge.OnPerTryTimeout {
		t.Errorf("%+v", a)
	}
	if a.Retry.On != OnGatewayError|OnRetriableHeaders|OnGrpcCancelled || a.Retry.NumRetries != 0 || !a.Retry.PreviousHosts || a.Retry.Max != 100*time.Millisecond || len(a.Retry.Headers) != 1 {
		t.Errorf("%+v", a.Retry)
	}
	if len(a.MetadataMatch) != 2 || a.MetadataMatch[0] != lb.NewCriterion("a", `"x"`) {
		t.Errorf("%+v", a.MetadataMatch)
	}
	if len(a.Upgrades) != 2 || a.Upgrades[0].Type != "websocket" || !a.Upgrades[0].Enabled || a.Upgrades[1].Connect == nil || !a.InternalRedirect.Follows(303) || a.InternalRedirect.Follows(302) {
		t.Errorf("%+v %+v", a.Upgrades, a.InternalRedirect)
	}
}

func TestBackoff(t *testing.T) {
	p := &Retry{Base: 10 * time.Millisecond, Max: 30 * time.Millisecond}
	for n, most := range []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 30 * time.Millisecond, 30 * time.Millisecond} {
		if d := p.Backoff(n, uint64(most-1)); d != most-1 {
			t.Errorf("retry %d waits %v at most, want just under %v", n, d, most)
		}
	}
}

func TestHash(t *testing.T) {
	tb := one(t, `'match':{'prefix':'/'},'route':{'cluster':'c','hash_policy':[{'header':{'header_name':'X-R'},'terminal':true},{'cookie':{'name':'k','ttl':'5s','path':'/p','attributes':[{'name':'Secure'}]}}]}`)
	hash := func(headers ...string) (uint64, bool, []string) {
		s := ask("/", headers...)
		_, r := tb.Match(s, 0)
		return r.Action.HashPolicy.Hash(s, nil)
	}
	a, ok, set := hash("x-r", "a", "x-r", "b")
	b, _, _ := hash("x-r", "b", "x-r", "a")
	if !ok || a != b || len(set) != 0 {
		t.Errorf("%d %d %v %v: the order of header lines matters", a, b, ok, set)
	}
	c, ok, set := hash()
	if !ok || len(set) != 1 || !strings.HasSuffix(set[0], `"; Max-Age=5; Path=/p; Secure; HttpOnly`) {
		t.Errorf("%v %v", ok, set)
	}
	if d, _, again := hash("cookie", strings.ReplaceAll(strings.Split(set[0], ";")[0], `"`, "")); d != c || len(again) != 0 {
		t.Errorf("the cookie leads elsewhere: %d %d %v", c, d, again)
	}
}

func TestVirtualClusters(t *testing.T) {
	env := Env{Stats: func(kind, host, name string) any { return kind + "." + host + "." + name }}
	tb := table(t, `{'virtual_hosts':[{'name':'v','domains':['*'],'virtual_clusters':[{'name':'post','headers':[{'name':':method','string_match':{'exact':'POST'}}]}],
		'routes':[{'match':{'prefix':'/'},'stat_prefix':'sp','non_forwarding_action':{}}]}]}`, env)
	s := ask("/")
	v, r := tb.Match(s, 0)
	if c := v.VirtualCluster(s); c.Stats != "vcluster.v.other" || r.Stats != "route.v.sp" {
		t.Errorf("%+v %v", c, r.Stats)
	}
	s.Request.Method = "POST"
	if c := v.VirtualCluster(s); c.Stats != "vcluster.v.post" {
		t.Errorf("%+v", c)
	}
}

func TestMatcherTree(t *testing.T) {
	tb := table(t, `{'virtual_hosts':[{'name':'v','domains':['*'],'matcher':{'matcher_tree':{'input':{'name':'i','typed_config':{'@type':'type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput','header_name':'X-H'}},
		'exact_match_map':{'map':{'one':{'action':{'name':'r','typed_config':{'@type':'type.googleapis.com/envoy.config.route.v3.Route','name':'one','match':{'prefix':'/a'},'non_forwarding_action':{}}}},
		'list':{'action':{'name':'r','typed_config':{'@type':'type.googleapis.com/envoy.config.route.v3.RouteList','routes':[{'name':'a','match':{'prefix':'/a'},'non_forwarding_action':{}},{'name':'b','match':{'prefix':'/b'},'non_forwarding_action':{}}]}}}}}}}}]}`, Env{})
	for q, want := range map[[2]string]string{{"one", "/a"}: "one", {"one", "/b"}: "", {"list", "/b"}: "b", {"none", "/a"}: ""} {
		s := ask(q[1], "x-h", q[0])
		_, r := tb.Match(s, 0)
		got := ""
		if r != nil {
			got = r.Name
		}
		if got != want {
			t.Errorf("%v: %q, want %q", q, got, want)
		}
		if n := testing.AllocsPerRun(50, func() { tb.Match(s, 0) }); n != 0 {
			t.Errorf("%v: %v allocations", q, n)
		}
	}
}

func TestRefused(t *testing.T) {
	env := Env{Validate: true, HasCluster: func(name string) bool { return name == "c" }, ReadFile: func(string) ([]byte, error) { return nil, errors.New("no such file") }}
	vh := func(s string) string { return `'virtual_hosts':[{'name':'v','domains':['*'],` + s + `}]` }
	route := func(s string) string { return vh(`'routes':[{` + s + `}]`) }
	to := func(s string) string { return route(`'match':{'prefix':'/'},'route':{` + s + `}`) }
	direct := func(s string) string {
		return route(`'match':{'prefix':'/'},'direct_response':{'status':200,'body':{` + s + `}}`)
	}
	for _, c := range [][2]string{
		{`'vhds':{}`, `vhds: discovery`},
		{vh(`'routes':[{'match':{'prefix':'/'},'non_forwarding_action':{}},{'match':{'safe_regex':{'regex':'('}},'non_forwarding_action':{}}]`), `virtual_hosts[0] "v": routes[1]: match.safe_regex: invalid regex '('`},
		{to(`'cluster':'none'`), `virtual_hosts[0] "v": routes[0]: route.cluster: route: unknown cluster 'none'`},
		{to(`'weighted_clusters':{'clusters':[{'name':'c','weight':0}]}`), `route.weighted_clusters: sum of weights`},
		{to(`'weighted_clusters':{'clusters':[{'name':'none','weight':1}]}`), `route.weighted_clusters.clusters[0].name: route: unknown cluster`},
		{to(`'weighted_clusters':{'clusters':[{'weight':1}]}`), `exactly one of name and cluster_header`},
		{to(`'cluster':'c','request_mirror_policies':[{'cluster':'none'}]`), `request_mirror_policies[0].cluster: route: unknown shadow cluster 'none'`},
		{to(`'cluster':'c','prefix_rewrite':'/a','regex_rewrite':{'pattern':{'regex':'a'},'substitution':'b'}`), `specify only one of prefix_rewrite`},
		{to(`'cluster':'c','retry_policy':{'retry_back_off':{'base_interval':'2s','max_interval':'1s'}}`), `route.retry_policy.retry_back_off.max_interval`},
		{to(`'cluster':'c','retry_policy':{'retry_priority':{'name':'p'}}`), `route.retry_policy.retry_priority: didn't find a registered implementation for 'p'`},
		{to(`'cluster':'c','upgrade_configs':[{'upgrade_type':'a'},{'upgrade_type':'A'}]`), `route.upgrade_configs[1].upgrade_type: duplicate`},
		{to(`'cluster':'c','upgrade_configs':[{'upgrade_type':'a','connect_config':{}}]`), `non-CONNECT upgrade type`},
		{to(`'cluster_specifier_plugin':'p'`), `route.cluster_specifier_plugin: unknown`},
		{to(`'cluster':'c','internal_redirect_policy':{'predicates':[{'name':'p'}]}`), `route.internal_redirect_policy.predicates[0]`},
		{direct(`'inline_string':'` + strings.Repeat("x", 4097) + `'`), `direct_response.body: response body size is 4097 bytes; maximum is 4096`},
		{direct(`'filename':'f'`), `direct_response.body.filename: no such file`},
		{direct(`'environment_variable':'E'`), `direct_response.body.environment_variable`},
		{route(`'match':{'prefix':'/'},'filter_action':{}`), `filter_action`},
		{route(`'match':{'prefix':'/'},'non_forwarding_action':{},'typed_per_filter_config':{'f':{'@type':'type.googleapis.com/envoy.config.route.v3.Vhds'}}`), `typed_per_filter_config["f"]: didn't find`},
		{vh(`'matcher':{'on_no_match':{'keep_matching':true}}`), `virtual_hosts[0] "v": matcher.on_no_match.keep_matching`},
		{vh(`'virtual_clusters':[{'name':'x'}]`), `virtual_clusters[0].headers`},
		{`'virtual_hosts':[{'name':'v','domains':['a','A']}]`, `virtual_hosts[0] "v": domains[1]: only unique values for domains`},
		{`'virtual_hosts':[{'name':'v','domains':['*']},{'name':'w','domains':['*']}]`, `virtual_hosts[1] "w": domains[0]: only a single wildcard domain`},
	} {
		_, err := Compile(config(t, `{'name':'x',`+c[0]+`}`), env)
		if err == nil || !strings.HasPrefix(err.Error(), `route config "x": `) || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s:\n %v\n want %s", c[0], err, c[1])
		}
	}
}

// FuzzCompile: no configuration panics, and what compiles answers.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		`{"virtual_hosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"c","prefix_rewrite":"/a"}}]}]}`,
		`{"virtual_hosts":[{"domains":["*.a","b*"],"routes":[{"match":{"safe_regex":{"regex":"a(b"}},"redirect":{"path_redirect":"x"}}]}]}`, `{"virtual_hosts":[{"matcher":{}}]}`,
	} {
		f.Add(s, "/a")
	}
	f.Fuzz(func(t *testing.T, text, path string) {
		c := &routev3.RouteConfiguration{}
		if protojson.Unmarshal([]byte(text), c) != nil {
			return
		}
		tb, err := Compile(c, Env{})
		if err != nil {
			return
		}
		s := ask(path)
		if _, r := tb.Match(s, 1); r != nil {
			r.RewritePath(s, true)
			r.Location(s)
			r.FinalizeRequest(s, true)
			r.FinalizeResponse(s)
		}
	})
}
