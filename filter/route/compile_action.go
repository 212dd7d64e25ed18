package route

import (
	"errors"
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	earlydatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/early_data/v3"
	allowlistedv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/internal_redirect/allow_listed_routes/v3"
	previousroutesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/internal_redirect/previous_routes/v3"
	safecrossschemev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/internal_redirect/safe_cross_scheme/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/internal/format"
	"github.com/outrigger-proxy/outrigger/internal/hashpolicy"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/mutation"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/lb"
)

const defaultTimeout = 15 * time.Second

var notFoundCode = map[routev3.RouteAction_ClusterNotFoundResponseCode]int{
	routev3.RouteAction_SERVICE_UNAVAILABLE:   503,
	routev3.RouteAction_NOT_FOUND:             404,
	routev3.RouteAction_INTERNAL_SERVER_ERROR: 500,
}

// action compiles what sends r to a cluster; weights come later, when r is complete.
func (h *host) action(p *routev3.RouteAction, r *Route) (err error) {
	a := &Action{
		ClusterNotFoundCode: notFoundCode[p.GetClusterNotFoundResponseCode()], High: p.GetPriority() == corev3.RoutingPriority_HIGH,
		IncludeVhRateLimits: p.GetIncludeVhRateLimits().GetValue(),
	}
	r.Action = a
	if err := h.cluster(p, a); err != nil {
		return err
	}
	if err := a.refusals(p); err != nil {
		return err
	}
	a.timeouts(p)
	if a.MetadataMatch, err = mergeCriteria(nil, p.GetMetadataMatch()); err != nil {
		return fmt.Errorf("metadata_match: %w", err)
	}
	a.Fallbacks = lb.Fallbacks(a.MetadataMatch)
	w := ways{prefix: p.GetPrefixRewrite(), regex: p.GetRegexRewrite(), policy: p.GetPathRewritePolicy(), template: p.GetPathRewrite()}
	if a.path, err = w.compile(&r.matcher); err != nil {
		return err
	}
	if err := a.compileHost(p); err != nil {
		return err
	}
	if a.HashPolicy, err = hashpolicy.Compile(p.GetHashPolicy()); err != nil {
		return fmt.Errorf("hash_policy%w", err)
	}
	if a.Cors, err = compileCors(p.GetCors()); err != nil {
		return err
	}
	if a.RateLimits, err = h.rateLimits(p.GetRateLimits()); err != nil {
		return err
	}
	if a.Mirrors, err = h.compileMirrors(p.GetRequestMirrorPolicies()); err != nil {
		return err
	}
	if len(a.Mirrors) == 0 {
		a.Mirrors = h.mirrors
	}
	return h.policies(p, a)
}

func (h *host) policies(p *routev3.RouteAction, a *Action) (err error) {
	retry := p.GetRetryPolicy()
	if retry == nil {
		retry = h.p.GetRetryPolicy()
	}
	if a.Retry, err = compileRetry(retry); err != nil {
		return fmt.Errorf("retry_policy.%w", err)
	}
	hedge := p.GetHedgePolicy()
	if hedge == nil {
		hedge = h.p.GetHedgePolicy()
	}
	if a.Hedge, err = compileHedge(hedge); err != nil {
		return fmt.Errorf("hedge_policy.%w", err)
	}
	if a.Upgrades, err = compileUpgrades(p.GetUpgradeConfigs()); err != nil {
		return err
	}
	if a.InternalRedirect, err = compileInternalRedirect(p); err != nil {
		return fmt.Errorf("internal_redirect_policy.%w", err)
	}
	return nil
}

func (t *compiler) cluster(p *routev3.RouteAction, a *Action) error {
	switch c := p.GetClusterSpecifier().(type) {
	case *routev3.RouteAction_Cluster:
		a.Cluster = c.Cluster
		if err := t.known(a.Cluster, "unknown cluster"); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	case *routev3.RouteAction_ClusterHeader:
		a.ClusterHeader = strings.ToLower(c.ClusterHeader)
	case *routev3.RouteAction_WeightedClusters:
	case *routev3.RouteAction_ClusterSpecifierPlugin:
		if !t.plugins[c.ClusterSpecifierPlugin] {
			return fmt.Errorf("cluster_specifier_plugin: unknown cluster specifier plugin name: %s is used in the route", c.ClusterSpecifierPlugin)
		}
	case *routev3.RouteAction_InlineClusterSpecifierPlugin:
		if !c.InlineClusterSpecifierPlugin.GetIsOptional() {
			return fmt.Errorf("inline_cluster_specifier_plugin: %w", unregistered(c.InlineClusterSpecifierPlugin.GetExtension()))
		}
	default:
		return errors.New("cluster_specifier: is required")
	}
	return nil
}

// refusals are the fields that Envoy has on paper only, or that we cannot honour.
func (a *Action) refusals(p *routev3.RouteAction) error {
	if p.GetRetryPolicyTypedConfig() != nil {
		return errors.New("retry_policy_typed_config: extensions of the retry policy are not supported")
	}
	if c := p.GetEarlyDataPolicy(); c != nil {
		if err := unpack(c, &earlydatav3.DefaultEarlyDataPolicy{}); err != nil {
			return fmt.Errorf("early_data_policy: %w", err)
		}
		a.EarlyDataNever = true
	}
	return nil
}

