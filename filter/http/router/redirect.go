package router

import (
	"slices"
	"strings"

	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// redirected follows a redirect of the upstream by ourselves, if the route says so: the request goes through the chain again.
func (e *exchange) redirected(a *attempt) bool {
	p := e.action.InternalRedirect
	if p == nil || !p.Follows(a.response.Status) {
		return false
	}
	location, ok := a.response.Header.Get("location")
	body, kept := []byte(nil), true
	if e.s.Request.Body != nil {
		body, kept = e.tape.whole()
	}
	if !ok || !e.s.RequestComplete() || !kept || !e.turn(p, a, location) {
		e.cluster.Stats.RedirectFailed.Inc()
		return false
	}
	e.cluster.Stats.RedirectSucceeded.Inc()
	e.copyHeaders(p, &a.response)
	e.resend(a.response.Status, body)
	return true
}

// turn makes the request the one that location asks for, and says whether it may go there.
func (e *exchange) turn(p *route.InternalRedirect, a *attempt, location string) bool {
	s, q, st := e.s, &e.s.Request, e.r.stats
	scheme, host, path, ok := splitURL(location)
	if !ok {
		st.RedirectBadLocation.Inc()
		return false
	}
	wasTLS, willTLS := s.Conn.Info.TLS != nil, scheme == "https"
	if wasTLS != willTLS && !p.AllowCrossScheme {
		st.RedirectUnsafeScheme.Inc()
		return false
	}
	if s.Redirects >= p.Max {
		st.RedirectTooMany.Inc()
		return false
	}
	was := *q
	from := s.Route
	q.Scheme, q.Authority, q.Path = s.Text(scheme), s.Text(host), s.Text(path)
	s.Rematch()
	if s.Route != nil && e.allowed(p, wasTLS, willTLS) {
		old := "http://"
		if wasTLS {
			old = "https://"
		}
		q.Header.Set("x-envoy-original-url", s.Text(old, was.Authority, was.Path))
		s.Visited = append(s.Visited, s.Route)
		return true
	}
	if s.Route == nil {
		st.RedirectNoRoute.Inc()
	} else {
		st.RedirectPredicate.Inc()
	}
	q.Scheme, q.Authority, q.Path = was.Scheme, was.Authority, was.Path
	s.Rematch()
	s.Route = from
	return false
}

// allowed asks the predicates.
func (e *exchange) allowed(p *route.InternalRedirect, wasTLS, willTLS bool) bool {
	if p.SafeCrossScheme && wasTLS && !willTLS {
		return false
	}
	if p.PreviousRoutes && slices.Contains(e.s.Visited, e.s.Route) {
		return false
	}
	return p.Allows(e.s.Route.Name)
}

// copyHeaders takes headers of the redirect over into the request (response_headers_to_copy).
func (e *exchange) copyHeaders(p *route.InternalRedirect, r *stream.Response) {
	for _, name := range p.CopyHeaders {
		e.s.Request.Header.Del(name)
		r.Header.Values(name, func(v string) bool {
			e.s.Request.Header.Add(name, e.s.Text(v))
			return true
		})
	}
}

// resend asks for another pass; "see other" makes a GET of it.
func (e *exchange) resend(status int, body []byte) {
	s, q := e.s, &e.s.Request
	if status == 303 && q.Method != "GET" && q.Method != "HEAD" {
		q.Method, q.Body = "GET", nil
		q.Header.Del("content-length")
	}
	if q.Body != nil {
		q.Body = &stream.Bytes{B: append([]byte(nil), body...)}
	}
	s.Info.Details, s.Info.Status = "internal_redirect", status
	s.Restart = true
}

// splitURL takes an absolute URL apart; the path has its query, and no fragment.
func splitURL(u string) (scheme, host, path string, ok bool) {
	scheme, rest, ok := strings.Cut(u, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "http" && scheme != "https" {
		return "", "", "", false
	}
	i := strings.IndexAny(rest, "/?#")
	if i < 0 {
		i = len(rest)
	}
	host, path = rest[:i], rest[i:]
	path, _, _ = strings.Cut(path, "#")
	if path == "" || path[0] != '/' {
		path = "/" + path
	}
	return scheme, host, path, host != ""
}
