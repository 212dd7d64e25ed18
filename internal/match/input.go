package match

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	sslv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/ssl/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	fractionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/runtime_fraction/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// inputs compiles inputs and predicates.
type inputs struct {
	more    func(c *xdscorev3.TypedExtensionConfig) (Input, error)
	runtime *runtime.Loader
}

func unpack(c *xdscorev3.TypedExtensionConfig, m proto.Message) error {
	got, _, err := protofile.Unpack(c.GetTypedConfig())
	if err != nil || got.ProtoReflect().Descriptor() != m.ProtoReflect().Descriptor() {
		return unknown(c)
	}
	proto.Merge(m, got)
	return nil
}

func (c inputs) input(p *xdscorev3.TypedExtensionConfig) (Input, error) {
	m, _, err := protofile.Unpack(p.GetTypedConfig())
	if err != nil {
		return nil, unknown(p)
	}
	if in := httpInput(m); in != nil {
		return in, nil
	}
	if in := connInput(m); in != nil {
		return in, nil
	}
	if c.more != nil {
		return c.more(p)
	}
	return nil, unknown(p)
}

// httpInput compiles the inputs of envoy.type.matcher.v3.
func httpInput(m proto.Message) Input {
	switch p := m.(type) {
	case *matcherv3.HttpRequestHeaderMatchInput:
		name := lower(p.GetHeaderName())
		return func(d Data) (string, bool) {
			if d.Stream == nil {
				return "", false
			}
			return AllHeaderValues(d.Stream, name)
		}
	case *matcherv3.HttpResponseHeaderMatchInput:
		name := lower(p.GetHeaderName())
		return func(d Data) (string, bool) {
			if d.Stream == nil {
				return "", false
			}
			if name == ":status" {
				return strconv.Itoa(d.Stream.Response.Status), d.Stream.Response.Status != 0
			}
			return joined(d.Stream, d.Stream.Response.Header.All(), name)
		}
	case *matcherv3.HttpRequestQueryParamMatchInput:
		name := p.GetQueryParam()
		return func(d Data) (string, bool) {
			if d.Stream == nil {
				return "", false
			}
			v, ok := QueryParameter(d.Stream.Request.Path, name)
			return unescape(d.Stream, v), ok
		}
	}
	return nil
}

// AllHeaderValues returns all values of a header of the request of s, joined by commas; name is in lower case and may be that of a
// pseudo header. Values that are joined live in the arena of s.
func AllHeaderValues(s *stream.Stream, name string) (string, bool) {
	if v, pseudo := pseudoHeader(&s.Request, name); pseudo {
		return v, v != ""
	}
	return joined(s, s.Request.Header.All(), name)
}

func unescape(s *stream.Stream, v string) string {
	if strings.IndexByte(v, '%') < 0 {
		return v
	}
	return s.Append(func(b []byte, _ *stream.Stream) []byte {
		for i := 0; i < len(v); i++ {
			if v[i] == '%' && i+2 < len(v) {
				if n, err := strconv.ParseUint(v[i+1:i+3], 16, 8); err == nil {
					b = append(b, byte(n))
					i += 2
					continue
				}
			}
			b = append(b, v[i])
		}
		return b
	})
}

// connInput compiles what is known of a connection.
func connInput(m proto.Message) Input {
	switch m.(type) {
	case *networkv3.DestinationIPInput:
		return address(func(c *stream.Conn) stream.Address { return c.Local })
	case *networkv3.SourceIPInput:
		return address(func(c *stream.Conn) stream.Address { return c.Remote })
	case *networkv3.DirectSourceIPInput:
		return address(func(c *stream.Conn) stream.Address { return c.DirectRemote })
	case *networkv3.DestinationPortInput:
		return port(func(c *stream.Conn) stream.Address { return c.Local })
	case *networkv3.SourcePortInput:
		return port(func(c *stream.Conn) stream.Address { return c.Remote })
	case *networkv3.SourceTypeInput:
		return conn(func(c *stream.Conn) string {
			if c.Remote.Addr().IsLoopback() || c.Remote.IsValid() && c.Remote.Addr() == c.Local.Addr() {
				return "local"
			}
			return ""
		})
	case *networkv3.ServerNameInput:
		return conn(func(c *stream.Conn) string { return c.ServerName })
	case *networkv3.TransportProtocolInput:
		return func(d Data) (string, bool) { return d.TransportProtocol, d.TransportProtocol != "" }
	case *networkv3.ApplicationProtocolInput:
		return conn(func(c *stream.Conn) string {
			if len(c.ALPN) == 0 {
				return ""
			}
			return "'" + strings.Join(c.ALPN, "','") + "'"
		})
	case *sslv3.UriSanInput:
		return tls(func(t stream.TLSInfo) string { return strings.Join(t.PeerURISANs(), ",") })
	case *sslv3.DnsSanInput:
		return tls(func(t stream.TLSInfo) string { return strings.Join(t.PeerDNSSANs(), ",") })
	case *sslv3.SubjectInput:
		return tls(func(t stream.TLSInfo) string { return t.PeerSubject() })
	}
	return nil
}

