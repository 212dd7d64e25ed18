package format

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

const ms = 1e6

// newStream is a stream about which there is something to say.
func newStream() *stream.Stream {
	s := &stream.Stream{}
	s.Request.Method, s.Request.Path, s.Request.Authority, s.Request.Scheme = "POST", "/new/x?q=12&e=&enc=a%20b+c&q=13", "rewritten.host", "http"
	s.Request.Header.Add("x-envoy-original-path", "/rw/x?q=12")
	s.Request.Header.Add("x-envoy-original-host", "test.local:80")
	s.Request.Header.Add("x-multi", "abc")
	s.Request.Header.Add("x-multi", "def")
	s.Request.Header.Add("x-empty", "")
	s.Request.Header.Add("x-request-id", "c495edb2-f597-4dbb-8747-0c38e57ac92c")
	s.Request.Header.Add("x-forwarded-client-cert", `By=spiffe://by;Hash=abc;URI=spiffe://u1;DNS=a;DNS=b;Subject="CN=x;,\"y",By=second`)
	s.Response.Status = 200
	s.Response.Header.Add("x-up", "u")
	s.Response.Trailer.Add("x-t", "trail")
	i := &s.Info
	i.Conn = &stream.Conn{
		ID: 7, Start: 5 * ms, FilterChain: "chain", Listener: "l_in",
		Local: address("127.0.0.1:13310"), Remote: address("10.1.10.23:4000"), DirectLocal: address("[::1]:80"), DirectRemote: stream.Address{Path: "/run/a.sock"},
		ListenerMetadata: stream.Metadata{"ns": {"k": "listener"}},
		State:            stream.FilterState{"conn": "c"},
	}
	i.Protocol, i.Status, i.Details, i.Route = stream.HTTP11, 200, "via_upstream", "rt"
	i.StartWall = time.Date(2026, 11, 3, 9, 4, 5, 67_089_012, time.UTC)
	i.Start, i.RequestEnd, i.ResponseStart, i.ResponseEnd, i.End = 10*ms, 12*ms, 60*ms, 61*ms, 62*ms
	i.BytesIn, i.BytesOut, i.WireIn, i.WireOut, i.HeaderIn, i.HeaderOut = 1, 2, 3, 4, 5, 6
	i.LogType, i.RequestID = stream.LogDownstreamEnd, "c495edb2-f597-4dbb-8747-0c38e57ac92c"
	i.Metadata = stream.Metadata{"ns": {"s": "text", "n": 1.0, "f": 1.5, "nil": nil, "t": true, "e": "", "l": []any{1.0, "a", map[string]any{"b": false}}, "o": map[string]any{"q": 1.0, "p": "x"}}}
	i.RouteMetadata = stream.Metadata{"ns": {"k": "route"}}
	i.State = stream.FilterState{"k1": `v"1`, "obj": map[string]any{"a": 1.0}}
	u := &i.Upstream
	u.Cluster, u.ClusterAlt, u.HostName, u.Host, u.Local = "b1", "alt_b1", "host.b1:80", address("127.0.0.1:13312"), address("127.0.0.1:4444")
	u.Protocol, u.Attempts, u.ConnID, u.Failure = stream.HTTP11, 1, 2, "delayed connect error: refused"
	u.ConnStart, u.Connected, u.FirstTx, u.LastTx, u.FirstRx, u.LastRx = 20*ms, 20*ms+1500, 21*ms, 22*ms, 50*ms, 51*ms
	u.BytesOut, u.BytesIn, u.HeaderOut, u.HeaderIn = 399, 153, 341, 123
	return s
}

func address(text string) stream.Address {
	return stream.Address{AddrPort: netip.MustParseAddrPort(text)}
}

// bare stream: a TCP connection of which nothing is known.
func emptyStream() *stream.Stream {
	s := &stream.Stream{}
	s.Info.Conn = &stream.Conn{}
	return s
}

