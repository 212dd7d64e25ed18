// Package listener accepts connections, inspects them, and hands each to its filter chain.
//
// The Manager, on the control loop, owns the listeners; each Listener has sockets, a current version of its configuration, and a
// place on each worker, which has the connections. The life of a connection is told in connection.go.
package listener

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/drain"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/snapshot"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Listener has addresses, sockets and connections. Its configuration changes below it as long as the sockets stay the same.
type Listener struct {
	// set at construction
	m        *Manager
	name     string
	limitKey string // runtime key of the connection limit
	stats    *listenerStats
	scope    stats.Scope
	drain    *drain.Drain
	places   []*place // by worker
	balance  *balance // nil: the kernel's choice
	// owned by the control loop
	static  bool
	state   State
	sockets []*bound
	stopped []stream.Address // where the sockets were, once they are closed
	proto   *listenerv3.Listener
	xds     string // version of the response that brought it
	updated time.Time
	warm    *version // the next version, while it warms
	// replaces is the listener whose place l takes once it is warm.
	replaces *Listener
	// atomic
	current snapshot.Value[version]
	open    atomic.Int64 // connections, those under inspection too
}

// version is one configuration of a listener.
type version struct {
	config  *config
	filters []inspector
	chains  *chains
	list    []*chain // all of them
	loggers filter.Loggers
	// owned by the control loop
	proto   *listenerv3.Listener
	xds     string
	pending int    // what it waits for to be warm
	ready   func() // called when pending comes to nothing
}

// inspector is a listener filter and the predicate that switches it off.
type inspector struct {
	filter   filter.ListenerFilter
	disabled predicate // nil: never
}

// bound is an endpoint with its sockets: one for each worker, or one that they share.
type bound struct {
	endpoint

	sockets   []*fiber.Socket
	accepting []fiber.Listener // by worker; each element belongs to its worker
}

type listenerStats struct {
	Total            stats.Counter   `stat:"downstream_cx_total"`
	Destroy          stats.Counter   `stat:"downstream_cx_destroy"`
	Active           stats.Gauge     `stat:"downstream_cx_active"`
	Length           stats.Histogram `stat:"downstream_cx_length_ms"`
	Overflow         stats.Counter   `stat:"downstream_cx_overflow"`
	OverloadReject   stats.Counter   `stat:"downstream_cx_overload_reject"`
	TransportTimeout stats.Counter   `stat:"downstream_cx_transport_socket_connect_timeout"`
	GlobalOverflow   stats.Counter   `stat:"downstream_global_cx_overflow"`
	FilterError      stats.Counter   `stat:"downstream_listener_filter_error"`
	RemoteClose      stats.Counter   `stat:"downstream_listener_filter_remote_close"`
	PreActive        stats.Gauge     `stat:"downstream_pre_cx_active"`
	PreTimeout       stats.Counter   `stat:"downstream_pre_cx_timeout"`
	NoMatch          stats.Counter   `stat:"no_filter_chain_match"`
	PerEvent         stats.Histogram `stat:"connections_accepted_per_socket_event"`
	ConfigMissing    stats.Counter   `stat:"extension_config_missing"`
	NetworkMissing   stats.Counter   `stat:"network_extension_config_missing"`
}

type placeStats struct {
	Total  stats.Counter `stat:"downstream_cx_total"`
	Active stats.Gauge   `stat:"downstream_cx_active"`
}

func newListener(m *Manager, c *config, static bool) *Listener {
	l := &Listener{
		m: m, name: c.name, static: static, limitKey: "envoy.resource_limits.listener." + c.name + ".connection_limit",
		scope: m.config.Stats.Root().Sub("listener").Sub(stats.Sanitize(c.statPrefix)),
	}
	l.stats = stats.New[listenerStats](l.scope)
	parent := m.config.Drain
	if c.modifyOnly {
		parent = nil
	}
	l.drain = drain.New(parent)
	for _, w := range m.config.Workers {
		l.places = append(l.places, &place{l: l, w: w, stats: stats.New[placeStats](l.scope.Sub(fmt.Sprintf("worker_%d", w.ID)))})
	}
	if c.exact {
		l.balance = newBalance(l.places)
	}
	return l
}

