package format

import (
	"encoding/json"
	"math"
	"testing"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/metadata/v3"          // for the test of formatters
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/req_without_query/v3" // for the test of formatters
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
)

func source(t *testing.T, text string) *corev3.SubstitutionFormatString {
	t.Helper()
	c := &corev3.SubstitutionFormatString{}
	if err := protojson.Unmarshal([]byte(text), c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &corev3.SubstitutionFormatString{}, &corev3.JsonFormatOptions{}, &corev3.DataSource{})
}

// The expectations are what Envoy 1.40 printed.
func TestSources(t *testing.T) {
	t.Setenv("FORMAT_TEST", "%PROTOCOL%!")
	const all = `{"a":"%REQ(x-none)%","n":1,"b":true,"z":null,"s":"","m":"%REQ(x-none)%%REQ(x-none)%","o":{"x":"%REQ(x-none)%"},
		"l":["%REQ(x-none)%","%RESPONSE_CODE%",{"q":"%REQ(x-none)%"}],"d":1.5,"e":{},"el":[],"cf":"%CUSTOM_FLAGS%","big":123456789012,
		"mix":"%RESPONSE_CODE%%RESPONSE_CODE%","mix2":"a%RESPONSE_CODE%","k\"ey":"v\"al","pc":"100%%","emp":"%REQ(x-empty)%","m2":"-%REQ(x-none)%-"}`
	for _, c := range []struct{ name, config, want, contentType string }{
		{
			"json", `{"json_format":` + all + `}`,
			`{"a":null,"b":true,"big":123456789012,"cf":"","d":1.5,"e":{},"el":[],"emp":"","k\"ey":"v\"al","l":[null,200,{"q":null}],"m":"--","m2":"---","mix":"200200","mix2":"a200","n":1,"o":{"x":null},"pc":"100%","s":"","z":null}` + "\n", "application/json",
		},
		{
			"json without what is empty", `{"json_format":` + all + `,"omit_empty_values":true}`,
			`{"b":true,"big":123456789012,"cf":"","d":1.5,"el":[],"emp":"","k\"ey":"v\"al","l":[200],"m":"","m2":"--","mix":"200200","mix2":"a200","n":1,"pc":"100%","s":""}` + "\n", "application/json",
		},
		{"nothing left", `{"json_format":{"a":"%REQ(x-none)%"},"omit_empty_values":true}`, "{}\n", "application/json"},
		{
			"order", `{"json_format":{"zeta":"1","alpha":"2","Mid":"3","10":"x","9":"y"},"json_format_options":{"sort_properties":true}}`,
			`{"10":"x","9":"y","Mid":"3","alpha":"2","zeta":"1"}` + "\n", "application/json",
		},
		{"text", `{"text_format":"old %RESPONSE_CODE%\n","content_type":"text/html"}`, "old 200\n", "text/html"},
		{"inline", `{"text_format_source":{"inline_string":"[%REQ(x-none)%]"},"omit_empty_values":true}`, "[]", "text/plain"},
		{"bytes", `{"text_format_source":{"inline_bytes":"JSUh"}}`, "%!", "text/plain"},
		{"file", `{"text_format_source":{"filename":"testdata/format.txt"}}`, "from a file: 200\n", "text/plain"},
		{"environment", `{"text_format_source":{"environment_variable":"FORMAT_TEST"}}`, "HTTP/1.1!", "text/plain"},
		{"extensions", `{"text_format_source":{"inline_string":"%REQ_WITHOUT_QUERY(x-none?:path):5% %METADATA(ROUTE:ns:k)%"},"formatters":[
			{"name":"a","typed_config":{"@type":"type.googleapis.com/envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"}},
			{"name":"b","typed_config":{"@type":"type.googleapis.com/envoy.extensions.formatter.metadata.v3.Metadata"}}]}`, "/new/ route", "text/plain"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tpl, err := CompileSource(source(t, c.config))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(tpl.Append(nil, newStream())); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if tpl.ContentType() != c.contentType {
				t.Errorf("content type %q", tpl.ContentType())
			}
		})
	}
}

