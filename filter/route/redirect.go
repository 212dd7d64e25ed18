package route

import (
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

	body        string
	format      *format.Template
	contentType string
}

// Body returns the body and its content type, which is "text/plain" unless body_format says something else.
func (d *Direct) Body(s *stream.Stream) (body, contentType string) {
	return d.body, "text/plain"
}
