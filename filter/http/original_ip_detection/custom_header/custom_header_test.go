package customheader

import (
	"net/netip"
	"testing"

	customv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/custom_header/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &customv3.CustomHeaderConfig{})
}

func TestDetect(t *testing.T) {
	reject := func(c typev3.StatusCode) *typev3.HttpStatus { return &typev3.HttpStatus{Code: c} }
	for _, c := range []struct {
		name   string
		config *customv3.CustomHeaderConfig
		value  string
		want   filter.Detected
	}{
		{"found", &customv3.CustomHeaderConfig{HeaderName: "X-Real"}, "5.6.7.8", filter.Detected{Address: netip.MustParseAddr("5.6.7.8"), SkipXFFAppend: true}},
		{
			"trusted", &customv3.CustomHeaderConfig{HeaderName: "x-real", AllowExtensionToSetAddressAsTrusted: true}, "::1",
			filter.Detected{Address: netip.MustParseAddr("::1"), Trusted: true, SkipXFFAppend: true},
		},
		{"absent", &customv3.CustomHeaderConfig{HeaderName: "x-real"}, "", filter.Detected{SkipXFFAppend: true}},
		{"refused", &customv3.CustomHeaderConfig{HeaderName: "x-real", RejectWithStatus: reject(401)}, "bad", filter.Detected{Reject: 401, SkipXFFAppend: true}},
		{
			"refused with a status that is no error", &customv3.CustomHeaderConfig{HeaderName: "x-real", RejectWithStatus: reject(200)}, "",
			filter.Detected{Reject: 403, SkipXFFAppend: true},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := New(c.config, filter.Env{})
			if err != nil {
				t.Fatal(err)
			}
			q := &stream.Request{}
			if c.value != "" {
				q.Header.Add("x-real", c.value)
			}
			if got := d.Detect(q, netip.AddrPort{}); got != c.want {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestDetectDoesNotAllocate(t *testing.T) {
	d, err := New(&customv3.CustomHeaderConfig{HeaderName: "x-real"}, filter.Env{})
	if err != nil {
		t.Fatal(err)
	}
	q := &stream.Request{}
	q.Header.Add("x-real", "5.6.7.8")
	if n := testing.AllocsPerRun(100, func() { d.Detect(q, netip.AddrPort{}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
