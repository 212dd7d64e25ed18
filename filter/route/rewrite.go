package route

import (
	"errors"
	"fmt"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	uritemplaterewritev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/rewrite/uri_template/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/outrigger-proxy/outrigger/internal/format"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// pathRewrite changes the path of a request; the query stays. At most one of its ways is set.
type pathRewrite struct {
	matched  *matcher // for prefix: what it takes the place of
	prefix   string
	regex    *match.Substitution
	template *templateRewrite
	format   *format.Template
}

func (p *pathRewrite) none() bool {
	return p.prefix == "" && p.regex == nil && p.template == nil && p.format == nil
}

// apply rewrites the path of the request of s.
func (p *pathRewrite) apply(s *stream.Stream, original bool) {
	q := &s.Request
	if p.none() || q.Path == "" {
		return
	}
	end := pathEnd(q.Path)
	path, rest := q.Path[:end], q.Path[end:]
	changed := true
	rewritten := s.Append(func(b []byte, s *stream.Stream) []byte {
		before := len(b)
		if b = p.append(b, path, s); len(b) == before && p.format != nil {
			changed = false
		}
		return append(b, rest...)
	})
	if !changed { // a format that says nothing
		return
	}
	if original {
		q.Header.Set("x-envoy-original-path", q.Path)
	}
	q.Path = rewritten
}

// pathEnd returns where the path ends and its query or fragment begins.
func pathEnd(path string) int {
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		return i
	}
	return len(path)
}

func (p *pathRewrite) append(b []byte, path string, s *stream.Stream) []byte {
	switch {
	case p.prefix != "":
		return append(append(b, p.prefix...), path[p.matchedLength(path):]...)
	case p.regex != nil:
		return p.regex.Append(b, path)
	case p.template != nil:
		return p.template.append(b, path)
	}
	return p.format.Append(b, s)
}

// matchedLength is how much of path the route's match covers: the prefix, or all of it.
func (p *pathRewrite) matchedLength(path string) int {
	switch p.matched.kind {
	case pathPrefix, pathSeparated:
		return min(len(p.matched.text), len(path))
	}
	return len(path)
}

// ways is what RouteAction and RedirectAction say of rewriting a path.
type ways struct {
	prefix   string
	regex    *matcherv3.RegexMatchAndSubstitute
	policy   extensionConfig
	template string
}

func (w *ways) compile(m *matcher) (p pathRewrite, err error) {
	p.matched = m
	said := 0
	if w.prefix != "" {
		said++
		p.prefix = w.prefix
	}
	if w.regex != nil {
		said++
		if p.regex, err = match.CompileSubstitution(w.regex); err != nil {
			return p, fmt.Errorf("regex_rewrite.%w", err)
		}
	}
	if w.policy != nil {
		said++
		if p.template, err = compileRewritePolicy(w.policy, m); err != nil {
			return p, fmt.Errorf("path_rewrite_policy: %w", err)
		}
	}
	if w.template != "" {
		said++
		if p.format, err = format.Compile(w.template, format.Options{OmitEmpty: true}); err != nil {
			return p, fmt.Errorf("path_rewrite: %w", err)
		}
	}
	if said > 1 {
		return p, errors.New("prefix_rewrite: specify only one of prefix_rewrite, regex_rewrite, path_rewrite_policy or path_rewrite")
	}
	return p, nil
}

func compileRewritePolicy(c extensionConfig, m *matcher) (*templateRewrite, error) {
	p := &uritemplaterewritev3.UriTemplateRewriteConfig{}
	if err := unpack(c, p); err != nil {
		return nil, err
	}
	if m.kind != pathTemplate {
		return nil, errors.New("unable to use envoy.path.rewrite.uri_template.uri_template_rewriter extension without envoy.path.match.uri_template.uri_template_matcher extension")
	}
	r, err := compileTemplateRewrite(p.GetPathTemplateRewrite(), m.template)
	if err != nil {
		return nil, fmt.Errorf("path_template_rewrite: %w", err)
	}
	return r, nil
}

// hostRewrite changes the authority of a request. At most one of its ways is set.
type hostRewrite struct {
	literal string
	header  string
	regex   *match.Substitution // applied to the path
	format  *format.Template
}

func (a *Action) compileHost(p *routev3.RouteAction) (err error) {
	a.AppendXForwardedHost = p.GetAppendXForwardedHost()
	switch h := p.GetHostRewriteSpecifier().(type) {
	case *routev3.RouteAction_HostRewriteLiteral:
		a.host.literal = h.HostRewriteLiteral
	case *routev3.RouteAction_HostRewriteHeader:
		a.host.header = strings.ToLower(h.HostRewriteHeader)
	case *routev3.RouteAction_AutoHostRewrite:
		a.AutoHostRewrite = h.AutoHostRewrite.GetValue()
	case *routev3.RouteAction_HostRewritePathRegex:
		if a.host.regex, err = match.CompileSubstitution(h.HostRewritePathRegex); err != nil {
			return fmt.Errorf("host_rewrite_path_regex.%w", err)
		}
	case *routev3.RouteAction_HostRewrite:
		if a.host.format, err = format.Compile(h.HostRewrite, format.Options{}); err != nil {
			return fmt.Errorf("host_rewrite: %w", err)
		}
	}
	return nil
}

// rewriteHost applies the host rewrite of the route to the request of s.
func (a *Action) rewriteHost(s *stream.Stream, original bool) {
	h := &a.host
	switch {
	case h.literal != "":
		a.SetHost(s, h.literal, original)
	case h.header != "":
		if v, _ := match.HeaderValue(&s.Request, h.header); v != "" {
			a.SetHost(s, v, original)
		}
	case h.regex != nil:
		path := s.Request.Path[:pathEnd(s.Request.Path)]
		a.SetHost(s, s.Append(func(b []byte, _ *stream.Stream) []byte { return h.regex.Append(b, path) }), original)
	case h.format != nil:
		if v := s.Append(h.format.Append); v != "" {
			a.SetHost(s, v, original)
		}
	}
}

// SetHost changes the authority of the request of s; the router calls it for auto_host_rewrite with the name of the chosen host. The old
// one is kept in x-forwarded-host if append_x_forwarded_host says so, and in x-envoy-original-host with original set.
func (a *Action) SetHost(s *stream.Stream, host string, original bool) {
	q := &s.Request
	if old := q.Authority; old != "" {
		if a.AppendXForwardedHost {
			appendForwardedHost(s, old)
		}
		if original {
			q.Header.Set("x-envoy-original-host", old)
		}
	}
	q.Authority = host
}

// appendForwardedHost appends to x-forwarded-host unless it ends in host already.
func appendForwardedHost(s *stream.Stream, host string) {
	v, ok := s.Request.Header.Get("x-forwarded-host")
	if !ok || v == "" {
		s.Request.Header.Set("x-forwarded-host", host)
		return
	}
	last := v
	if i := strings.LastIndexByte(v, ','); i >= 0 {
		last = v[i+1:] // with its space, if there is one, as in Envoy
	}
	if last != host {
		s.Request.Header.Set("x-forwarded-host", s.Text(v, ",", host))
	}
}
