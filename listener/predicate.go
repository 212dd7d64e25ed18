package listener

import (
	"errors"
	"fmt"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/outrigger-proxy/outrigger/filter"
)

// predicate says whether a listener filter is switched off for a connection (ListenerFilterChainMatchPredicate); nil never does.
type predicate func(a *filter.Accepted) bool

func parsePredicate(p *listenerv3.ListenerFilterChainMatchPredicate) (predicate, error) {
	switch r := p.GetRule().(type) {
	case nil:
		if p == nil {
			return nil, nil
		}
		return nil, errors.New("rule: is required")
	case *listenerv3.ListenerFilterChainMatchPredicate_AnyMatch:
		return func(*filter.Accepted) bool { return r.AnyMatch }, nil
	case *listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange:
		// Envoy's match of a range that is [start, end).
		from, to := r.DestinationPortRange.GetStart(), r.DestinationPortRange.GetEnd()
		return func(a *filter.Accepted) bool {
			port := int32(a.Info.Local.Port())
			return a.Info.Local.IsValid() && from <= port && port < to
		}, nil
	case *listenerv3.ListenerFilterChainMatchPredicate_NotMatch:
		not, err := parsePredicate(r.NotMatch)
		if err != nil {
			return nil, fmt.Errorf("not_match.%w", err)
		}
		return func(a *filter.Accepted) bool { return !not(a) }, nil
	case *listenerv3.ListenerFilterChainMatchPredicate_OrMatch:
		rules, err := parsePredicates("or_match", r.OrMatch)
		return func(a *filter.Accepted) bool { return anyOf(rules, a, true) }, err
	case *listenerv3.ListenerFilterChainMatchPredicate_AndMatch:
		rules, err := parsePredicates("and_match", r.AndMatch)
		return func(a *filter.Accepted) bool { return !anyOf(rules, a, false) }, err
	}
	return nil, fmt.Errorf("rule: %T is not supported", p.GetRule())
}

func parsePredicates(field string, set *listenerv3.ListenerFilterChainMatchPredicate_MatchSet) ([]predicate, error) {
	var l []predicate
	for i, p := range set.GetRules() {
		f, err := parsePredicate(p)
		if err != nil {
			return nil, fmt.Errorf("%s.rules[%d].%w", field, i, err)
		}
		l = append(l, f)
	}
	return l, nil
}

// anyOf says whether one of rules answers want.
func anyOf(rules []predicate, a *filter.Accepted, want bool) bool {
	for _, r := range rules {
		if r(a) == want {
			return true
		}
	}
	return false
}