// build makes the version that p describes; chains that are the same as in old are taken over with their connections.
func (l *Listener) build(p *listenerv3.Listener, c *config, old *version) (*version, error) {
	v := &version{config: c, proto: p, ready: func() {}}
	env := filter.Env{Process: l.m.config.Process, Listener: &filter.Listener{
		Name: c.name, Address: c.endpoints[0].Address, Metadata: c.metadata, Scope: l.scope, Drain: l.drain, Workers: len(l.places),
		Inbound: c.direction == corev3.TrafficDirection_INBOUND, Outbound: c.direction == corev3.TrafficDirection_OUTBOUND,
		BufferLimit: c.bufferSize, Warm: v.wait,
	}}
	var err error
	if v.loggers, err = filter.NewLoggers(p.GetAccessLog(), env); err != nil {
		return nil, fmt.Errorf("access_log%w", err)
	}
	if err := v.buildInspectors(p, env); err != nil {
		return nil, err
	}
	if err := v.buildChains(p, env, old); err != nil {
		v.close(old)
		v.end(old)
		return nil, err
	}
	return v, nil
}

// wait is filter.Listener.Warm.
func (v *version) wait() func() {
	v.pending++
	return func() {
		if v.pending--; v.pending == 0 {
			v.ready()
		}
	}
}

func (v *version) buildInspectors(p *listenerv3.Listener, env filter.Env) error {
	list := p.GetListenerFilters()
	for i, f := range append(slices.Clip(list), implied(p)...) {
		if f.GetConfigDiscovery() != nil {
			return fmt.Errorf("listener_filters[%d].config_discovery: is not supported", i)
		}
		if f.GetTypedConfig() == nil {
			return fmt.Errorf("listener_filters[%d]: didn't find a registered implementation for '%s' with type URL: ''", i, f.GetName())
		}
		env.Name = f.GetName()
		built, err := env.Extensions.Listener.Build(f.GetTypedConfig(), env)
		if err != nil {
			return fmt.Errorf("listener_filters[%d].typed_config: %w", i, err)
		}
		disabled, err := parsePredicate(f.GetFilterDisabled())
		if err != nil {
			return fmt.Errorf("listener_filters[%d].filter_disabled.%w", i, err)
		}
		v.filters = append(v.filters, inspector{built, disabled})
	}
	return nil
}

// implied are the listener filters that other fields ask for; as in Envoy they come last.
func implied(p *listenerv3.Listener) []*listenerv3.ListenerFilter {
	var l []*listenerv3.ListenerFilter
	add := func(name string, m proto.Message) {
		if a, err := anypb.New(m); err == nil {
			l = append(l, &listenerv3.ListenerFilter{Name: name, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: a}})
		}
	}
	if p.GetUseOriginalDst().GetValue() {
		add("envoy.filters.listener.original_dst", &originaldstv3.OriginalDst{})
	}
	if len(p.GetFilterChains()) > 0 && p.GetFilterChains()[0].GetUseProxyProto().GetValue() {
		add("envoy.filters.listener.proxy_protocol", &proxyprotocolv3.ProxyProtocol{})
	}
	return l
}

