package route

import (
	"errors"
	"fmt"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	uritemplatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
)

type pathKind uint8

const (
	pathPrefix pathKind = iota
	pathExact
	pathSeparated // a prefix that ends where a segment does
	pathRegex
	pathTemplate
	pathConnect
)

// matcher is a compiled RouteMatch.
type matcher struct {
	kind     pathKind
	fold     bool   // case_sensitive: false
	text     string // in lower case if fold
	re       *match.Regex
	template *template
	more     *conditions // nil: the path decides alone
}

// conditions are all that a RouteMatch says beyond the path.
type conditions struct {
	runtime  *runtime.Loader
	fraction runtime.Fraction
	sampled  bool // fraction is set
	grpc     bool
	headers  match.Headers
	queries  []match.Query
	cookies  []match.Cookie
	tls      *tlsCondition
	metadata []match.Metadata
	state    []match.FilterState
}

// tlsCondition asks about the certificate of the client: 0 does not matter, 1 yes, -1 no.
type tlsCondition struct{ presented, validated int8 }

// literal is what a path has to begin with, as far as that is known.
func (m *matcher) literal() string {
	switch m.kind {
	case pathRegex:
		return m.re.Literal()
	case pathTemplate:
		return m.template.literal
	case pathConnect:
		return ""
	}
	return m.text
}

// match says whether a request matches.
func (m *matcher) match(q *request) bool {
	return m.matchPath(q) && (m.more == nil || m.more.match(q))
}

func (m *matcher) matchPath(q *request) bool {
	if m.kind == pathConnect {
		return q.s.Request.Method == "CONNECT"
	}
	if q.s.Request.Path == "" { // a CONNECT without a path
		return false
	}
	switch m.kind {
	case pathPrefix:
		return begins(q.path, m.text, m.fold)
	case pathExact:
		return len(q.path) == len(m.text) && begins(q.path, m.text, m.fold)
	case pathSeparated:
		return begins(q.path, m.text, m.fold) && (len(q.path) == len(m.text) || q.path[len(m.text)] == '/')
	case pathRegex:
		return m.re.Match(q.path)
	case pathTemplate:
		return m.template.match.Match(q.path)
	}
	return false
}

func (c *conditions) match(q *request) bool {
	s := q.s
	if c.sampled && !c.fraction.Hit(c.runtime.Load(), q.draw) {
		return false
	}
	if c.grpc && !grpc.IsRequest(&s.Request.Header) || !c.headers.Match(&s.Request) {
		return false
	}
	for i := range c.queries {
		if !c.queries[i].Match(s.Request.Path) {
			return false
		}
	}
	for i := range c.cookies {
		if !c.cookies[i].Match(&s.Request.Header) {
			return false
		}
	}
	if c.tls != nil && !c.tls.match(q) {
		return false
	}
	for i := range c.metadata {
		if !c.metadata[i].Match(s.Info.Metadata) {
			return false
		}
	}
	for i := range c.state {
		if !c.state[i].Match(s) {
			return false
		}
	}
	return true
}

// match without TLS means that no certificate was presented.
func (c *tlsCondition) match(q *request) bool {
	presented, validated := false, false
	if conn := q.s.Info.Conn; conn != nil && conn.TLS != nil {
		presented, validated = conn.TLS.PeerFingerprint() != "", conn.TLS.PeerValidated()
	}
	return agrees(c.presented, presented) && agrees(c.validated, validated)
}

func agrees(want int8, is bool) bool { return want == 0 || (want > 0) == is }

func compileMatcher(p *routev3.RouteMatch, env *Env) (matcher, error) {
	m, err := compilePath(p)
	if err != nil {
		return m, err
	}
	m.more, err = compileConditions(p, env)
	return m, err
}

func compilePath(p *routev3.RouteMatch) (matcher, error) {
	m := matcher{fold: p.GetCaseSensitive() != nil && !p.GetCaseSensitive().GetValue()}
	switch s := p.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		m.kind, m.text = pathPrefix, s.Prefix
	case *routev3.RouteMatch_Path:
		m.kind, m.text = pathExact, s.Path
	case *routev3.RouteMatch_PathSeparatedPrefix:
		m.kind, m.text = pathSeparated, s.PathSeparatedPrefix
	case *routev3.RouteMatch_SafeRegex:
		re, err := match.CompileRegex(s.SafeRegex)
		if err != nil {
			return m, fmt.Errorf("safe_regex: %w", err)
		}
		return matcher{kind: pathRegex, re: re}, nil
	case *routev3.RouteMatch_ConnectMatcher_:
		return matcher{kind: pathConnect}, nil
	case *routev3.RouteMatch_PathMatchPolicy:
		t, err := compileTemplatePolicy(s.PathMatchPolicy)
		if err != nil {
			return m, fmt.Errorf("path_match_policy: %w", err)
		}
		return matcher{kind: pathTemplate, template: t}, nil
	default:
		return m, errors.New("path_specifier: is required")
	}
	if m.fold {
		m.text = strings.Map(func(r rune) rune {
			if 'A' <= r && r <= 'Z' {
				r += 'a' - 'A'
			}
			return r
		}, m.text)
	}
	return m, nil
}

func compileTemplatePolicy(p extensionConfig) (*template, error) {
	c := &uritemplatev3.UriTemplateMatchConfig{}
	if err := unpack(p, c); err != nil {
		return nil, err
	}
	t, err := compileTemplate(c.GetPathTemplate())
	if err != nil {
		return nil, fmt.Errorf("path_template: %w", err)
	}
	return t, nil
}

func compileConditions(p *routev3.RouteMatch, env *Env) (*conditions, error) {
	c := &conditions{runtime: env.Runtime, grpc: p.GetGrpc() != nil}
	var err error
	if f := p.GetRuntimeFraction(); f != nil {
		c.sampled, c.fraction = true, runtime.CompileFraction(f, 100)
	}
	if c.headers, err = match.CompileHeaders(p.GetHeaders()); err != nil {
		return nil, fmt.Errorf("headers%w", err)
	}
	if c.queries, err = match.CompileQueries(p.GetQueryParameters()); err != nil {
		return nil, fmt.Errorf("query_parameters%w", err)
	}
	if c.cookies, err = match.CompileCookies(p.GetCookies()); err != nil {
		return nil, fmt.Errorf("cookies%w", err)
	}
	if c.metadata, err = match.CompileMetadatas(p.GetDynamicMetadata()); err != nil {
		return nil, fmt.Errorf("dynamic_metadata%w", err)
	}
	if c.state, err = match.CompileFilterStates(p.GetFilterState()); err != nil {
		return nil, fmt.Errorf("filter_state%w", err)
	}
	if t := p.GetTlsContext(); t != nil {
		c.tls = &tlsCondition{tristate(t.GetPresented()), tristate(t.GetValidated())}
	}
	if !c.sampled && !c.grpc && c.tls == nil && len(c.headers)+len(c.queries)+len(c.cookies)+len(c.metadata)+len(c.state) == 0 {
		return nil, nil
	}
	return c, nil
}

func tristate(b *wrapperspb.BoolValue) int8 {
	switch {
	case b == nil:
		return 0
	case b.GetValue():
		return 1
	}
	return -1
}