func TestSourceErrors(t *testing.T) {
	for config, want := range map[string]string{
		`{"text_format":"%NOPE%"}`:                                                     "text_format: Not supported field in StreamInfo: NOPE",
		`{"json_format":{"a":["%NOPE%"]}}`:                                             "json_format: Not supported field in StreamInfo: NOPE",
		`{"text_format_source":{"environment_variable":"FORMAT_NONE"}}`:                "text_format_source: environment_variable: FORMAT_NONE is not set",
		`{"text_format_source":{"filename":"testdata/none"}}`:                          "text_format_source: open testdata/none: no such file or directory",
		`{"text_format_source":{"inline_string":"","watched_directory":{"path":"/"}}}`: "text_format_source: watched_directory: is not supported here, the source is read once",
		`{"text_format":"x","formatters":[{"name":"cel"}]}`:                            "formatters[0]: didn't find a registered implementation for 'cel' with type URL ''",
		`{}`: "a format must have one of text_format, json_format and text_format_source",
	} {
		if _, err := CompileSource(source(t, config)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}

// As observed.
func TestStrings(t *testing.T) {
	for in, want := range map[string]string{
		"":                      `""`,
		"plain/<>&'":            `"plain/<>&'"`,
		"é\"\\/\tz":             `"é\"\\/\tz"`,
		"\b\f\n\r\x01\x1f\x7f":  `"\b\f\n\r\u0001\u001f` + "\x7f\"",
		"\xff\"\\/\tz":          `"\u00ff\u0022\u005c/\u0009z"`,
		"\xffa\xc3\xa9\x80b\tc": `"\u00ffa\u00c3\u00a9\u0080b\u0009c"`,
	} {
		if got := string(appendQuoted([]byte("x"), in)); got != "x"+want {
			t.Errorf("%q gives %s, want %s", in, got[1:], want)
		}
	}
}

// As observed: what C++ to_chars prints.
func TestNumbers(t *testing.T) {
	for want, n := range map[string]float64{
		"1e-04": 0.0001, "1e-05": 0.00001, "1e+15": 1e15, "1.5e+16": 1.5e16, "123456789012345680": 123456789012345678, "1e+20": 1e20, "123456789": 123456.789e3,
		"0.1": 0.1, "100": 100, "-0": math.Copysign(0, -1), "1e+05": 1e5, "1e-07": 1e-7, "1.7976931348623157e+308": math.MaxFloat64, "5e-324": 5e-324,
		"2.5e+15": 2.5e15, "123456789.125": 123456789.125, "1234567890123456.5": 1234567890123456.5, "99999999999999983616": 99999999999999990000, "12345678901234567168": 12345678901234567890,
		"null": math.NaN(), "-2.25": -2.25,
	} {
		if got := string(appendNumber(nil, n)); got != want {
			t.Errorf("%v gives %s, want %s", n, got, want)
		}
	}
}

func TestJSONDoesNotAllocate(t *testing.T) {
	tpl, err := CompileSource(source(t, `{"json_format":{"p":"%REQ(:path)%","c":"%RESPONSE_CODE%","t":"%START_TIME%","m":"%DYNAMIC_METADATA(ns:s)%","x":"a%REQ(x-multi)%\""}}`))
	if err != nil {
		t.Fatal(err)
	}
	s, b := newStream(), make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { tpl.Append(b, s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzJSON renders any text, as a literal and as a value, to JSON that means the same.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{"", "a", `q"\`, "\x00\x1f\x7f\u2028", "\xff", "é\t", "\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := newStream()
		s.Request.Path = text
		tpl, err := CompileSource(source(t, `{"json_format":{"p":"%REQ(:path)%","x":"-%REQ(:path)%-"}}`))
		if err != nil {
			t.Fatal(err)
		}
		line := tpl.Append(nil, s)
		var got map[string]*string
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if utf8.ValidString(text) && text != "" && (*got["p"] != text || *got["x"] != "-"+text+"-") {
			t.Errorf("%q became %q", text, line)
		}
	})
}