func (v *version) buildChains(p *listenerv3.Listener, env filter.Env, old *version) error {
	known := map[string]*chain{}
	if old != nil {
		for _, c := range old.list {
			known[c.key] = c
		}
	}
	from := environment(p)
	get := func(f *listenerv3.FilterChain) (*chain, error) {
		key := from + chainKey(f)
		if c := known[key]; c != nil {
			return c, nil
		}
		c, err := buildChain(f, env)
		if err == nil {
			c.key, known[key] = key, c
			v.list = append(v.list, c)
		}
		return c, err
	}
	matched := make([]*chain, len(p.GetFilterChains()))
	for i, f := range p.GetFilterChains() {
		c, err := get(f)
		if err != nil {
			return fmt.Errorf("filter_chains[%d].%w", i, err)
		}
		matched[i] = c
	}
	var fallback *chain
	if f := p.GetDefaultFilterChain(); f != nil {
		c, err := get(f)
		if err != nil {
			return fmt.Errorf("default_filter_chain.%w", err)
		}
		fallback = c
	}
	v.list = distinct(slices.Concat(matched, []*chain{fallback}))
	var err error
	if p.GetFilterChainMatcher() != nil {
		v.chains, err = compileMatcher(p, matched, fallback, env.Runtime)
	} else {
		v.chains, err = compileMatches(p.GetFilterChains(), matched, fallback)
	}
	return err
}

// close ends the chains that no other version has. Connections that there are go on.
func (v *version) close(other *version) {
	for _, c := range v.list {
		if other == nil || !slices.Contains(other.list, c) {
			c.close()
		}
	}
}

// end ends what the filters of these chains follow: no connection is left.
func (v *version) end(other *version) {
	for _, c := range v.list {
		if other == nil || !slices.Contains(other.list, c) {
			c.end()
		}
	}
}

// distinct returns the chains of l that are there, each once.
func distinct(l []*chain) []*chain {
	var out []*chain
	seen := map[*chain]bool{nil: true}
	for _, c := range l {
		if !seen[c] {
			seen[c] = true
			out = append(out, c)
		}
	}
	return out
}

// bind opens the sockets; on error none is left open.
func (l *Listener) bind(c *config) error {
	if !c.bind || l.m.config.Validate {
		return nil
	}
	for i := range c.endpoints {
		b := &bound{endpoint: c.endpoints[i], accepting: make([]fiber.Listener, len(l.places))}
		l.sockets = append(l.sockets, b)
		if err := b.open(c, len(l.places)); err != nil {
			l.unbind()
			return fmt.Errorf("cannot bind '%s': %w", c.endpoints[i], err)
		}
	}
	return nil
}

func (l *Listener) unbind() {
	for _, b := range l.sockets {
		for _, s := range b.sockets {
			s.Close()
		}
	}
	l.sockets = nil
}

// accept starts to take connections on every worker.
func (l *Listener) accept() {
	o := fiber.AcceptOptions{PerEvent: l.current.Load().config.perEvent}
	if l.balance != nil {
		o.Choose = l.balance.choose
	}
	for _, b := range l.sockets {
		for _, s := range b.sockets {
			if err := s.Listen(); err != nil {
				l.m.log.Error(fmt.Sprintf("listener '%s' cannot listen on '%s': %v", l.name, b.Address, err))
			}
		}
		for i, p := range l.places {
			s := b.sockets[i%len(b.sockets)]
			p.w.Post(func() {
				a, err := p.w.Accept(s, o, p.accept)
				if errors.Is(err, fiber.ErrClosed) {
					return // stopped meanwhile
				}
				if err != nil {
					l.m.log.Error(fmt.Sprintf("listener '%s' cannot accept on '%s': %v", l.name, b.Address, err))
					return
				}
				b.accepting[i] = a
			})
		}
	}
}

// stop closes the sockets; the connections go on.
func (l *Listener) stop() {
	for _, b := range l.sockets {
		l.stopped = append(l.stopped, b.local())
		for i, p := range l.places {
			p.w.Post(func() {
				if b.accepting[i] != nil {
					b.accepting[i].Close()
				}
			})
		}
		for _, s := range b.sockets {
			s.Close()
		}
	}
	l.sockets = nil
}

// end closes the connections whose chain gone wants; nil wants all.
func (l *Listener) end(gone func(*chain) bool) {
	for _, p := range l.places {
		p.w.Post(func() { p.end(gone) })
	}
}
