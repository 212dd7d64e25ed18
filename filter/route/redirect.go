package route

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/outrigger-proxy/outrigger/internal/format"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Redirect answers with another place to go (envoy.config.route.v3.RedirectAction). The router answers a request with
//
//	r.RewritePath(s, original); status = r.Redirect.Status; location = r.Location(s); r.FinalizeResponse(s)
type Redirect struct {
	Status int // 301 (default), 302, 303, 307, 308

	tls        bool   // require_tls: https://host/path as they are
	scheme     string // empty: the request's
	host       string // empty: the request's
	port       string // ":8080"; empty: none, and the request's stays
	path       string // empty: the request's
	pathQuery  bool   // path has a query of its own
	stripQuery bool
	rewrite    pathRewrite
}

// Direct answers by itself (envoy.config.route.v3.DirectResponseAction).
type Direct struct {
	Status int

	body   string
	format *format.Template // nil: body is all
}

// Body returns the body and its content type, which is "text/plain" unless body_format says something else.
func (d *Direct) Body(s *stream.Stream) (body, contentType string) {
	if d.format == nil {
		return d.body, "text/plain"
	}
	s.Info.LocalReplyBody = d.body
	return s.Append(d.format.Append), d.format.ContentType()
}

// RewritePath applies the path rewrite of a redirect to the request of s, before Location is asked.
func (r *Route) RewritePath(s *stream.Stream, original bool) {
	if r.Redirect != nil {
		r.Redirect.rewrite.apply(s, original)
	}
}

// Location returns the value of the location header of a redirect, or of a direct response whose status has one (201 and 3xx); else it
// is empty.
func (r *Route) Location(s *stream.Stream) string {
	switch {
	case r.Redirect != nil:
		return r.Redirect.location(s)
	case r.Direct != nil && (r.Direct.Status == 201 || r.Direct.Status/100 == 3):
		return (&Redirect{}).location(s)
	}
	return ""
}

func (r *Redirect) location(s *stream.Stream) string {
	q := &s.Request
	if r.tls {
		return s.Text("https://", q.Authority, q.Path)
	}
	scheme, host, path, query := r.scheme, r.host, r.path, ""
	if scheme == "" {
		scheme = q.Scheme
	}
	if host == "" {
		host = withoutPort(q.Authority, r.port != "", scheme, q.Scheme)
	}
	switch {
	case path == "":
		path = q.Path
	case !r.pathQuery:
		if i := strings.IndexByte(q.Path, '?'); i >= 0 {
			query = q.Path[i:]
		}
	}
	if r.stripQuery && !r.pathQuery {
		path, _, _ = strings.Cut(path, "?")
		query = ""
	}
	slash := ""
	if !strings.HasPrefix(path, "/") {
		slash = "/"
	}
	return s.Text(scheme, "://", host, r.port, slash, path, query)
}

// withoutPort removes the port of a host if another one follows, or if it is the default of the scheme that is left behind.
func withoutPort(host string, replaced bool, scheme, was string) string {
	i := strings.LastIndexByte(host, ':')
	if strings.HasPrefix(host, "[") {
		if i = strings.LastIndex(host, "]:"); i >= 0 {
			i++
		}
	}
	if i < 0 {
		return host
	}
	port := host[i:]
	if replaced || scheme != was && (was == "https" && port == ":443" || was == "http" && port == ":80") {
		return host[:i]
	}
	return host
}

var redirectStatus = map[routev3.RedirectAction_RedirectResponseCode]int{
	routev3.RedirectAction_MOVED_PERMANENTLY:  301,
	routev3.RedirectAction_FOUND:              302,
	routev3.RedirectAction_SEE_OTHER:          303,
	routev3.RedirectAction_TEMPORARY_REDIRECT: 307,
	routev3.RedirectAction_PERMANENT_REDIRECT: 308,
}

func compileRedirect(p *routev3.RedirectAction, m *matcher) (*Redirect, error) {
	r := &Redirect{
		Status: redirectStatus[p.GetResponseCode()], scheme: p.GetSchemeRedirect(), host: p.GetHostRedirect(),
		path: p.GetPathRedirect(), stripQuery: p.GetStripQuery(),
	}
	r.pathQuery = strings.Contains(r.path, "?")
	if p.GetHttpsRedirect() {
		r.scheme = "https"
	}
	if n := p.GetPortRedirect(); n != 0 {
		r.port = ":" + strconv.FormatUint(uint64(n), 10)
	}
	w := ways{prefix: p.GetPrefixRewrite(), regex: p.GetRegexRewrite(), template: p.GetPathRewrite()}
	var err error
	r.rewrite, err = w.compile(m)
	return r, err
}

func (t *compiler) direct(p *routev3.DirectResponseAction) (*Direct, error) {
	d := &Direct{Status: int(p.GetStatus())}
	var err error
	if d.body, err = t.dataSource(p.GetBody()); err != nil {
		return nil, fmt.Errorf("body.%w", err)
	}
	if t.maxBody > 0 && len(d.body) > t.maxBody {
		return nil, fmt.Errorf("body: response body size is %d bytes; maximum is %d", len(d.body), t.maxBody)
	}
	if p.GetBodyFormat() != nil {
		if d.format, err = format.CompileSource(p.GetBodyFormat()); err != nil {
			return nil, fmt.Errorf("body_format: %w", err)
		}
	}
	return d, nil
}

func (t *compiler) dataSource(p *corev3.DataSource) (string, error) {
	if p.GetWatchedDirectory() != nil {
		return "", errors.New("watched_directory: a direct response does not follow changes of its file")
	}
	switch s := p.GetSpecifier().(type) {
	case *corev3.DataSource_InlineString:
		return s.InlineString, nil
	case *corev3.DataSource_InlineBytes:
		return string(s.InlineBytes), nil
	case *corev3.DataSource_Filename:
		if t.env.ReadFile == nil {
			return "", errors.New("filename: files cannot be read here")
		}
		b, err := t.env.ReadFile(s.Filename)
		if err != nil {
			return "", fmt.Errorf("filename: %w", err)
		}
		return string(b), nil
	case *corev3.DataSource_EnvironmentVariable:
		if t.env.Getenv == nil {
			return "", errors.New("environment_variable: the environment cannot be read here")
		}
		v, ok := t.env.Getenv(s.EnvironmentVariable)
		if !ok {
			return "", fmt.Errorf("environment_variable: environment variable doesn't exist: %s", s.EnvironmentVariable)
		}
		return v, nil
	}
	return "", nil
}
