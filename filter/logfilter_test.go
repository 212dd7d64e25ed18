package filter

import (
	"strings"
	"testing"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestAccessLogFields(t *testing.T) {
	fieldtest.Check(t, "testdata/accesslog.golden", &accesslogv3.AccessLog{}, &accesslogv3.AccessLogFilter{}, &accesslogv3.ComparisonFilter{},
		&accesslogv3.StatusCodeFilter{}, &accesslogv3.DurationFilter{}, &accesslogv3.RuntimeFilter{}, &accesslogv3.AndFilter{}, &accesslogv3.OrFilter{},
		&accesslogv3.HeaderFilter{}, &accesslogv3.ResponseFlagFilter{}, &accesslogv3.GrpcStatusFilter{}, &accesslogv3.MetadataFilter{},
		&accesslogv3.LogTypeFilter{}, &accesslogv3.ExtensionFilter{})
}

func logFilter(t *testing.T, config string) (LogFilter, error) {
	t.Helper()
	p := &accesslogv3.AccessLogFilter{}
	if err := protojson.Unmarshal([]byte(config), p); err != nil {
		t.Fatal(err)
	}
	return NewLogFilter(p, Env{Process: &Process{Extensions: &Extensions{}}})
}

func loggedStream() *stream.Stream {
	s := &stream.Stream{}
	s.Info.Conn = &stream.Conn{}
	s.Info.Status, s.Info.Start, s.Info.End = 404, 1e6, 101e6
	s.Info.Flags = stream.NoRouteFound
	s.Info.LogType = stream.LogDownstreamEnd
	s.Info.RequestID = "00000005-f597-4dbb-8747-0c38e57ac92c"
	s.Info.Metadata = stream.Metadata{"ns": {"k": "v"}}
	s.Request.Method = "GET"
	return s
}

func TestLogFilters(t *testing.T) {
	const status, path = `{"statusCodeFilter":{"comparison":{"op":"%","value":{"defaultValue":400,"runtimeKey":"none"}}}}`, `"filter":"ns","path":[{"key":"k"}],`
	for _, c := range []struct {
		config string
		want   bool
	}{
		{strings.Replace(status, "%", "GE", 1), true},
		{strings.Replace(status, "%", "LE", 1), false},
		{strings.Replace(status, "%", "EQ", 1), false},
		{strings.Replace(status, "%", "NE", 1), true},
		{`{"durationFilter":{"comparison":{"op":"EQ","value":{"defaultValue":100}}}}`, true},
		{`{"durationFilter":{"comparison":{"op":"GE","value":{"defaultValue":101}}}}`, false},
		{`{"notHealthCheckFilter":{}}`, true},
		{`{"traceableFilter":{}}`, false},
		{`{"runtimeFilter":{"runtimeKey":"none"}}`, false},
		{`{"runtimeFilter":{"percentSampled":{"numerator":100}}}`, true},
		{`{"runtimeFilter":{"percentSampled":{"numerator":5}}}`, false},
		{`{"runtimeFilter":{"percentSampled":{"numerator":6}}}`, true}, // the id begins with 5
		{`{"runtimeFilter":{"percentSampled":{"numerator":1000000,"denominator":"MILLION"},"useIndependentRandomness":true}}`, true},
		{`{"headerFilter":{"header":{"name":":method","stringMatch":{"exact":"GET"}}}}`, true},
		{`{"headerFilter":{"header":{"name":"x-none"}}}`, false},
		{`{"responseFlagFilter":{}}`, true},
		{`{"responseFlagFilter":{"flags":["NR","UH"]}}`, true},
		{`{"responseFlagFilter":{"flags":["UH"]}}`, false},
		{`{"grpcStatusFilter":{"statuses":["UNIMPLEMENTED"]}}`, true},
		{`{"grpcStatusFilter":{"statuses":["UNIMPLEMENTED"],"exclude":true}}`, false},
		{`{"logTypeFilter":{"types":["DownstreamEnd"]}}`, true},
		{`{"logTypeFilter":{"types":["DownstreamEnd"],"exclude":true}}`, false},
		{`{"logTypeFilter":{"types":["TcpConnectionEnd"]}}`, false},
		{`{"metadataFilter":{"matcher":{` + path + `"value":{"stringMatch":{"exact":"v"}}}}}`, true},
		{`{"metadataFilter":{"matcher":{` + path + `"value":{"stringMatch":{"exact":"w"}}}}}`, false},
		{`{"metadataFilter":{"matcher":{"filter":"none","path":[{"key":"k"}],"value":{"stringMatch":{"exact":"w"}}}}}`, true},
		{`{"metadataFilter":{"matcher":{"filter":"none","path":[{"key":"k"}],"value":{"stringMatch":{"exact":"w"}}},"matchIfKeyNotFound":false}}`, false},
		{`{"metadataFilter":{}}`, true},
		{`{"andFilter":{"filters":[{"notHealthCheckFilter":{}},{"traceableFilter":{}}]}}`, false},
		{`{"orFilter":{"filters":[{"notHealthCheckFilter":{}},{"traceableFilter":{}}]}}`, true},
		{`{"andFilter":{"filters":[{"notHealthCheckFilter":{}},{"responseFlagFilter":{}}]}}`, true},
		{`{"orFilter":{"filters":[{"traceableFilter":{}},{"traceableFilter":{}}]}}`, false},
	} {
		f, err := logFilter(t, c.config)
		if err != nil {
			t.Errorf("%s: %v", c.config, err)
			continue
		}
		if got := f.Keep(loggedStream()); got != c.want {
			t.Errorf("%s keeps %v", c.config, got)
		}
	}
}

func TestNoLogFilter(t *testing.T) {
	if f, err := NewLogFilter(nil, Env{}); f != nil || err != nil {
		t.Error(f, err)
	}
}

func TestLogFilterErrors(t *testing.T) {
	for config, want := range map[string]string{
		`{"responseFlagFilter":{"flags":["NR","XX"]}}`:                       `response_flag_filter.flags[1]: "XX" is no response flag`,
		`{"andFilter":{"filters":[{"traceableFilter":{}},{}]}}`:              "and_filter.filters[1].filter_specifier: is required",
		`{"orFilter":{"filters":[{"orFilter":{"filters":[{}]}}]}}`:           "or_filter.filters[0].or_filter.filters[0].filter_specifier: is required",
		`{"metadataFilter":{"matcher":{"filter":"x","path":[{"key":"k"}]}}}`: "metadata_filter.matcher.value.match_pattern: is required",
		`{"extensionFilter":{"name":"cel"}}`:                                 "extension_filter: didn't find a registered implementation for 'cel' with type URL ''",
	} {
		if _, err := logFilter(t, config); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}