func (a *Action) timeouts(p *routev3.RouteAction) {
	a.Timeout = duration(p.GetTimeout(), defaultTimeout)
	a.IdleTimeout = duration(p.GetIdleTimeout(), Unset)
	a.FlushTimeout = duration(p.GetFlushTimeout(), Unset)
	a.MaxGrpcTimeout = duration(p.GetMaxGrpcTimeout(), Unset)
	a.GrpcTimeoutOffset = duration(p.GetGrpcTimeoutOffset(), Unset)
	m := p.GetMaxStreamDuration()
	a.MaxStreamDuration = duration(m.GetMaxStreamDuration(), Unset)
	a.GrpcTimeoutHeaderMax = duration(m.GetGrpcTimeoutHeaderMax(), Unset)
	a.GrpcTimeoutHeaderOffset = duration(m.GetGrpcTimeoutHeaderOffset(), Unset)
	if a.StreamDuration = m != nil; m != nil { // "new timeouts": the route timeout is not used beside it
		a.Timeout, a.MaxGrpcTimeout, a.GrpcTimeoutOffset = 0, Unset, Unset
	}
}

func duration(p *durationpb.Duration, absent time.Duration) time.Duration {
	if p == nil {
		return absent
	}
	return p.AsDuration()
}

func compileHedge(p *routev3.HedgePolicy) (Hedge, error) {
	return Hedge{OnPerTryTimeout: p.GetHedgeOnPerTryTimeout()}, nil
}

func compileUpgrades(list []*routev3.RouteAction_UpgradeConfig) ([]Upgrade, error) {
	var all []Upgrade
	for i, p := range list {
		u := Upgrade{Type: strings.ToLower(p.GetUpgradeType()), Enabled: p.GetEnabled() == nil || p.GetEnabled().GetValue()}
		for _, o := range all {
			if o.Type == u.Type {
				return nil, fmt.Errorf("upgrade_configs[%d].upgrade_type: duplicate upgrade %s", i, p.GetUpgradeType())
			}
		}
		if c := p.GetConnectConfig(); c != nil {
			if u.Type != "connect" && u.Type != "connect-udp" {
				return nil, fmt.Errorf("upgrade_configs[%d].connect_config: non-CONNECT upgrade type %s has ConnectConfig", i, p.GetUpgradeType())
			}
			u.Connect = &Connect{AllowPost: c.GetAllowPost()}
			if pp := c.GetProxyProtocolConfig(); pp != nil {
				if pp.GetPassThroughTlvs() != nil || len(pp.GetAddedTlvs()) > 0 {
					return nil, fmt.Errorf("upgrade_configs[%d].connect_config.proxy_protocol_config: TLVs are not supported", i)
				}
				u.Connect.ProxyProtocol = int(pp.GetVersion()) + 1
			}
		}
		all = append(all, u)
	}
	return all, nil
}

func (t *compiler) compileMirrors(list []*routev3.RouteAction_RequestMirrorPolicy) ([]Mirror, error) {
	var all []Mirror
	for i, p := range list {
		m := Mirror{
			Cluster: p.GetCluster(), ClusterHeader: strings.ToLower(p.GetClusterHeader()), HostRewrite: p.GetHostRewriteLiteral(),
			NoShadowSuffix: p.GetDisableShadowHostSuffixAppend(), TraceSampled: p.GetTraceSampled() == nil || p.GetTraceSampled().GetValue(),
			TraceSampledSet: p.GetTraceSampled() != nil, runtime: t.env.Runtime, fraction: runtime.CompileFraction(p.GetRuntimeFraction(), 100),
		}
		if (m.Cluster == "") == (m.ClusterHeader == "") {
			return nil, fmt.Errorf("request_mirror_policies[%d]: exactly one of cluster and cluster_header must be specified", i)
		}
		if len(p.GetRequestHeadersMutations()) > 0 {
			l, err := mutation.CompileMutations(p.GetRequestHeadersMutations())
			if err != nil {
				return nil, fmt.Errorf("request_mirror_policies[%d].request_headers_mutations: %w", i, err)
			}
			m.edits.requests = []*mutation.List{l}
		}
		all = append(all, m)
	}
	return all, nil
}

func compileCors(p *routev3.CorsPolicy) (*Cors, error) {
	if p == nil {
		return nil, nil
	}
	c := &Cors{
		AllowMethods: p.GetAllowMethods(), AllowHeaders: p.GetAllowHeaders(), ExposeHeaders: p.GetExposeHeaders(), MaxAge: p.GetMaxAge(),
		AllowCredentials: p.GetAllowCredentials().GetValue(), AllowPrivateNetwork: p.GetAllowPrivateNetworkAccess().GetValue(),
		ForwardNotMatchingPreflights: p.GetForwardNotMatchingPreflights() == nil || p.GetForwardNotMatchingPreflights().GetValue(),
		Enabled:                      runtime.CompileFraction(p.GetFilterEnabled(), 100), Shadow: runtime.CompileFraction(p.GetShadowEnabled(), 0),
	}
	var err error
	if c.AllowOrigin, err = match.CompileStrings(p.GetAllowOriginStringMatch()); err != nil {
		return nil, fmt.Errorf("cors.allow_origin_string_match%w", err)
	}
	return c, nil
}

