package router

import (
	"github.com/outrigger-proxy/outrigger/filter"
)

// accept makes the response of an attempt the one of the stream.
func (e *exchange) accept(a *attempt) error {
	s := e.s
	e.won = a
	e.losers()
	if a.ended {
		a.lift()
	}
	if s.Upgrade == "websocket" && !a.tunnel && a.response.Status < 400 {
		e.shake(a)
		return nil
	}
	s.Response.Status, s.Response.Body = a.response.Status, a.response.Body
	s.Response.Header, a.response.Header = a.response.Header, s.Response.Header
	if a.tunnel {
		c, rest := a.conn.Detach()
		s.Tunnel = &filter.Tunnel{Conn: c, Rest: rest}
		s.Response.Body = nil
	}
	h := &s.Response.Header
	if !e.r.suppress && s.RequestComplete() && e.since != 0 {
		h.Set("x-envoy-upstream-service-time", e.number(milliseconds(timeSince(e.since, s.Worker.Now()))))
	}
	s.Info.Details, s.Info.Status = "via_upstream", s.Response.Status // the route's headers may name them
	s.Route.FinalizeResponse(&s.Stream)
	for _, c := range e.cookies {
		h.Add("set-cookie", c)
	}
	e.attemptCount()
	e.charge(s.Response.Status, a.host)
	if s.Response.Status < 500 {
		e.judge(a)
	}
	return nil
}

// shake answers for a host that says neither yes nor no to a websocket: the head goes on, as in Envoy, its body does not.
func (e *exchange) shake(a *attempt) {
	s := e.s
	s.LocalReply(a.response.Status, "websocket_handshake_unsuccessful", "")
	h := &s.Response.Header
	for _, f := range a.response.Header.All() {
		if f.Name != "content-length" {
			h.Add(f.Name, f.Value)
		}
	}
	a.failed = true
	a.meter()
}

// attemptCount tells the client how many attempts there were, if the virtual host wants that.
func (e *exchange) attemptCount() {
	if vh := e.s.Route.VirtualHost; vh != nil && vh.IncludeAttemptCountInResponse {
		e.s.Response.Header.Set("x-envoy-attempt-count", e.number(int64(e.s.Info.Upstream.Attempts)))
	}
}
