package route

import (
	"testing"

	mutationrulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	uritemplatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	uritemplaterewritev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/rewrite/uri_template/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &routev3.RouteConfiguration{}, &routev3.VirtualHost{}, &routev3.Route{}, &routev3.RouteMatch{}, &routev3.RouteAction{},
		&routev3.RedirectAction{}, &routev3.DirectResponseAction{}, &routev3.FilterAction{}, &routev3.RetryPolicy{}, &routev3.HedgePolicy{},
		&routev3.WeightedCluster{}, &routev3.InternalRedirectPolicy{}, &routev3.CorsPolicy{}, &routev3.Decorator{}, &routev3.Tracing{},
		&routev3.VirtualCluster{}, &routev3.HeaderMatcher{}, &routev3.QueryParameterMatcher{}, &routev3.CookieMatcher{}, &routev3.FilterConfig{},
		&routev3.ClusterSpecifierPlugin{}, &routev3.Vhds{}, &routev3.RateLimit{}, &mutationrulesv3.HeaderMutation{},
		&matcherv3.RegexMatcher{}, &matcherv3.RegexMatchAndSubstitute{}, &matcherv3.StringMatcher{}, &matcherv3.MetadataMatcher{}, &matcherv3.FilterStateMatcher{},
		&matcherv3.ValueMatcher{}, &matcherv3.DoubleMatcher{}, &matcherv3.ListMatcher{}, &matcherv3.OrMatcher{}, &matcherv3.AddressMatcher{},
		&uritemplatev3.UriTemplateMatchConfig{}, &uritemplaterewritev3.UriTemplateRewriteConfig{})
}
