package statefulsession

import (
	"net/netip"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	sessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	headerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/header/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/filtertest"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &sessionv3.StatefulSession{}, &sessionv3.StatefulSessionPerRoute{})
}

// plain is a session state that carries the address as it is.
type plain struct{}

func (plain) Read(s *filter.Stream) (string, bool) {
	v, _ := s.Request.Header.Get("x-host")
	return v, !s.Request.Header.Has("x-none")
}

func (plain) Write(s *filter.Stream, asked, host string) bool {
	if asked != host {
		s.Response.Header.Set("x-host", host)
	}
	return asked != host
}

// extension stands for it in a configuration.
func extension(t *testing.T) *corev3.TypedExtensionConfig {
	t.Helper()
	a, err := anypb.New(&headerv3.HeaderBasedSessionState{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	return &corev3.TypedExtensionConfig{Name: "plain", TypedConfig: a}
}

func build(g *filtertest.Stage, p *sessionv3.StatefulSession) *Filter {
	g.T.Helper()
	g.Env.Extensions = &filter.Extensions{}
	filter.AddSessionState(g.Env.Extensions, func(*headerv3.HeaderBasedSessionState, filter.Env) (filter.SessionState, error) { return plain{}, nil })
	f, err := filtertest.New(g, p, New)
	if err != nil {
		g.T.Fatal(err)
	}
	g.Use(f)
	return f.(*Filter)
}

func TestSession(t *testing.T) {
	here := stream.Address{AddrPort: netip.MustParseAddrPort("10.0.0.1:80")}
	const ok, uh = 0, stream.NoHealthyUpstream
	for name, c := range map[string]struct {
		head   []string
		strict bool
		status uint32
		host   stream.Address // that serves
		flags  stream.Flags
		want   filter.Override
		header string
		counts [4]uint64 // routed, failed open, failed closed, no session
	}{
		"a new session":     {nil, false, 0, here, ok, filter.Override{}, "10.0.0.1:80", [4]uint64{0, 1, 0, 0}},
		"one that goes on":  {[]string{"x-host: 10.0.0.1:80"}, false, 0, here, ok, filter.Override{Address: "10.0.0.1:80", Status: 503}, "", [4]uint64{1, 0, 0, 0}},
		"its host has gone": {[]string{"x-host: 10.0.0.2:80"}, false, 0, here, ok, filter.Override{Address: "10.0.0.2:80", Status: 503}, "10.0.0.1:80", [4]uint64{0, 1, 0, 0}},
		"strict":            {[]string{"x-host: 10.0.0.2:80"}, true, 0, stream.Address{}, uh, filter.Override{Address: "10.0.0.2:80", Strict: true, Status: 503}, "", [4]uint64{0, 0, 1, 0}},
		"a status":          {[]string{"x-host: 10.0.0.2:80"}, true, 410, stream.Address{}, uh, filter.Override{Address: "10.0.0.2:80", Strict: true, Status: 410}, "", [4]uint64{0, 0, 1, 0}},
		"none for this":     {[]string{"x-none: 1"}, false, 0, here, ok, filter.Override{}, "", [4]uint64{0, 0, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			filtertest.Each(t, func(g *filtertest.Stage) {
				f := build(g, &sessionv3.StatefulSession{SessionState: extension(g.T), Strict: c.strict, StatPrefix: "p", StatusOnStrictDestinationNotFound: c.status})
				var got filter.Override
				seen := g.Serve(&filtertest.Play{Head: c.head, Upstream: func(s *filter.Stream, _ string) {
					got = s.Override
					s.Info.Upstream.Host, s.Info.Flags = c.host, c.flags
				}})
				st := f.stats
				counts := [4]uint64{st.Routed.Value(), st.FailedOpen.Value(), st.FailedClosed.Value(), st.NoSession.Value()}
				if got != c.want || seen.Get("x-host") != c.header || counts != c.counts {
					g.T.Errorf("%+v, x-host %q, counts %v", got, seen.Get("x-host"), counts)
				}
			})
		})
	}
}

func TestNoState(t *testing.T) {
	filtertest.Each(t, func(g *filtertest.Stage) {
		f := build(g, &sessionv3.StatefulSession{StatPrefix: "p"})
		seen := g.Serve(&filtertest.Play{Head: []string{"x-host: 1"}, Upstream: func(s *filter.Stream, _ string) {
			s.Info.Upstream.Host = stream.Address{Path: "/sock"}
		}})
		if seen.Get("x-host") != "" || f.stats.NoSession.Value() != 1 {
			g.T.Errorf("%v", seen)
		}
	})
}

func TestAllocs(t *testing.T) {
	filtertest.Each(t, func(g *filtertest.Stage) {
		build(g, &sessionv3.StatefulSession{SessionState: extension(g.T)})
		if n := g.Allocs(&filtertest.Play{Head: []string{"x-host: 10.0.0.1:80"}}); n > 0 {
			g.T.Errorf("%v allocations", n)
		}
	})
}

func TestPerRoute(t *testing.T) {
	env := filter.Env{Process: &filter.Process{Extensions: &filter.Extensions{}}}
	off, err := NewPerRoute(&sessionv3.StatefulSessionPerRoute{Override: &sessionv3.StatefulSessionPerRoute_Disabled{Disabled: true}}, env)
	if c, ok := off.(*config); !ok || c != nil || err != nil {
		t.Errorf("%v, %v", off, err)
	}
	_, err = NewPerRoute(&sessionv3.StatefulSessionPerRoute{Override: &sessionv3.StatefulSessionPerRoute_StatefulSession{
		StatefulSession: &sessionv3.StatefulSession{SessionState: extension(t)},
	}}, env)
	if err == nil || !strings.HasPrefix(err.Error(), "stateful_session.session_state.typed_config: didn't find a registered implementation for 'plain'") {
		t.Errorf("%v", err)
	}
	if _, err := parse(&sessionv3.StatefulSession{StatusOnStrictDestinationNotFound: 99}, env); err == nil {
		t.Error("99 is taken")
	}
}
