package outlier

import (
	"fmt"

	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"

	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Errors says whether a response is an error (HttpProtocolOptions.OutlierDetection.error_matcher), whatever its status.
type Errors func(r *stream.Response) bool

// ParseErrors reads p, nil: nil. It knows heads of responses; what is sent, bodies and trailers are no part of a response's head.
func ParseErrors(p *matcherv3.MatchPredicate) (Errors, error) {
	if p == nil {
		return nil, nil
	}
	switch k := p.GetRule().(type) {
	case *matcherv3.MatchPredicate_AnyMatch:
		return func(*stream.Response) bool { return true }, nil
	case *matcherv3.MatchPredicate_NotMatch:
		e, err := ParseErrors(k.NotMatch)
		if err != nil {
			return nil, fmt.Errorf("not_match.%w", err)
		}
		return func(r *stream.Response) bool { return !e(r) }, nil
	case *matcherv3.MatchPredicate_OrMatch:
		return several("or_match", k.OrMatch, true)
	case *matcherv3.MatchPredicate_AndMatch:
		return several("and_match", k.AndMatch, false)
	case *matcherv3.MatchPredicate_HttpResponseHeadersMatch:
		l, err := match.CompileHeaders(k.HttpResponseHeadersMatch.GetHeaders())
		if err != nil {
			return nil, fmt.Errorf("http_response_headers_match.headers%w", err)
		}
		return func(r *stream.Response) bool {
			for i := range l {
				if !l[i].MatchResponse(r) {
					return false
				}
			}
			return true
		}, nil
	}
	return nil, fmt.Errorf("%T: only heads of responses can be matched", p.GetRule())
}

// several is true as soon as one of the rules is what stop says; else it is the contrary.
func several(path string, set *matcherv3.MatchPredicate_MatchSet, stop bool) (Errors, error) {
	var l []Errors
	for i, p := range set.GetRules() {
		e, err := ParseErrors(p)
		if err != nil {
			return nil, fmt.Errorf("%s.rules[%d].%w", path, i, err)
		}
		l = append(l, e)
	}
	return func(r *stream.Response) bool {
		for _, e := range l {
			if e(r) == stop {
				return stop
			}
		}
		return !stop
	}, nil
}
