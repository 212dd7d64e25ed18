package xff

import (
	"net/netip"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	xffv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/xff/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &xffv3.XffConfig{}, &xffv3.XffTrustedCidrs{})
}

func cidrs(list ...string) *xffv3.XffTrustedCidrs {
	c := &xffv3.XffTrustedCidrs{}
	for _, s := range list {
		p := netip.MustParsePrefix(s)
		c.Cidrs = append(c.Cidrs, &corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(p.Bits()))})
	}
	return c
}

func TestDetect(t *testing.T) {
	local := cidrs("127.0.0.0/8", "10.0.0.0/8")
	for _, c := range []struct {
		name    string
		config  *xffv3.XffConfig
		value   string
		address string
		trusted bool
	}{
		{"one address", &xffv3.XffConfig{}, "1.2.3.4", "1.2.3.4", true},
		{"the last of two", &xffv3.XffConfig{}, "1.1.1.1, 2.2.2.2", "2.2.2.2", false},
		{"behind a hop", &xffv3.XffConfig{XffNumTrustedHops: 1}, "1.1.1.1,2.2.2.2", "1.1.1.1", false},
		{"not enough hops", &xffv3.XffConfig{XffNumTrustedHops: 2}, "1.1.1.1,2.2.2.2", "", false},
		{"junk", &xffv3.XffConfig{}, "junk", "", false},
		{"nothing", &xffv3.XffConfig{}, "", "", false},
		{"behind networks", &xffv3.XffConfig{XffTrustedCidrs: local}, "1.1.1.1, 10.0.0.1, 10.0.0.2", "1.1.1.1", false},
		{"stops at the first foreign one", &xffv3.XffConfig{XffTrustedCidrs: local}, "1.1.1.1, 2.2.2.2, 10.0.0.2", "2.2.2.2", false},
		{"all trusted", &xffv3.XffConfig{XffTrustedCidrs: local}, "10.0.0.9", "10.0.0.9", false},
		{"peer is not trusted", &xffv3.XffConfig{XffTrustedCidrs: cidrs("10.0.0.0/8")}, "1.1.1.1", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := New(c.config, filter.Env{})
			if err != nil {
				t.Fatal(err)
			}
			q := &stream.Request{}
			if c.value != "" {
				q.Header.Add("x-forwarded-for", c.value)
			}
			f := d.Detect(q, netip.MustParseAddrPort("127.0.0.1:1"))
			got := ""
			if f.Address.IsValid() {
				got = f.Address.String()
			}
			if got != c.address || f.Trusted != c.trusted || !f.SkipXFFAppend {
				t.Errorf("got %q trusted %v skip %v", got, f.Trusted, f.SkipXFFAppend)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	for name, p := range map[string]*xffv3.XffConfig{
		"both":        {XffNumTrustedHops: 1, XffTrustedCidrs: cidrs("10.0.0.0/8")},
		"bad address": {XffTrustedCidrs: &xffv3.XffTrustedCidrs{Cidrs: []*corev3.CidrRange{{AddressPrefix: "x"}}}},
	} {
		if _, err := New(p, filter.Env{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	d, _ := New(&xffv3.XffConfig{XffTrustedCidrs: cidrs("127.0.0.0/8", "10.0.0.0/8")}, filter.Env{})
	q := &stream.Request{}
	q.Header.Add("x-forwarded-for", "1.1.1.1, 10.0.0.1")
	peer := netip.MustParseAddrPort("127.0.0.1:1")
	if n := testing.AllocsPerRun(100, func() { d.Detect(q, peer) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
