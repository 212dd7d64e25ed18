package router

import (
	"io"
	"testing"
	"time"

	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) { fieldtest.Check(t, "fields.golden", &routerv3.Router{}) }

func TestRefuses(t *testing.T) {
	for name, p := range map[string]*routerv3.Router{
		"upstream filters":     {UpstreamHttpFilters: []*hcmv3.HttpFilter{{}}},
		"upstream log options": {UpstreamLogOptions: &routerv3.Router_UpstreamAccessLogOptions{UpstreamLogFlushInterval: durationpb.New(time.Second)}},
	} {
		if _, err := parse(p); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDynamicStatsByDefault(t *testing.T) {
	if s, err := parse(&routerv3.Router{}); err != nil || !s.dynamicStats {
		t.Errorf("%+v %v", s, err)
	}
}

func TestSplitURL(t *testing.T) {
	for in, want := range map[string][3]string{
		"http://a/b?c":    {"http", "a", "/b?c"},
		"HTTPS://a:1#f":   {"https", "a:1", "/"},
		"http://a?q":      {"http", "a", "/?q"},
		"http://a/b#frag": {"http", "a", "/b"},
		"/b":              {},
		"ftp://a/b":       {},
		"http://":         {},
		"":                {},
	} {
		scheme, host, path, ok := splitURL(in)
		if !ok {
			scheme, host, path = "", "", ""
		}
		if got := [3]string{scheme, host, path}; got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzSplitURL(f *testing.F) {
	f.Add("http://a/b?c#d")
	f.Fuzz(func(t *testing.T, in string) {
		if _, host, path, ok := splitURL(in); ok && (host == "" || path == "" || path[0] != '/') {
			t.Errorf("%q: %q %q", in, host, path)
		}
	})
}

func TestShadowHost(t *testing.T) {
	for _, c := range []struct {
		authority string
		mirror    route.Mirror
		want      string
	}{
		{"a", route.Mirror{}, "a-shadow"},
		{"a:80", route.Mirror{}, "a-shadow:80"},
		{"[::1]", route.Mirror{}, "[::1]-shadow"},
		{"a", route.Mirror{NoShadowSuffix: true}, "a"},
		{"a", route.Mirror{HostRewrite: "b"}, "b"},
	} {
		if got := shadowHost(c.authority, &c.mirror); got != c.want {
			t.Errorf("%s: %s, want %s", c.authority, got, c.want)
		}
	}
}

func TestWouldStatus(t *testing.T) {
	header := func(name, value string) *stream.Response {
		r := &stream.Response{Status: 200}
		r.Header.Add(name, value)
		return r
	}
	for _, c := range []struct {
		name  string
		on    route.Condition
		r     *stream.Response
		would bool
	}{
		{"5xx", route.On5xx, &stream.Response{Status: 500}, true},
		{"5xx of a 404", route.On5xx, &stream.Response{Status: 404}, false},
		{"gateway error of a 500", route.OnGatewayError, &stream.Response{Status: 500}, false},
		{"gateway error", route.OnGatewayError, &stream.Response{Status: 503}, true},
		{"conflict", route.OnRetriable4xx, &stream.Response{Status: 409}, true},
		{"listed", route.OnRetriableStatusCodes, &stream.Response{Status: 418}, true},
		{"gRPC unavailable", route.OnGrpcUnavailable, header("grpc-status", "14"), true},
		{"gRPC internal", route.OnGrpcUnavailable, header("grpc-status", "13"), false},
		{"rate limited", route.On5xx, header("x-envoy-ratelimited", "true"), false},
		{"rate limited, and asked for", route.OnEnvoyRateLimited, header("x-envoy-ratelimited", "true"), true},
		{"marked", route.OnRetriableHeaders, header("x-again", "1"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := retries{policy: &route.Retry{StatusCodes: []int{418}}, on: c.on, names: "x-other, X-Again"}
			if got := p.wouldStatus(&exchange{}, c.r); got != c.would {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestResponseSaysWhenToComeAgain(t *testing.T) {
	p := retries{policy: &route.Retry{ResetHeaders: []route.ResetHeader{{Name: "retry-after"}}, ResetMax: 5 * time.Second}, on: route.On5xx}
	for value, want := range map[string]time.Duration{"2": 2 * time.Second, "9": 0, "soon": 0} {
		p.after = 0
		r := &stream.Response{Status: 503}
		r.Header.Add("retry-after", value)
		if !p.wouldStatus(&exchange{}, r) || p.after != want {
			t.Errorf("%s: %v", value, p.after)
		}
	}
}

// Whatever the bytes, a message that the protos accept is taken or refused, and nothing panics.
func FuzzParse(f *testing.F) {
	for _, p := range []*routerv3.Router{
		{},
		{SuppressEnvoyHeaders: true, StrictCheckHeaders: []string{"x-envoy-max-retries"}, RespectExpectedRqTimeout: true},
		{UpstreamLogOptions: &routerv3.Router_UpstreamAccessLogOptions{FlushUpstreamLogOnUpstreamStream: true}},
	} {
		b, err := proto.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &routerv3.Router{}
		if proto.Unmarshal(b, p) != nil || p.ValidateAll() != nil {
			return
		}
		if s, err := parse(p); err == nil && len(s.strict) != len(p.GetStrictCheckHeaders()) {
			t.Errorf("%+v", s)
		}
	})
}

func TestFlagsOf(t *testing.T) {
	for want, errs := range map[stream.Flags][]error{
		0:                                    {nil, filter.LimitRoute.Cause(), filter.LimitTry.Cause()},
		stream.UpstreamOverflow:              {pool.ErrOverflow},
		stream.UpstreamConnectionFailure:     {&pool.ConnectError{Timeout: true}, &pool.ConnectError{Err: io.EOF}},
		stream.UpstreamProtocolError:         {io.ErrUnexpectedEOF, http1.ErrTooLarge},
		stream.UpstreamConnectionTermination: {http1.ErrNoResponse, io.ErrClosedPipe},
	} {
		for _, err := range errs {
			if got := flagsOf(err); got != want {
				t.Errorf("%v: %v, want %v", err, got, want)
			}
		}
	}
}

func TestPercentUsed(t *testing.T) {
	for _, c := range []struct {
		used, of time.Duration
		want     uint64
	}{{time.Second, 0, 0}, {time.Second, 4 * time.Second, 25}, {3 * time.Second, 2 * time.Second, 150}, {time.Millisecond, time.Microsecond, 100}} {
		if got := percentUsed(c.used, c.of); got != c.want {
			t.Errorf("%v of %v: %d, want %d", c.used, c.of, got, c.want)
		}
	}
}