func TestOperators(t *testing.T) {
	t.Setenv("FORMAT_TEST", `abc"def`)
	host, _ := os.Hostname()
	for _, c := range []struct{ operator, text, json, empty string }{ // json "": the text in quotes; empty "": missing
		{"START_TIME", "2026-11-03T09:04:05.067Z", "", ""},
		{"START_TIME()", "2026-11-03T09:04:05.067Z", "", ""},
		{"START_TIME(%s.%3f)", "1793696645.067", "", ""},
		{"PROTOCOL", "HTTP/1.1", "", ""},
		{"UPSTREAM_PROTOCOL", "HTTP/1.1", "", ""},
		{"RESPONSE_CODE", "200", "200", "0"},
		{"RESPONSE_CODE_DETAILS", "via_upstream", "", ""},
		{"RESPONSE_FLAGS", "-", "", "-"},
		{"RESPONSE_FLAGS_LONG", "-", "", "-"},
		{"CONNECTION_TERMINATION_DETAILS", "-", "null", ""},
		{"BYTES_RECEIVED", "1", "1", "0"},
		{"BYTES_SENT", "2", "2", "0"},
		{"DOWNSTREAM_WIRE_BYTES_RECEIVED", "3", "3", "0"},
		{"DOWNSTREAM_WIRE_BYTES_SENT", "4", "4", "0"},
		{"DOWNSTREAM_HEADER_BYTES_RECEIVED", "5", "5", "0"},
		{"DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", "6", "6", "0"},
		{"UPSTREAM_WIRE_BYTES_SENT", "399", "399", "0"},
		{"UPSTREAM_WIRE_BYTES_RECEIVED", "153", "153", "0"},
		{"UPSTREAM_HEADER_BYTES_SENT", "341", "341", "0"},
		{"UPSTREAM_HEADER_BYTES_RECEIVED", "123", "123", "0"},
		{"BYTES_RETRANSMITTED", "0", "0", "0"},
		{"ROUNDTRIP_DURATION", "-", "null", ""},
		{"REQUEST_HEADERS_BYTES", "326", "326", "0"},
		{"RESPONSE_HEADERS_BYTES", "15", "15", "0"},
		{"RESPONSE_TRAILERS_BYTES", "8", "8", "0"},
		{"DURATION", "52", "52", "0"},
		{"REQUEST_DURATION", "2", "2", ""},
		{"REQUEST_TX_DURATION", "12", "12", ""},
		{"RESPONSE_DURATION", "40", "40", ""},
		{"RESPONSE_TX_DURATION", "11", "11", ""},
		{"COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)", "51000", "51000", ""},
		{"COMMON_DURATION(US_CX_BEG:US_CX_END:ns)", "1500", "1500", ""},
		{"COMMON_DURATION(DS_TX_END:DS_RX_BEG)", "-", "null", ""},
		{"COMMON_DURATION(foo:DS_RX_BEG)", "-", "null", ""},
		{"COMMON_DURATION(DS_CX_BEG:DS_RX_BEG)", "5", "5", ""},
		{"UPSTREAM_HOST", "127.0.0.1:13312", "", ""},
		{"UPSTREAM_HOST_NAME", "host.b1:80", "", ""},
		{"UPSTREAM_HOST_NAME_WITHOUT_PORT", "host.b1", "", ""},
		{"UPSTREAM_HOSTS_ATTEMPTED", "127.0.0.1:13312", "", ""},
		{"UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT", "host.b1", "", ""},
		{"UPSTREAM_CONNECTION_IDS_ATTEMPTED", "2", "", ""},
		{"UPSTREAM_CONNECTION_ID", "2", "2", "0"},
		{"CONNECTION_ID", "7", "7", "0"},
		{"UPSTREAM_CLUSTER", "alt_b1", "", ""},
		{"UPSTREAM_CLUSTER_RAW", "b1", "", ""},
		{"UPSTREAM_LOCAL_ADDRESS", "127.0.0.1:4444", "", ""},
		{"UPSTREAM_LOCAL_PORT", "4444", "4444", ""},
		{"UPSTREAM_REMOTE_ADDRESS", "127.0.0.1:13312", "", ""},
		{"UPSTREAM_REMOTE_PORT", "13312", "13312", ""},
		{"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "127.0.0.1", "", ""},
		{"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(33)", "127.0.0.1/32", "", ""},
		{"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(x)", "127.0.0.1", "", ""},
		{"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)", "10.1.0.0/16", "", ""},
		{"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(0)", "0.0.0.0/0", "", ""},
		{"DOWNSTREAM_DIRECT_LOCAL_ADDRESS", "[::1]:80", "", ""},
		{"DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", "::1", "", ""},
		{"DOWNSTREAM_DIRECT_REMOTE_ADDRESS", "/run/a.sock", "", ""},
		{"DOWNSTREAM_DIRECT_REMOTE_PORT", "-", "null", ""},
		{"UPSTREAM_REQUEST_ATTEMPT_COUNT", "1", "1", "0"},
		{"UPSTREAM_TRANSPORT_FAILURE_REASON", "delayed_connect_error:_refused", "", ""},
		{"UPSTREAM_DETECTED_CLOSE_TYPE", "Normal", "", ""},
		{"DOWNSTREAM_DETECTED_CLOSE_TYPE", "Normal", "", "Normal"},
		{"DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID", "", `""`, ``},
		{"LISTENER_NAME", "l_in", "", ""},
		{"FILTER_CHAIN_NAME", "chain", "", ""},
		{"ROUTE_NAME", "rt", "", ""},
		{"VIRTUAL_CLUSTER_NAME", "-", "null", ""},
		{"STREAM_ID", "c495edb2-f597-4dbb-8747-0c38e57ac92c", "", ""},
		{"TRACE_ID", "-", "null", ""},
		{"ACCESS_LOG_TYPE", "DownstreamEnd", "", "NotSet"},
		{"REQUESTED_SERVER_NAME", "-", "null", ""},
		{"REQUESTED_SERVER_NAME(SNI_FIRST)", "test.local:80", "", ""},
		{"REQUESTED_SERVER_NAME(HOST_FIRST:HOST)", "rewritten.host", "", ""},
		{"REQUESTED_SERVER_NAME(SNI_ONLY:HOST)", "-", "null", ""},
		{"PATH", "/rw/x?q=12", "", ""},
		{"PATH(NQ)", "/rw/x", "", ""},
		{"PATH(NQ:PATH):3", "/ne", "", ""},
		{"PATH():2", "/r", "", ""},
		{"QUERY_PARAM(q)", "12", "", ""},
		{"QUERY_PARAM(q):1", "1", "", ""},
		{"QUERY_PARAM(enc)", "a b+c", "", ""},
		{"QUERY_PARAM(none)", "-", "null", ""},
		{"QUERY_PARAMS", "q=12&e=&enc=a%20b+c&q=13", "", ""},
		{"QUERY_PARAMS(ORIG):3", "q=1", "", ""},
		{"ENVIRONMENT(FORMAT_TEST)", `abc"def`, `"abc\"def"`, `abc"def`},
		{"ENVIRONMENT(FORMAT_TEST):3", "abc", "", "abc"},
		{"ENVIRONMENT(FORMAT_NONE)", "-", `"-"`, "-"},
		{"HOSTNAME", host, "", host},
		{"REQ(:path)", "/new/x?q=12&e=&enc=a%20b+c&q=13", "", ""},
		{"REQ(:METHOD)", "POST", "", ""},
		{"REQ(host)", "rewritten.host", "", ""},
		{"REQ(:scheme)", "http", "", ""},
		{"REQ(X-Multi)", "abc", "", ""},
		{"REQ(x-none?x-multi)", "abc", "", ""},
		{"REQ(x-none?x-none2)", "-", "null", ""},
		{"REQ(x-multi):2", "ab", "", ""},
		{"RESP(:status)", "200", "", ""},
		{"RESP(x-up)", "u", "", ""},
		{"TRAILER(x-t)", "trail", "", ""},
		{"RESPONSE_TRAILER(x-u)", "-", "null", ""},
		{"GRPC_STATUS", "-", "null", ""},
		{"GRPC_STATUS_NUMBER", "-", "null", ""},
		{"DYNAMIC_METADATA(ns:s)", "text", "", ""},
		{"DYNAMIC_METADATA(ns:s):2", "te", `"text"`, ""},
		{"DYNAMIC_METADATA(ns:n)", "1", "1", ""},
		{"DYNAMIC_METADATA(ns:f)", "1.5", "1.5", ""},
		{"DYNAMIC_METADATA(ns:t)", "true", "true", ""},
		{"DYNAMIC_METADATA(ns:nil)", "-", "null", ""},
		{"DYNAMIC_METADATA(ns:l)", `[1,"a",{"b":false}]`, `[1,"a",{"b":false}]`, ""},
		{"DYNAMIC_METADATA(ns:o):2", `{"`, `{"p":"x","q":1}`, ""},
		{"DYNAMIC_METADATA(ns:o:q)", "1", "1", ""},
		{"DYNAMIC_METADATA(ns:l:0)", "-", "null", ""},
		{"DYNAMIC_METADATA(none)", "-", "null", ""},
		{"METADATA(ROUTE:ns:k)", "route", "", ""},
		{"METADATA(LISTENER:ns:k):4", "list", `"listener"`, ""},
		{"METADATA(CLUSTER:ns:k)", "-", "null", ""},
		{"FILTER_STATE(k1)", `"v\"1"`, `"v\"1"`, ""},
		{"FILTER_STATE(k1:PLAIN)", `v"1`, `"v\"1"`, ""},
		{"FILTER_STATE(k1:PLAIN):2", `v"`, `"v\""`, ""},
		{"FILTER_STATE(obj)", `{"a":1}`, `{"a":1}`, ""},
		{"FILTER_STATE(conn:PLAIN)", "c", "", ""},
		{"FILTER_STATE(k1:FIELD:x)", "-", "null", ""},
		{"FILTER_STATE(none)", "-", "null", ""},
		{`COALESCE({"operators":["REQUESTED_SERVER_NAME",{"command":"REQ","param":":authority"}]}):4`, "rewr", "", ""},
		{`COALESCE({"operators":[{"command":"REQ","param":"x-none"},{"command":"REQ","param":"x-multi","max_length":1}]})`, "a", "", ""},
		{`COALESCE({"operators":["TRACE_ID","RESPONSE_CODE"]})`, "200", "200", "0"},
		{"XFCC_VALUE(uri)", "spiffe://u1", "", ""},
		{"XFCC_VALUE(Subject)", `CN=x;,"y`, `"CN=x;,\"y"`, ""},
		{"XFCC_VALUE(cert)", "-", "null", ""},
		{"DOWNSTREAM_TLS_VERSION", "-", "null", ""},
		{"DOWNSTREAM_PEER_CERT_V_START", "-", "null", ""},
		{"UPSTREAM_PEER_SUBJECT", "-", "null", ""},
		{"TLS_JA3_FINGERPRINT", "-", "null", ""},
	} {
		t.Run(c.operator, func(t *testing.T) {
			tpl, err := Compile("%"+c.operator+"%", Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := string(tpl.Append(nil, newStream())); got != c.text {
				t.Errorf("text %q, want %q", got, c.text)
			}
			want := c.json
			if want == "" {
				want = `"` + c.text + `"`
			}
			n, err := compileString("%"+c.operator+"%", Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := n.append(nil, newStream(), "-"); string(got) != want {
				t.Errorf("JSON %s, want %s", got, want)
			}
			if want = c.empty; want == "" && c.text != "" {
				want = "-"
			}
			if got := string(tpl.Append(nil, emptyStream())); got != want {
				t.Errorf("of an empty stream %q, want %q", got, want)
			}
		})
	}
}

func TestTexts(t *testing.T) {
	for _, c := range []struct{ format, want string }{
		{"", ""},
		{"plain", "plain"},
		{"100%% a%%b", "100% a%b"},
		{"%%%REQ(x-multi)%%%", "%abc%"},
		{"[%REQ(x-none)%] %REQ(x-empty)%|%RESPONSE_CODE%\n", "[-] |200\n"},
		{"%START_TIME(%)%%START_TIME(%%)%", "%%"},
		{defaultFormat, `[2026-11-03T09:04:05.067Z] "POST /rw/x?q=12 HTTP/1.1" 200 - 1 2 52 - "-" "-" "c495edb2-f597-4dbb-8747-0c38e57ac92c" "rewritten.host" "127.0.0.1:13312"` + "\n"},
	} {
		tpl, err := Compile(c.format, Options{})
		if err != nil {
			t.Errorf("%q: %v", c.format, err)
			continue
		}
		if got := string(tpl.Append([]byte("x"), newStream())); got != "x"+c.want {
			t.Errorf("%q gives %q, want %q", c.format, got, c.want)
		}
	}
}

func TestOmitEmpty(t *testing.T) {
	tpl, err := Compile("[%REQ(x-none)%]%RESPONSE_FLAGS%", Options{OmitEmpty: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(tpl.Append(nil, newStream())); got != "[]-" {
		t.Error(got)
	}
}

func TestFlagsInTheOrderOfEnvoy(t *testing.T) {
	tpl, _ := Compile("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%", Options{})
	s := newStream()
	s.Info.Flags = stream.UpstreamConnectionFailure | stream.UpstreamRetryLimitExceeded
	if got := string(tpl.Append(nil, s)); got != "URX,UF UpstreamRetryLimitExceeded,UpstreamConnectionFailure" {
		t.Error("HTTP", got)
	}
	s.Info.Protocol = stream.NoProtocol
	if got := string(tpl.Append(nil, s)); !strings.HasPrefix(got, "UF,URX ") {
		t.Error("TCP", got)
	}
}

func TestGRPCStatus(t *testing.T) {
	tpl, _ := Compile("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%", Options{})
	for _, c := range []struct {
		trailer, header string
		status          int
		want            string
	}{
		{"", "", 200, "Unknown UNKNOWN 2"},
		{"", "", 503, "Unavailable UNAVAILABLE 14"},
		{"1", "3", 200, "Canceled CANCELLED 1"},
		{"", "3", 200, "InvalidArgument INVALID_ARGUMENT 3"},
		{"99", "", 200, "99 99 99"},
		{"x", "", 200, "-1 -1 -1"},
		{"", "", 0, "- - -"},
	} {
		s := emptyStream()
		s.Request.Header.Add("content-type", "application/grpc+proto")
		if c.trailer != "" {
			s.Response.Trailer.Add("grpc-status", c.trailer)
		}
		if c.header != "" {
			s.Response.Header.Add("grpc-status", c.header)
		}
		s.Info.Status = c.status
		if got := string(tpl.Append(nil, s)); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestServerNameIsMadeHarmless(t *testing.T) {
	tpl, _ := Compile("%REQUESTED_SERVER_NAME%", Options{})
	s := emptyStream()
	for name, want := range map[string]string{"a.b-c_d": "a.b-c_d", "a b\n\"": "invalid:a_b__"} {
		s.Info.Conn.ServerName = name
		if got := string(tpl.Append(nil, s)); got != want {
			t.Errorf("%q gives %q", name, got)
		}
	}
}

func TestDecodedQuery(t *testing.T) {
	s := emptyStream()
	s.Request.Path = "/p?a=%41%zz%4&b+c=%2541;d&k%20y=1&a=2&d"
	for format, want := range map[string]string{ // observed
		"%QUERY_PARAMS(DECODED)%": "a=Azz4&b+c=%41;d&k%20y=1&a=2&d",
		"%QUERY_PARAM(a)%":        "A%zz%4", "%QUERY_PARAM(b+c)%": "%41;d", "%QUERY_PARAM(b c)%": "-", "%QUERY_PARAM(d)%": "", "%QUERY_PARAM(k y)%": "1",
	} {
		tpl, err := Compile(format, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(tpl.Append(nil, s)); got != want {
			t.Errorf("%s gives %q, want %q", format, got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	const at = ". Couldn't find valid command at position "
	for format, want := range map[string]string{
		"%REQ%":                                "REQ requires parameters",
		"%REQ(a?b?c)%":                         "More than 1 alternative header specified in token: a?b?c",
		"%NOPE%":                               "Not supported field in StreamInfo: NOPE",
		"%PROTOCOL(x)%":                        "PROTOCOL does not take any parameters or length",
		"%PROTOCOL:3%":                         "PROTOCOL does not take any parameters or length",
		"%START_TIME:3%":                       "START_TIME does not allow length to be specified.",
		"%START_TIME(%n)%":                     "Invalid header configuration. Format string contains newline.",
		"%START_TIME(":                         "Incorrect configuration: %START_TIME(" + at + "0",
		"a%":                                   "Incorrect configuration: a%" + at + "1",
		"%%%":                                  "Incorrect configuration: %%%" + at + "2",
		"%REQ(x)x%":                            "Incorrect configuration: %REQ(x)x%" + at + "0",
		"%REQ(x):%":                            "Incorrect configuration: %REQ(x):%" + at + "0",
		"%REQ(x):-1%":                          "Incorrect configuration: %REQ(x):-1%" + at + "0",
		"%REQ(x):99999999999999999999%":        "Incorrect configuration: %REQ(x):99999999999999999999%" + at + "0",
		"%REQ(a)b)%":                           "Invalid header configuration. Format string contains invalid characters.",
		"%req(x)%":                             "Incorrect configuration: %req(x)%" + at + "0",
		"%COMMON_DURATION(a)%":                 "Invalid common duration configuration: a.",
		"%COMMON_DURATION(a:b:x)%":             "Invalid common duration precision: x.",
		"%METADATA%":                           " is not supported type of metadata",
		"%METADATA(NOPE:x)%":                   "NOPE is not supported type of metadata",
		"%CLUSTER_METADATA(x):3%":              "CLUSTER_METADATA does not allow length to be specified.",
		"%FILTER_STATE(:PLAIN)%":               "Invalid filter state configuration, key cannot be empty.",
		"%FILTER_STATE(k:X)%":                  "Invalid filter state serialize type, only support PLAIN/TYPED/FIELD.",
		"%FILTER_STATE(k:FIELD)%":              "Invalid filter state serialize type, FIELD should be used with the field name.",
		"%GRPC_STATUS(x)%":                     "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: x",
		"%PATH(X)%":                            "Invalid PATH option: 'X', only 'WQ'/'NQ' are allowed",
		"%PATH(WQ:X)%":                         "Invalid PATH option: 'X', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed",
		"%REQUESTED_SERVER_NAME(x)%":           "Invalid REQUESTED_SERVER_NAME option: 'x', only 'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed",
		"%REQUESTED_SERVER_NAME(SNI_FIRST:x)%": "Invalid REQUESTED_SERVER_NAME option: 'x', only 'ORIG_OR_HOST'/'HOST'/'ORIG' are allowed",
		"%QUERY_PARAMS(x)%":                    "Invalid QUERY_PARAMS option: 'x', only 'ORIG'/'DECODED' are allowed",
		"%XFCC_VALUE(zzz)%":                    "XFCC_VALUE command does not support subcommand: zzz",
		"%REQ_WITHOUT_QUERY(x)%":               "Not supported field in StreamInfo: REQ_WITHOUT_QUERY",
		"%CEL(request.path)%":                  "CEL is not supported",
		"%COALESCE({})%":                       "COALESCE: JSON configuration must contain 'operators' array",
		`%COALESCE({"operators":["NOPE"]})%`:   "COALESCE: failed to parse operator at index 0: unknown command: 'NOPE'",
		`%COALESCE({"operators":["REQ"]})%`:    "COALESCE: failed to parse operator at index 0: REQ requires parameters",
	} {
		if _, err := Compile(format, Options{}); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", format, err, want)
		}
	}
}

func TestLiteral(t *testing.T) {
	for format, want := range map[string]bool{"": true, "a%%b": true, "%PROTOCOL%": false, "a%PROTOCOL%": false} {
		tpl, _ := Compile(format, Options{})
		if text, ok := tpl.Literal(); ok != want || ok && text != strings.ReplaceAll(format, "%%", "%") {
			t.Errorf("%q: %q, %v", format, text, ok)
		}
	}
}

func TestUniqueID(t *testing.T) {
	tpl, _ := Compile("%UNIQUE_ID%", Options{})
	a, b := string(tpl.Append(nil, newStream())), string(tpl.Append(nil, newStream()))
	if a == b || len(a) != 36 || a[14] != '4' {
		t.Error(a, b)
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	s, b := newStream(), make([]byte, 0, 4096)
	tpl, err := Compile(defaultFormat+"%DYNAMIC_METADATA(ns:s)% %START_TIME(%Y-%m-%dT%H:%M:%S%z %s)% %DOWNSTREAM_REMOTE_ADDRESS% %UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(8)% %RESPONSE_DURATION% %QUERY_PARAM(enc)% %UNIQUE_ID%", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { tpl.Append(b, s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDefaultFormat(b *testing.B) {
	s, buf, tpl := newStream(), make([]byte, 0, 4096), Default()
	for b.Loop() {
		tpl.Append(buf, s)
	}
}

func FuzzCompile(f *testing.F) {
	for name := range commands {
		f.Add("%" + name + "%")
		f.Add("a%" + name + "(x:y):3%b")
	}
	f.Add(defaultFormat)
	f.Add(`%COALESCE({"operators":[{"command":"COALESCE","param":"{}"}]})%`)
	f.Add("%START_TIME(%3f%E4S%E*S%-d%_10d%5Q%Ez%")
	f.Fuzz(func(t *testing.T, format string) {
		tpl, err := Compile(format, Options{})
		if err != nil {
			return
		}
		b := tpl.Append([]byte("before"), newStream())
		if !strings.HasPrefix(string(b), "before") {
			t.Errorf("what was there is gone: %q", b)
		}
		tpl.Append(nil, emptyStream())
	})
}
