package route

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

// compiler is what the parts of one configuration share while it is compiled.
type compiler struct {
	env              *Env
	validate         bool
	maxBody          int
	mostSpecificWins bool
	level            level
	filters          []filterConfig
	mirrors          []Mirror
	plugins          map[string]bool // cluster specifier plugins that are optional and unknown
}

// Compile builds the table of c, or says what in c it does not honour.
func Compile(c *routev3.RouteConfiguration, env Env) (*Table, error) {
	t, err := compile(c, &env)
	if err != nil {
		return nil, fmt.Errorf("route config %q: %w", c.GetName(), err)
	}
	return t, nil
}

func compile(c *routev3.RouteConfiguration, env *Env) (*Table, error) {
	b, err := newCompiler(c, env)
	if err != nil {
		return nil, err
	}
	t := &Table{
		Name: c.GetName(), hosts: newHosts(), vhostHeader: strings.ToLower(c.GetVhostHeader()),
		ignorePort: c.GetIgnorePortInHostMatching(), ignoreParameters: c.GetIgnorePathParametersInPathMatching(),
	}
	for _, h := range c.GetInternalOnlyHeaders() {
		t.InternalOnlyHeaders = append(t.InternalOnlyHeaders, strings.ToLower(h))
	}
	if t.Metadata, err = metadata(c.GetMetadata()); err != nil {
		return nil, fmt.Errorf("metadata.%w", err)
	}
	for i, v := range c.GetVirtualHosts() {
		vh, err := b.virtualHost(v)
		if err == nil {
			err = t.hosts.add(v.GetDomains(), vh)
		}
		if err != nil {
			return nil, fmt.Errorf("virtual_hosts[%d] %q: %w", i, v.GetName(), err)
		}
	}
	t.hosts.finish()
	return t, nil
}

func newCompiler(c *routev3.RouteConfiguration, env *Env) (*compiler, error) {
	b := &compiler{env: env, validate: env.Validate, maxBody: 4096, mostSpecificWins: c.GetMostSpecificHeaderMutationsWins(), plugins: map[string]bool{}}
	if v := c.GetValidateClusters(); v != nil {
		b.validate = v.GetValue()
	}
	if v := c.GetMaxDirectResponseBodySizeBytes(); v != nil {
		b.maxBody = int(v.GetValue()) // 0: no limit
	}
	switch {
	case c.GetVhds() != nil:
		return nil, errors.New("vhds: discovery of virtual hosts is not supported")
	case len(c.GetRouteSpecifiers()) > 0:
		return nil, fmt.Errorf("route_specifiers[0]: %w", unregistered(c.GetRouteSpecifiers()[0]))
	}
	for i, p := range c.GetClusterSpecifierPlugins() {
		if !p.GetIsOptional() {
			return nil, fmt.Errorf("cluster_specifier_plugins[%d]: %w", i, unregistered(p.GetExtension()))
		}
		b.plugins[p.GetExtension().GetName()] = true
	}
	var err error
	if b.level, err = compileLevel(c); err != nil {
		return nil, err
	}
	if b.filters, err = b.filterConfigs(c.GetTypedPerFilterConfig()); err != nil {
		return nil, err
	}
	b.mirrors, err = b.compileMirrors(c.GetRequestMirrorPolicies())
	return b, err
}

// host is what the routes of one virtual host share while they are compiled.
type host struct {
	*compiler

	vh      *VirtualHost
	p       *routev3.VirtualHost
	levels  []level // of the virtual host and the table
	filters []filterConfig
	mirrors []Mirror
}

func (t *compiler) virtualHost(p *routev3.VirtualHost) (*VirtualHost, error) {
	if err := refuseVirtualHost(p); err != nil {
		return nil, err
	}
	v := &VirtualHost{
		Name: p.GetName(), requireTLS: p.GetRequireTls(), IncludeRequestAttemptCount: p.GetIncludeRequestAttemptCount(),
		IncludeAttemptCountInResponse: p.GetIncludeAttemptCountInResponse(), IncludeIsTimeoutRetryHeader: p.GetIncludeIsTimeoutRetryHeader(),
	}
	v.toTLS = &Route{VirtualHost: v, RequestBufferLimit: Unset, Redirect: &Redirect{Status: 301, tls: true}}
	h := &host{compiler: t, vh: v, p: p}
	l, err := compileLevel(p)
	if err != nil {
		return nil, err
	}
	h.levels = []level{l, t.level}
	own, err := t.filterConfigs(p.GetTypedPerFilterConfig())
	if err != nil {
		return nil, err
	}
	h.filters = slices.Concat(own, t.filters)
	if h.mirrors, err = t.compileMirrors(p.GetRequestMirrorPolicies()); err != nil {
		return nil, err
	}
	if len(h.mirrors) == 0 {
		h.mirrors = t.mirrors
	}
	if v.Metadata, err = metadata(p.GetMetadata()); err != nil {
		return nil, fmt.Errorf("metadata.%w", err)
	}
	if v.Cors, err = compileCors(p.GetCors()); err != nil {
		return nil, err
	}
	if v.RateLimits, err = t.rateLimits(p.GetRateLimits()); err != nil {
		return nil, err
	}
	if err := h.virtualClusters(); err != nil {
		return nil, err
	}
	return v, h.routes()
}

