// Package statefulsession is the HTTP filter envoy.filters.http.stateful_session
// (type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession): the requests of a session go to the same host
// for as long as it is there. How a request shows its session is up to an extension (envoy.http.stateful_session).
//
// Differences to Envoy: none known.
package statefulsession

import (
	"fmt"

	sessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Filter tells the router which host a request belongs to, and the client which one has served it.
type Filter struct {
	// set at construction
	name  string
	own   *config
	stats *counters // nil: none
	slot  filter.Slot[session]
}

// session is what a stream remembers.
type session struct {
	use   *config // nil: a route has switched the filter off
	asked string
	has   bool
}

type counters struct {
	Routed       stats.Counter `stat:"routed"`
	FailedOpen   stats.Counter `stat:"failed_open"`
	FailedClosed stats.Counter `stat:"failed_closed"`
	NoSession    stats.Counter `stat:"no_session"`
}

// New builds the filter.
func New(p *sessionv3.StatefulSession, env filter.Env) (any, error) {
	c, err := parse(p, env)
	if err != nil {
		return nil, err
	}
	f := &Filter{name: env.Name, own: c, slot: filter.NewSlot[session](env)}
	if p.GetStatPrefix() != "" {
		f.stats = stats.New[counters](env.Scope.Sub("stateful_session").Sub(p.GetStatPrefix()))
	}
	return f, nil
}

// NewPerRoute builds what a route says instead.
func NewPerRoute(p *sessionv3.StatefulSessionPerRoute, env filter.Env) (any, error) {
	if _, off := p.GetOverride().(*sessionv3.StatefulSessionPerRoute_Disabled); off {
		return (*config)(nil), nil
	}
	c, err := parse(p.GetStatefulSession(), env)
	if err != nil {
		return nil, fmt.Errorf("stateful_session.%w", err)
	}
	return c, nil
}

// OnRequest reads the session.
func (f *Filter) OnRequest(s *filter.Stream) filter.Status {
	m := f.slot.Get(s)
	m.use = f.own
	if c, ok := s.Route.FilterConfig(f.name).(*config); ok {
		m.use = c
	}
	if m.use == nil || m.use.state == nil {
		return filter.Continue
	}
	if m.asked, m.has = m.use.state.Read(s); m.asked != "" {
		s.Override = filter.Override{Address: m.asked, Strict: m.use.strict, Status: m.use.status}
	}
	return filter.Continue
}

// OnResponse writes it.
func (f *Filter) OnResponse(s *filter.Stream) filter.Status {
	m := f.slot.Get(s)
	if m.use == nil {
		return filter.Continue
	}
	served, moved := s.Info.Upstream.Host != (stream.Address{}), false
	if m.has && served {
		moved = m.use.state.Write(s, m.asked, s.Info.Upstream.Host.String())
	}
	if f.stats != nil && m.use == f.own { // what a route says instead counts nothing
		f.count(m, served, moved, s.Info.Flags)
	}
	return filter.Continue
}

func (f *Filter) count(m *session, served, moved bool, flags stream.Flags) {
	switch {
	case !m.has:
		if served {
			f.stats.NoSession.Inc()
		}
	case served && !moved:
		f.stats.Routed.Inc()
	case served && !m.use.strict:
		f.stats.FailedOpen.Inc()
	case !served && m.use.strict && flags&stream.NoHealthyUpstream != 0:
		f.stats.FailedClosed.Inc()
	}
}
