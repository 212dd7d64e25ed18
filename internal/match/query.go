package match

import (
	"fmt"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/outrigger-proxy/outrigger/internal/header"
)

// Query matches a query parameter (envoy.config.route.v3.QueryParameterMatcher). The first parameter of its name counts. Neither names nor
// values are percent-decoded, as in Envoy.
type Query struct {
	name    string
	kind    headerKind
	present bool
	value   String
}

// CompileQueries compiles a list.
func CompileQueries(list []*routev3.QueryParameterMatcher) ([]Query, error) {
	var all []Query
	for i, m := range list {
		q, err := CompileQuery(m)
		if err != nil {
			return nil, fmt.Errorf("[%d].%w", i, err)
		}
		all = append(all, q)
	}
	return all, nil
}

// CompileQuery compiles a QueryParameterMatcher. Without a specifier it asks for presence.
func CompileQuery(m *routev3.QueryParameterMatcher) (Query, error) {
	q := Query{name: m.GetName(), present: true}
	switch s := m.GetQueryParameterMatchSpecifier().(type) {
	case *routev3.QueryParameterMatcher_PresentMatch:
		q.present = s.PresentMatch
	case *routev3.QueryParameterMatcher_StringMatch:
		v, err := CompileString(s.StringMatch)
		if err != nil {
			return q, fmt.Errorf("string_match: %w", err)
		}
		q.kind, q.value = byValue, v
	}
	return q, nil
}

// Match says whether a path with its query matches.
func (q *Query) Match(path string) bool {
	v, there := QueryParameter(path, q.name)
	if q.kind == byPresence {
		return there == q.present
	}
	return there && q.value.Match(v)
}

// QueryParameter returns the first parameter of this name in the query of path, as it is written.
func QueryParameter(path, name string) (string, bool) {
	_, query, _ := strings.Cut(path, "?")
	if i := strings.IndexByte(query, '#'); i >= 0 {
		query = query[:i]
	}
	for query != "" {
		var p string
		p, query, _ = strings.Cut(query, "&")
		if k, v, _ := strings.Cut(p, "="); k == name {
			return v, true
		}
	}
	return "", false
}

// Cookie matches a cookie of a request (envoy.config.route.v3.CookieMatcher). A cookie that is not there does not match, and so
// matches inverted.
type Cookie struct {
	name   string
	invert bool
	value  String
}

// CompileCookies compiles a list.
func CompileCookies(list []*routev3.CookieMatcher) ([]Cookie, error) {
	var all []Cookie
	for i, m := range list {
		v, err := CompileString(m.GetStringMatch())
		if err != nil {
			return nil, fmt.Errorf("[%d].string_match: %w", i, err)
		}
		all = append(all, Cookie{m.GetName(), m.GetInvertMatch(), v})
	}
	return all, nil
}

// Match says whether the cookie matches.
func (c *Cookie) Match(h *header.Map) bool {
	v, ok := CookieValue(h, c.name)
	return (ok && c.value.Match(v)) != c.invert
}

// CookieValue returns the first cookie of this name, without the quotes around it.
func CookieValue(h *header.Map, name string) (string, bool) {
	for _, f := range h.All() {
		if f.Name != "cookie" {
			continue
		}
		for rest := f.Value; rest != ""; {
			var p string
			p, rest, _ = strings.Cut(rest, ";")
			k, v, ok := strings.Cut(strings.TrimLeft(p, " \t"), "=")
			if ok && k == name {
				return unquote(v), true
			}
		}
	}
	return "", false
}

func unquote(v string) string {
	if n := len(v); n >= 2 && v[0] == '"' && v[n-1] == '"' {
		return v[1 : n-1]
	}
	return v
}