func refuseVirtualHost(p *routev3.VirtualHost) error {
	switch {
	case len(p.GetRouteSpecifiers()) > 0:
		return fmt.Errorf("route_specifiers[0]: %w", unregistered(p.GetRouteSpecifiers()[0]))
	case p.GetRetryPolicyTypedConfig() != nil:
		return errors.New("retry_policy_typed_config: extensions of the retry policy are not supported")
	case p.GetMatcher() != nil && len(p.GetRoutes()) > 0:
		return errors.New("matcher: cannot set both matcher and routes on virtual host")
	}
	return nil
}

func (h *host) virtualClusters() error {
	v := h.vh
	for i, c := range h.p.GetVirtualClusters() {
		headers, err := match.CompileHeaders(c.GetHeaders())
		if err != nil {
			return fmt.Errorf("virtual_clusters[%d].headers%w", i, err)
		}
		if len(headers) == 0 {
			return fmt.Errorf("virtual_clusters[%d].headers: virtual clusters must define 'headers'", i)
		}
		v.VirtualClusters = append(v.VirtualClusters, VirtualCluster{c.GetName(), h.stats("vcluster", c.GetName()), headers})
	}
	if len(v.VirtualClusters) > 0 {
		v.OtherCluster = &VirtualCluster{Name: "other", Stats: h.stats("vcluster", "other")}
	}
	return nil
}

func (h *host) stats(kind, name string) any {
	if h.env.Stats == nil {
		return nil
	}
	return h.env.Stats(kind, h.vh.Name, name)
}

func (h *host) routes() error {
	if h.p.GetMatcher() != nil {
		return h.matcherTree()
	}
	var list []*Route
	for i, p := range h.p.GetRoutes() {
		r, err := h.route(p)
		if err != nil {
			return fmt.Errorf("routes[%d]: %w", i, err)
		}
		list = append(list, r)
	}
	h.vh.finder = newFinder(list)
	return nil
}

func (h *host) route(p *routev3.Route) (r *Route, err error) {
	if len(p.GetRouteSpecifiers()) > 0 {
		return nil, fmt.Errorf("route_specifiers[0]: %w", unregistered(p.GetRouteSpecifiers()[0]))
	}
	r = &Route{Name: p.GetName(), VirtualHost: h.vh}
	if r.matcher, err = compileMatcher(p.GetMatch(), h.env); err != nil {
		return nil, fmt.Errorf("match.%w", err)
	}
	l, err := compileLevel(p)
	if err != nil {
		return nil, err
	}
	r.edits = joinLevels(append([]level{l}, h.levels...), h.mostSpecificWins)
	own, err := h.filterConfigs(p.GetTypedPerFilterConfig())
	if err != nil {
		return nil, err
	}
	r.filters = slices.Concat(own, h.filters)
	if err := h.routeFields(p, r); err != nil {
		return nil, err
	}
	if err := h.what(p, r); err != nil {
		return nil, err
	}
	return r, h.knownMirrors(r)
}

// knownMirrors checks the clusters of the mirrors that hold for a route: those of the levels above may be overruled.
func (h *host) knownMirrors(r *Route) error {
	all := h.mirrors
	if r.Action != nil {
		all = r.Action.Mirrors
	}
	for i := range all {
		if err := h.known(all[i].Cluster, "unknown shadow cluster"); err != nil {
			return fmt.Errorf("request_mirror_policies[%d].cluster: %w", i, err)
		}
	}
	return nil
}

func (h *host) routeFields(p *routev3.Route, r *Route) (err error) {
	if r.Metadata, err = metadata(p.GetMetadata()); err != nil {
		return fmt.Errorf("metadata.%w", err)
	}
	if d := p.GetDecorator(); d != nil {
		r.Decorator = &Decorator{d.GetOperation(), d.GetPropagate() == nil || d.GetPropagate().GetValue()}
	}
	if r.Tracing, err = compileTracing(p.GetTracing()); err != nil {
		return fmt.Errorf("tracing.%w", err)
	}
	if s := p.GetStatPrefix(); s != "" {
		r.Stats = h.stats("route", s)
	}
	if r.RequestBufferLimit = bufferLimit(p); r.RequestBufferLimit == Unset {
		r.RequestBufferLimit = bufferLimit(h.p)
	}
	return nil
}

// bufferLimited is a route or a virtual host.
type bufferLimited interface {
	GetPerRequestBufferLimitBytes() *wrapperspb.UInt32Value
	GetRequestBodyBufferLimit() *wrapperspb.UInt64Value
}

// bufferLimit is the newer field, or else the older one.
func bufferLimit(p bufferLimited) int64 {
	if limit := p.GetRequestBodyBufferLimit(); limit != nil {
		return int64(min(limit.GetValue(), math.MaxInt64))
	}
	if old := p.GetPerRequestBufferLimitBytes(); old != nil {
		return int64(old.GetValue())
	}
	return Unset
}