func conn(f func(c *stream.Conn) string) Input {
	return func(d Data) (string, bool) {
		if d.Conn == nil {
			return "", false
		}
		v := f(d.Conn)
		return v, v != ""
	}
}

func tls(f func(t stream.TLSInfo) string) Input {
	return conn(func(c *stream.Conn) string {
		if c.TLS == nil {
			return ""
		}
		return f(c.TLS)
	})
}

func address(f func(c *stream.Conn) stream.Address) Input {
	return conn(func(c *stream.Conn) string {
		if a := f(c); a.IsValid() {
			return a.Addr().String()
		}
		return ""
	})
}

func port(f func(c *stream.Conn) stream.Address) Input {
	return conn(func(c *stream.Conn) string {
		if a := f(c); a.IsValid() {
			return strconv.Itoa(int(a.Port()))
		}
		return ""
	})
}

func parseAddr(v string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(v)
	return a, err == nil
}

func (c inputs) predicate(m *xdsmatcherv3.Matcher_MatcherList_Predicate) (predicate, error) {
	switch p := m.GetMatchType().(type) {
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_:
		f, err := c.single(p.SinglePredicate)
		return f, under("single_predicate", err)
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_OrMatcher:
		all, err := c.predicates(p.OrMatcher.GetPredicate())
		return func(d Data) bool {
			for _, f := range all {
				if f(d) {
					return true
				}
			}
			return false
		}, under("or_matcher", err)
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_AndMatcher:
		all, err := c.predicates(p.AndMatcher.GetPredicate())
		return func(d Data) bool {
			for _, f := range all {
				if !f(d) {
					return false
				}
			}
			return true
		}, under("and_matcher", err)
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_NotMatcher:
		f, err := c.predicate(p.NotMatcher)
		return func(d Data) bool { return !f(d) }, under("not_matcher", err)
	}
	return nil, errors.New("match_type: is required")
}

func under(field string, err error) error {
	if err != nil {
		return fmt.Errorf("%s.%w", field, err)
	}
	return nil
}

func (c inputs) predicates(list []*xdsmatcherv3.Matcher_MatcherList_Predicate) ([]predicate, error) {
	var all []predicate
	for i, p := range list {
		f, err := c.predicate(p)
		if err != nil {
			return nil, fmt.Errorf("predicate[%d].%w", i, err)
		}
		all = append(all, f)
	}
	return all, nil
}

func (c inputs) single(p *xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate) (predicate, error) {
	in, err := c.input(p.GetInput())
	if err != nil {
		return nil, fmt.Errorf("input: %w", err)
	}
	switch m := p.GetMatcher().(type) {
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch:
		s, err := compileXDSString(m.ValueMatch)
		if err != nil {
			return nil, fmt.Errorf("value_match.%w", err)
		}
		return func(d Data) bool {
			v, ok := in(d)
			return ok && s.Match(v)
		}, nil
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_CustomMatch:
		return c.custom(in, m.CustomMatch)
	}
	return nil, errors.New("matcher: is required")
}

// custom compiles the matchers of envoy.matching.input_matchers.
func (c inputs) custom(in Input, p *xdscorev3.TypedExtensionConfig) (predicate, error) {
	m, _, err := protofile.Unpack(p.GetTypedConfig())
	if err != nil {
		return nil, fmt.Errorf("custom_match: %w", unknown(p))
	}
	switch x := m.(type) {
	case *ipv3.Ip:
		set, err := CompileCIDRs(x.GetCidrRanges())
		if err != nil {
			return nil, fmt.Errorf("custom_match.cidr_ranges%w", err)
		}
		return func(d Data) bool {
			v, ok := in(d)
			if !ok {
				return false
			}
			a, ok := parseAddr(v)
			return ok && set.Contains(a)
		}, nil
	case *fractionv3.RuntimeFraction:
		if x.GetSeed() != 0 {
			return nil, errors.New("custom_match.seed: is not supported")
		}
		share := runtime.CompileFraction(x.GetRuntimeFraction(), 100)
		return func(d Data) bool {
			_, ok := in(d)
			return ok && share.Hit(c.runtime.Load(), d.Draw)
		}, nil
	}
	return nil, fmt.Errorf("custom_match: %w", unknown(p))
}
