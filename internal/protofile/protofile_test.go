package protofile

import (
	"strings"
	"testing"

	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// port is a bootstrap with a port as given.
func port(s string) string {
	return "admin: {address: {socket_address: {address: 127.0.0.1, port_value: " + s + "}}}"
}

// TestYAML holds each reading to what Envoy 1.40 said of it. An empty want is a document that is taken as it is.
func TestYAML(t *testing.T) {
	for name, c := range map[string]struct{ in, want, err string }{
		"decimal":              {in: port("80"), want: port("80")},
		"hexadecimal":          {in: port("0x50"), want: port("80")},
		"octal":                {in: port("0120"), want: port("80")},
		"no octal":             {in: port("080"), want: port("80")},
		"octal of YAML 1.2":    {in: port("0o120"), err: "expected an integer that is not negative, not \"0o120\" (line 1)"},
		"sign":                 {in: port("+80"), want: port("80")},
		"quoted":               {in: port(`"80"`), want: port("80")},
		"quoted hexadecimal":   {in: port(`'0x50'`), want: port("80")},
		"tagged as string":     {in: port("!!str 80"), want: port("80")},
		"tagged as integer":    {in: port(`!!int "80"`), want: port("80")},
		"exponent":             {in: port("8e1"), want: port("80")},
		"zero fraction":        {in: port("80.0"), want: port("80")},
		"point":                {in: port("80."), want: port("80")},
		"underscore":           {in: port("8_0"), err: "port_value: expected"},
		"binary":               {in: port("0b11"), err: "port_value: expected"},
		"negative":             {in: port("-1"), err: "admin.address.socket_address.port_value: expected an integer that is not negative"},
		"beyond 32 bits":       {in: port("4294967376"), err: "port_value: 4294967376 is out of range"},
		"beyond 64 bits":       {in: port("18446744073709551616"), err: "port_value: expected"},
		"null":                 {in: port("~"), want: "admin: {address: {socket_address: {address: 127.0.0.1}}}"},
		"nothing":              {in: port(""), want: "admin: {address: {socket_address: {address: 127.0.0.1}}}"},
		"quoted tilde":         {in: port(`"~"`), err: "port_value: expected"},
		"yes":                  {in: "enable_dispatcher_stats: yes", want: "enable_dispatcher_stats: true"},
		"on":                   {in: "enable_dispatcher_stats: On", want: "enable_dispatcher_stats: true"},
		"y":                    {in: "enable_dispatcher_stats: Y", want: "enable_dispatcher_stats: true"},
		"mixed case true":      {in: "enable_dispatcher_stats: tRUE", want: "enable_dispatcher_stats: true"},
		"mixed case on":        {in: "enable_dispatcher_stats: oN", err: "enable_dispatcher_stats: expected true or false, not \"oN\" (line 1)"},
		"t":                    {in: "enable_dispatcher_stats: t", want: "enable_dispatcher_stats: true"},
		"quoted yes":           {in: "enable_dispatcher_stats: 'yes'", want: "enable_dispatcher_stats: true"},
		"off":                  {in: "enable_dispatcher_stats: OFF", want: "{}"},
		"one":                  {in: "enable_dispatcher_stats: 1", err: "expected true or false"},
		"string of word":       {in: "node: {id: yes}", err: "node.id: expected a string (quote it), not a boolean (line 1)"},
		"string of number":     {in: "node: {id: 5}", err: "node.id: expected a string (quote it), not \"5\" (line 1)"},
		"string of fraction":   {in: "node: {id: 1.50}", want: `node: {id: "1.50"}`},
		"string of large":      {in: "node: {id: 5000000000}", want: `node: {id: "5000000000"}`},
		"string of date":       {in: "node: {id: 2001-01-01}", want: `node: {id: "2001-01-01"}`},
		"string of .inf":       {in: "node: {id: .inf}", want: `node: {id: ".inf"}`},
		"null string":          {in: "node: {id: null}", want: "node: {}"},
		"merge key":            {in: "node: {<<: {id: a}}", err: "unknown: node.<<: no such field in envoy.config.core.v3.Node"},
		"ignored key":          {in: "!ignore x: &x {id: a}\nnode: *x", want: "node: {id: a}"},
		"more documents":       {in: "node: {id: a}\n---\nbogus: 1", want: "node: {id: a}"},
		"empty":                {in: "# hi", err: "the YAML document is empty"},
		"scalar":               {in: "hello", err: "expected a map of the fields of envoy.config.bootstrap.v3.Bootstrap, not \"hello\" (line 1)"},
		"list":                 {in: "- a", err: "not a list"},
		"tab":                  {in: "node:\n\tid: a", err: "line 2"},
		"repeated key":         {in: "node: {id: a, id: b}", want: "node: {id: b}"},
		"repeated map":         {in: "node: {id: a}\nnode: {cluster: b}", want: "node: {cluster: b}"},
		"number as key":        {in: "node: {metadata: {1: a, true: b}}", want: `node: {metadata: {"1": a, "true": b}}`},
		"list as key":          {in: "node: {metadata: {[a]: a}}", err: "a key must be a scalar (line 1)"},
		"undefined alias":      {in: "node: *x", err: "unknown anchor 'x' referenced"},
		"anchor within itself": {in: "node: &n {metadata: {x: *n}}", err: "contains itself"},
		"unclosed":             {in: "node: {id: a", err: "line 1"},
		"byte order mark":      {in: "\ufeffnode: {id: a}", want: "node: {id: a}"},
		"folded":               {in: "node:\n  id: >-\n    a\n    b\n", want: "node: {id: a b}"},
		"block number":         {in: "admin:\n  address:\n    socket_address:\n      address: 127.0.0.1\n      port_value: |-\n        80\n", want: port("80")},
		"struct":               {in: "node: {metadata: {a: 1.5, c: 010, d: [1, yes, ~]}}", want: `node: {metadata: {a: "1.5", c: 8, d: [1, true, null]}}`},
		"JSON":                 {in: `{"node":{"id":"a\/b"}}`, want: "node: {id: a/b}"},
	} {
		t.Run(name, func(t *testing.T) { check(t, YAML, c.in, c.want, c.err) })
	}
}

func TestJSON(t *testing.T) {
	cluster := func(s string) string { return `{"static_resources":{"clusters":[{"name":"a",` + s + `}]}}` }
	for name, c := range map[string]struct{ in, want, err string }{
		"comma at the end":       {in: `{"node":{"id":"a",},}`, want: "node: {id: a}"},
		"comma in list":          {in: `{"node_context_params":["a",]}`, want: "node_context_params: [a]"},
		"single quotes":          {in: `{'node':{'id':'a'}}`, want: "node: {id: a}"},
		"bare keys":              {in: `{node:{id:"a"}}`, want: "node: {id: a}"},
		"bare value":             {in: `{node:{id:a}}`, err: "invalid JSON: unexpected character: 'a' (line 1)"},
		"comment":                {in: `{/*x*/node:{}}`, err: "expected a key"},
		"junk":                   {in: "{}\n x", err: "invalid JSON: extraneous characters after end of JSON object (line 2)"},
		"repeated key":           {in: `{"node":{"id":"a","id":"b"}}`, want: "node: {id: b}"},
		"repeated message":       {in: `{"node":{"id":"a"},"node":{"cluster":"b"}}`, want: "node: {id: a, cluster: b}"},
		"camel case":             {in: `{"statsFlushInterval":"5s"}`, want: "stats_flush_interval: 5s"},
		"empty":                  {in: ``, err: "unexpected end of file"},
		"null":                   {in: `null`, err: "expected a map"},
		"byte order mark":        {in: "\ufeff{}", err: "unexpected character"},
		"leading zero":           {in: `{"node":{"id":010}}`, err: "invalid number"},
		"control character":      {in: "{\"node\":{\"id\":\"a\tb\"}}", want: `node: {id: "a\tb"}`},
		"escapes":                {in: `{"node":{"id":"\/\u0041\ud83d\ude00"}}`, want: `node: {id: "/A😀"}`},
		"half a surrogate":       {in: `{"node":{"id":"\ud83d"}}`, err: "unpaired surrogate"},
		"endless string":         {in: `{"node":{"id":"`, err: "a string does not end"},
		"number in string":       {in: `{"admin":{"address":{"socket_address":{"address":"127.0.0.1","port_value":"8e1"}}}}`, want: port("80")},
		"space in string":        {in: `{"admin":{"address":{"socket_address":{"port_value":" 80"}}}}`, err: "port_value: expected"},
		"enum in lower case":     {in: cluster(`"lb_policy":"least_request"`), want: "static_resources: {clusters: [{name: a, lb_policy: LEAST_REQUEST}]}"},
		"enum with dashes":       {in: cluster(`"lb_policy":"least-request"`), err: `unknown: static_resources.clusters[0].lb_policy: unknown enum value "least-request"`},
		"enum as number":         {in: cluster(`"lb_policy":1`), want: "static_resources: {clusters: [{name: a, lb_policy: LEAST_REQUEST}]}"},
		"enum as text of number": {in: cluster(`"lb_policy":"1"`), want: "static_resources: {clusters: [{name: a, lb_policy: LEAST_REQUEST}]}"},
		"null message":           {in: `{"node":null}`, want: "{}"},
		"null in a list":         {in: `{"static_resources":{"clusters":[null]}}`, want: "static_resources: {clusters: [{}]}"},
		"one instead of a list":  {in: `{"static_resources":{"clusters":{"name":"a"}}}`, want: "static_resources: {clusters: [{name: a}]}"},
		"list instead of one":    {in: `{"node":[{"id":"a"}]}`, err: "node: expected a map of the fields of envoy.config.core.v3.Node, not a list"},
		"duration of number":     {in: `{"stats_flush_interval":5}`, err: `stats_flush_interval: expected a duration such as "5s" or "0.25s", not "5" (line 1)`},
		"duration without unit":  {in: `{"stats_flush_interval":"5"}`, err: "expected a duration"},
		"duration of ms":         {in: `{"stats_flush_interval":"5ms"}`, err: "expected a duration"},
		"duration with fraction": {in: `{"stats_flush_interval":"0.25s"}`, want: "stats_flush_interval: 0.250s"},
		"duration of map":        {in: `{"stats_flush_interval":{"seconds":5}}`, want: "stats_flush_interval: 5s"},
		"wrapper of map":         {in: cluster(`"per_connection_buffer_limit_bytes":{"value":5}`), want: "static_resources: {clusters: [{name: a, per_connection_buffer_limit_bytes: 5}]}"},
		"any without type":       {in: cluster(`"typed_extension_protocol_options":{"x":{"a":1}}`), err: `static_resources.clusters[0].typed_extension_protocol_options["x"]: missing @type (line 1)`},
		"any without host":       {in: cluster(`"typed_extension_protocol_options":{"x":{"@type":"no.Such"}}`), err: "@type must contain at least one / and a nonempty host; got: no.Such"},
		"any of unknown type":    {in: cluster(`"typed_extension_protocol_options":{"x":{"@type":"t/no.Such"}}`), err: `["x"]: didn't find a registered implementation for 'x' with type URL 't/no.Such' (line 1)`},
		"any with name":          {in: cluster(`"cluster_type":{"name":"n","typed_config":{"@type":"t/no.Such"}}`), err: "cluster_type.typed_config: didn't find a registered implementation for 'n' with type URL 't/no.Such'"},
		"type at the end": {
			in:   cluster(`"cluster_type":{"name":"n","typed_config":{"name":"q","@type":"type.googleapis.com/envoy.config.cluster.v3.Cluster"}}`),
			want: `static_resources: {clusters: [{name: a, cluster_type: {name: "n", typed_config: {"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: q}}}]}`,
		},
		"two of a oneof": {in: `{"admin":{"address":{"socket_address":{"port_value":80,"named_port":"x"}}}}`, err: "admin.address.socket_address.named_port: conflicts with port_value: only one of port_specifier may be set (line 1)"},
		"unknown fields": {in: "{\"node\":{\"bogus\":{\"x\":[1]}},\n\"worse\":1}", err: "unknown: node.bogus: no such field in envoy.config.core.v3.Node; worse: no such field"},
		"base64":         {in: `{"static_resources":{"secrets":[{"tls_certificate":{"private_key":{"inline_bytes":"aGk"}}}]}}`, want: `static_resources: {secrets: [{tls_certificate: {private_key: {inline_bytes: "aGk="}}}]}`},
		"bad base64":     {in: `{"static_resources":{"secrets":[{"tls_certificate":{"private_key":{"inline_bytes":"a!"}}}]}}`, err: "inline_bytes: invalid base64 (line 1)"},
		"too deep":       {in: strings.Repeat("[", 200), err: "nested deeper than 100 levels"},
	} {
		t.Run(name, func(t *testing.T) { check(t, JSON, c.in, c.want, c.err) })
	}
}

// check parses in, and compares it with want, which the library reads, or the error with wantErr.
func check(t *testing.T, f Format, in, want, wantErr string) {
	t.Helper()
	got := &bootstrapv3.Bootstrap{}
	unknown, err := Parse([]byte(in), f, got)
	if err == nil && len(unknown) > 0 {
		err = &pathError{"unknown", Refuse(unknown)}
	}
	if wantErr != "" {
		if err == nil || !strings.Contains(err.Error(), wantErr) {
			t.Fatalf("error %v, want %q", err, wantErr)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	expect := &bootstrapv3.Bootstrap{}
	v, err := Value([]byte(want))
	if err != nil {
		t.Fatal(err)
	}
	js, err := protojson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(js, expect); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, expect) {
		t.Errorf("got %v\nwant %v", got, expect)
	}
}

// TestAliasesDoNotBlowUp: ten levels of ten aliases are ten billion values.
func TestAliasesDoNotBlowUp(t *testing.T) {
	var b strings.Builder
	b.WriteString("node:\n  metadata:\n    a0: &a0 [x, x]\n")
	for i := byte('1'); i <= '9'; i++ {
		b.WriteString("    a" + string(i) + ": &a" + string(i) + " [" + strings.Repeat("*a"+string(i-1)+", ", 10) + "]\n")
	}
	n, err := parseYAML([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	d := &decoder{nodes: maxNodes - 10_000}
	err = d.message((&bootstrapv3.Bootstrap{}).ProtoReflect(), n)
	if err == nil || !strings.Contains(err.Error(), "too large") {
		t.Fatalf("error %v", err)
	}
}

func TestFormats(t *testing.T) {
	for path, want := range map[string]Format{"a.yaml": YAML, "a.YML": YAML, "a.json": JSON, "a.conf": JSON, "a": JSON, "a.pb": Binary, "a.pb_text": Text} {
		if got := FormatOf(path); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	want := &bootstrapv3.Bootstrap{Node: &corev3.Node{Id: "a"}}
	bin, err := proto.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for f, raw := range map[Format][]byte{Binary: bin, Text: []byte(`node { id: "a" }`)} {
		got := &bootstrapv3.Bootstrap{}
		if _, err := Parse(raw, f, got); err != nil || !proto.Equal(got, want) {
			t.Errorf("%v: %v, %v", f, got, err)
		}
	}
	for _, f := range []Format{Binary, Text} {
		if _, err := Parse([]byte("\xff\xff"), f, &bootstrapv3.Bootstrap{}); err == nil || !strings.Contains(err.Error(), "unable to parse as a") {
			t.Errorf("%v: error %v", f, err)
		}
	}
}

// pack packs a message.
func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCheckNamesThePath(t *testing.T) {
	inner := pack(t, &clusterv3.Cluster{})
	nested := func(a *anypb.Any) proto.Message {
		return &bootstrapv3.Bootstrap{BootstrapExtensions: []*corev3.TypedExtensionConfig{{Name: "x", TypedConfig: a}}}
	}
	const badName = "proto constraint validation failed: value length must be at least 1 runes"
	unpacked, err := structpb.NewStruct(map[string]any{"name": ""})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		in   proto.Message
		want string
	}{
		"top":          {&clusterv3.Cluster{}, "name: " + badName},
		"list":         {&bootstrapv3.Bootstrap{StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{{Name: "a"}, {}}}}, "static_resources.clusters[1].name: " + badName},
		"oneof":        {&bootstrapv3.Bootstrap{Admin: &bootstrapv3.Admin{Address: &corev3.Address{}}}, "admin.address.address: proto constraint validation failed: value is required"},
		"any":          {nested(inner), "bootstrap_extensions[0].typed_config.name: " + badName},
		"typed struct": {nested(pack(t, &xdsv3.TypedStruct{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster", Value: unpacked})), "bootstrap_extensions[0].typed_config.name: " + badName},
		"absent":       {nested(&anypb.Any{TypeUrl: "t/no.Such"}), "bootstrap_extensions[0].typed_config: didn't find a registered implementation for 'x' with type URL 't/no.Such'"},
		"duration":     {&bootstrapv3.Bootstrap{Watchdog: &bootstrapv3.Watchdog{MissTimeout: durationpb.New(-1)}}, "watchdog.miss_timeout: invalid duration: expected positive duration"},
		"garbage":      {nested(&anypb.Any{TypeUrl: inner.TypeUrl, Value: []byte{0xff}}), "bootstrap_extensions[0].typed_config: unable to unpack as envoy.config.cluster.v3.Cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Check(c.in)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %v", err, c.want)
			}
		})
	}
}

func TestCheckFindings(t *testing.T) {
	withUnknown := &clusterv3.Cluster{Name: "a"}
	withUnknown.ProtoReflect().SetUnknown([]byte{0xfa, 0x3e, 0x01, 'a'})
	value, err := structpb.NewStruct(map[string]any{"name": "a", "bogus": 1})
	if err != nil {
		t.Fatal(err)
	}
	typed := pack(t, &xdsv3.TypedStruct{TypeUrl: "envoy.config.cluster.v3.Cluster", Value: value})
	found, err := Check(&bootstrapv3.Bootstrap{
		Node:                &corev3.Node{ListeningAddresses: []*corev3.Address{{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/a"}}}}},
		StaticResources:     &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{withUnknown}},
		BootstrapExtensions: []*corev3.TypedExtensionConfig{{Name: "x", TypedConfig: typed}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		got  []string
		want []string
	}{
		"unknown":    {found.Unknown, []string{"static_resources.clusters[0]: unknown field numbers [1007]", "bootstrap_extensions[0].typed_config.value.bogus: no such field"}},
		"deprecated": {found.Deprecated, []string{"node.listening_addresses: using deprecated option 'envoy.config.core.v3.Node.listening_addresses' from file base.proto"}},
	} {
		if len(c.got) != len(c.want) {
			t.Errorf("%s: %q", what, c.got)
			continue
		}
		for i := range c.want {
			if !strings.HasPrefix(c.got[i], c.want[i]) {
				t.Errorf("%s: got %q, want %q", what, c.got[i], c.want[i])
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(port("0x50")), byte(YAML))
	f.Add([]byte(`{'node':{id:"\u0041",metadata:{a:[1,{b:null}]}},}`), byte(JSON))
	f.Add([]byte("node: &n {metadata: {x: *n}}"), byte(YAML))
	f.Add([]byte(`{"bootstrap_extensions":[{"name":"x","typed_config":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}}]}`), byte(JSON))
	f.Add([]byte("static_resources: {clusters: [{name: a, connect_timeout: 1s, metadata: {filter_metadata: {a: {b: 1}}}}]}"), byte(YAML))
	f.Fuzz(func(t *testing.T, raw []byte, format byte) {
		m := &bootstrapv3.Bootstrap{}
		if _, err := Parse(raw, Format(format%4), m); err != nil {
			return
		}
		_, _ = Check(m)
		if _, err := proto.Marshal(m); err != nil && !strings.Contains(err.Error(), "UTF-8") {
			t.Errorf("what was parsed does not marshal: %v", err)
		}
	})
}

// TestReadsItsOwnJSON: what protojson writes is read back as it was.
func TestReadsItsOwnJSON(t *testing.T) {
	want := &adminv3.ServerInfo{
		Version: "v", CommandLineOptions: &adminv3.CommandLineOptions{BaseId: 1 << 60, Mode: adminv3.CommandLineOptions_Validate},
		Node: &corev3.Node{DynamicParameters: nil, Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewNumberValue(1.5)}}},
	}
	for _, o := range []protojson.MarshalOptions{{}, {UseProtoNames: true, EmitUnpopulated: true, Multiline: true}} {
		js, err := o.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got := &adminv3.ServerInfo{}
		if unknown, err := Parse(js, JSON, got); err != nil || len(unknown) > 0 {
			t.Fatalf("%v, %v", unknown, err)
		}
		if got.GetCommandLineOptions().GetBaseId() != 1<<60 || got.GetNode().GetMetadata().GetFields()["a"].GetNumberValue() != 1.5 {
			t.Errorf("got %v", got)
		}
	}
}