// what compiles what is done with a request.
func (h *host) what(p *routev3.Route, r *Route) (err error) {
	switch a := p.GetAction().(type) {
	case *routev3.Route_Redirect:
		if r.Redirect, err = compileRedirect(a.Redirect, &r.matcher); err != nil {
			return fmt.Errorf("redirect.%w", err)
		}
	case *routev3.Route_DirectResponse:
		if r.Direct, err = h.direct(a.DirectResponse); err != nil {
			return fmt.Errorf("direct_response.%w", err)
		}
	case *routev3.Route_NonForwardingAction:
		r.NonForwarding = true
	case *routev3.Route_Route:
		if err = h.action(a.Route, r); err == nil && a.Route.GetWeightedClusters() != nil {
			err = h.compileWeighted(a.Route.GetWeightedClusters(), r)
		}
		if err != nil {
			return fmt.Errorf("route.%w", err)
		}
	case *routev3.Route_FilterAction:
		return errors.New("filter_action: is not implemented, as in Envoy")
	default:
		return errors.New("action: is required")
	}
	return nil
}

func (t *compiler) rateLimits(list []*routev3.RateLimit) (any, error) {
	if len(list) == 0 {
		return nil, nil
	}
	if t.env.RateLimits == nil {
		return nil, rateLimitExtensions(list)
	}
	l, err := t.env.RateLimits(list)
	if err != nil {
		return nil, fmt.Errorf("rate_limits%w", err)
	}
	return l, nil
}

// rateLimitExtensions refuses actions that would have to be there even if no filter limits rates.
func rateLimitExtensions(list []*routev3.RateLimit) error {
	for i, l := range list {
		for j, a := range l.GetActions() {
			if e := a.GetExtension(); e != nil {
				return fmt.Errorf("rate_limits[%d].actions[%d].extension: %w", i, j, unregistered(e))
			}
		}
	}
	return nil
}

// known refuses a cluster that is not there, if clusters are to be validated.
func (t *compiler) known(name, what string) error {
	if name != "" && t.validate && t.env.HasCluster != nil && !t.env.HasCluster(name) {
		return fmt.Errorf("route: %s '%s'", what, name)
	}
	return nil
}

// filterConfigs compiles typed_per_filter_config, by name.
func (t *compiler) filterConfigs(m map[string]*anypb.Any) ([]filterConfig, error) {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	var all []filterConfig
	for _, name := range names {
		f, skip, err := t.filterConfig(name, m[name])
		if err != nil {
			return nil, fmt.Errorf("typed_per_filter_config[%q]: %w", name, err)
		}
		if !skip {
			all = append(all, f)
		}
	}
	return all, nil
}

func (t *compiler) filterConfig(name string, a *anypb.Any) (f filterConfig, skip bool, err error) {
	f = filterConfig{name: name}
	optional := false
	if a.MessageIs((*routev3.FilterConfig)(nil)) {
		w := &routev3.FilterConfig{}
		if err := a.UnmarshalTo(w); err != nil {
			return f, false, err
		}
		optional, f.disabled, a = w.GetIsOptional(), w.GetDisabled(), w.GetConfig()
		if a == nil && !f.disabled {
			return f, false, fmt.Errorf("empty route/virtual host per filter configuration for %s filter", name)
		}
	}
	if a == nil || f.disabled {
		return f, false, nil
	}
	if t.env.FilterConfig == nil {
		return f, optional, optionalError(optional, &extension.NotFoundError{Name: name, URL: a.GetTypeUrl()})
	}
	f.config, err = t.env.FilterConfig(name, a)
	if _, ok := errors.AsType[*extension.NotFoundError](err); ok {
		return f, optional, optionalError(optional, err)
	}
	return f, false, err
}

func optionalError(optional bool, err error) error {
	if optional {
		return nil
	}
	return err
}

// metadata compiles filter_metadata. Typed metadata would have to be parsed by an extension.
func metadata(p *corev3.Metadata) (stream.Metadata, error) {
	var m stream.Metadata
	for ns, s := range p.GetFilterMetadata() {
		if m == nil {
			m = stream.Metadata{}
		}
		m[ns] = s.AsMap()
	}
	return m, nil
}

// criteria compiles metadata_match: what it says of "envoy.lb", by key.
func mergeCriteria(inherited []Criterion, p *corev3.Metadata) ([]Criterion, error) {
	own := p.GetFilterMetadata()["envoy.lb"]
	if own == nil {
		return inherited, nil
	}
	return lb.Merge(inherited, lb.Criteria(own.AsMap())), nil
}

type extensionConfig = *corev3.TypedExtensionConfig

func unregistered(c extensionConfig) error {
	return &extension.NotFoundError{Name: c.GetName(), URL: c.GetTypedConfig().GetTypeUrl()}
}

// unpack fills m from an extension that has to be of m's type.
func unpack[M proto.Message](c extensionConfig, m M) error {
	got, _, err := protofile.Unpack(c.GetTypedConfig())
	if err != nil || got.ProtoReflect().Descriptor() != m.ProtoReflect().Descriptor() {
		return unregistered(c)
	}
	proto.Merge(m, got)
	return nil
}