func compileInternalRedirect(a *routev3.RouteAction) (*InternalRedirect, error) {
	p := a.GetInternalRedirectPolicy()
	if p == nil {
		return legacyInternalRedirect(a), nil
	}
	r := &InternalRedirect{Max: 1, AllowCrossScheme: p.GetAllowCrossSchemeRedirect()}
	if n := p.GetMaxInternalRedirects(); n != nil {
		r.Max = int(n.GetValue())
	}
	for _, c := range p.GetRedirectResponseCodes() {
		switch c {
		case 301, 302, 303, 307, 308:
			r.Codes = append(r.Codes, int(c))
		}
	}
	if len(r.Codes) == 0 {
		r.Codes = []int{302}
	}
	for i, h := range p.GetResponseHeadersToCopy() {
		if strings.HasPrefix(h, ":") || strings.EqualFold(h, "host") {
			return nil, fmt.Errorf("response_headers_to_copy[%d]: ':'-prefixed headers or Hosts may not be specified here", i)
		}
		r.CopyHeaders = append(r.CopyHeaders, strings.ToLower(h))
	}
	for i, c := range p.GetPredicates() {
		if err := r.predicate(c); err != nil {
			return nil, fmt.Errorf("predicates[%d]: %w", i, err)
		}
	}
	return r, nil
}

// legacyInternalRedirect compiles internal_redirect_action and max_internal_redirects, which the policy has replaced.
func legacyInternalRedirect(a *routev3.RouteAction) *InternalRedirect {
	if a.GetInternalRedirectAction() != routev3.RouteAction_HANDLE_INTERNAL_REDIRECT {
		return nil
	}
	r := &InternalRedirect{Max: 1, Codes: []int{302}}
	if n := a.GetMaxInternalRedirects(); n != nil {
		r.Max = int(n.GetValue())
	}
	return r
}

func (r *InternalRedirect) predicate(c extensionConfig) error {
	m, _, err := protofile.Unpack(c.GetTypedConfig())
	if err != nil {
		return unregistered(c)
	}
	switch p := m.(type) {
	case *previousroutesv3.PreviousRoutesConfig:
		r.PreviousRoutes = true
	case *safecrossschemev3.SafeCrossSchemeConfig:
		r.SafeCrossScheme = true
	case *allowlistedv3.AllowListedRoutesConfig:
		r.AllowedRoutes = append(r.AllowedRoutes, p.GetAllowedRouteNames())
	default:
		return unregistered(c)
	}
	return nil
}

// CheckTracing refuses formats that are none, of a route or of a connection manager: tags and names of spans.
func CheckTracing(p interface {
	GetCustomTags() []*tracingv3.CustomTag
	GetOperation() string
	GetUpstreamOperation() string
},
) error {
	for i, t := range p.GetCustomTags() {
		if _, err := format.Compile(t.GetValue(), format.Options{}); err != nil {
			return fmt.Errorf("custom_tags[%d].value: %w", i, err)
		}
	}
	if _, err := format.Compile(p.GetOperation(), format.Options{}); err != nil {
		return fmt.Errorf("operation: %w", err)
	}
	if _, err := format.Compile(p.GetUpstreamOperation(), format.Options{}); err != nil {
		return fmt.Errorf("upstream_operation: %w", err)
	}
	return nil
}

func compileTracing(p *routev3.Tracing) (*Tracing, error) {
	if p == nil {
		return nil, nil
	}
	t := &Tracing{
		Client: runtime.Fraction{Numerator: 100, Denominator: 100}, Random: runtime.Fraction{Numerator: 100, Denominator: 100},
		Overall: runtime.Fraction{Numerator: 100, Denominator: 100}, CustomTags: p.GetCustomTags(),
	}
	if f := p.GetClientSampling(); f != nil {
		t.Client = runtime.CompileFractionalPercent(f)
	}
	if f := p.GetRandomSampling(); f != nil {
		t.Random = runtime.CompileFractionalPercent(f)
	}
	if f := p.GetOverallSampling(); f != nil {
		t.Overall = runtime.CompileFractionalPercent(f)
	}
	if err := CheckTracing(p); err != nil {
		return nil, err
	}
	var err error
	if o := p.GetOperation(); o != "" {
		if t.Operation, err = format.Compile(o, format.Options{OmitEmpty: true}); err != nil {
			return nil, fmt.Errorf("operation: %w", err)
		}
	}
	if o := p.GetUpstreamOperation(); o != "" {
		if t.UpstreamOperation, err = format.Compile(o, format.Options{OmitEmpty: true}); err != nil {
			return nil, fmt.Errorf("upstream_operation: %w", err)
		}
	}
	return t, nil
}
