package router

import (
	"strconv"
	"strings"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// prepare makes the request what the upstream shall see, and reads what it says of time and retries.
func (e *exchange) prepare() {
	s, rt := e.s, e.s.Route
	if s.Port != "" {
		s.Request.Authority, s.Port = s.Text(s.Request.Authority, s.Port), ""
	}
	e.hedging = e.action.Hedge.OnPerTryTimeout
	if v, ok := e.take("x-envoy-hedge-on-per-try-timeout"); ok {
		e.hedging = v == "true"
	}
	e.readTimeouts()
	e.readRetries()
	rt.FinalizeRequest(&s.Stream, !e.r.suppress)
	if rt.VirtualHost != nil && rt.VirtualHost.IncludeRequestAttemptCount {
		s.Request.Header.Set("x-envoy-attempt-count", "1")
	}
	e.keepBody()
}

// take removes a field from the request and returns its value.
func (e *exchange) take(name string) (string, bool) {
	h := &e.s.Request.Header
	v, ok := h.Get(name)
	if ok {
		h.Del(name)
	}
	return v, ok
}

// keepBody remembers the body if it may be wanted again: by a retry, a mirror or a redirect.
func (e *exchange) keepBody() {
	s := e.s
	e.mirrors = e.action.Mirrors
	if s.Request.Body == nil || e.retry.on == 0 && len(e.mirrors) == 0 && e.action.InternalRedirect == nil && !e.hedging {
		return
	}
	e.tape.reset(s.Request.Body, e.bufferLimit())
	e.taped = true
}

// bufferLimit is how much of a body may be kept.
func (e *exchange) bufferLimit() int {
	if l := e.s.Route.RequestBufferLimit; l != route.Unset {
		return int(l)
	}
	return e.r.keep
}

// checked refuses requests whose x-envoy- headers make no sense, as far as strict_check_headers says so.
func (e *exchange) checked() filter.Status {
	s := e.s
	for _, name := range e.r.strict {
		v, ok := s.Request.Header.Get(strings.ToLower(name))
		if !ok || valid(strings.ToLower(name), v) {
			continue
		}
		s.Info.Flags |= stream.InvalidEnvoyRequestHeaders
		return s.LocalReply(400, "request_headers_failed_strict_check", s.Text("invalid header '", name, "' with value '", v, "'"))
	}
	return filter.Continue
}

func valid(name, value string) (ok bool) {
	switch name {
	case "x-envoy-retry-on":
		_, ok = route.ParseRetryOn(value)
	case "x-envoy-retry-grpc-on":
		_, ok = route.ParseRetryGrpcOn(value)
	default:
		_, err := strconv.ParseUint(value, 10, 32)
		ok = err == nil
	}
	return ok
}

// dropped refuses the share of requests that the cluster's assignment has dropped.
func (e *exchange) dropped() filter.Status {
	drop, all := e.cluster.Drops(e.s.Draw)
	if !drop {
		return filter.Continue
	}
	s := e.s
	flag, details, name := stream.DropOverload, "drop_overload", "x-envoy-drop-overload"
	if all {
		flag, details, name = stream.UnconditionalDropOverload, "unconditional_drop_overload", "x-envoy-unconditional-drop-overload"
	}
	s.Info.Flags |= flag
	s.LocalReply(503, details, strings.ReplaceAll(details, "_", " "))
	if !e.r.suppress {
		s.Response.Header.Add(name, "true")
	}
	e.charge(503, nil)
	return filter.Stop
}

// maintained refuses the share of requests that maintenance mode takes.
func (e *exchange) maintained() filter.Status {
	s, snapshot := e.s, e.r.runtime.Load()
	if snapshot == nil || !snapshot.Fraction(e.maintenanceKey, 0, s.Draw) {
		return filter.Continue
	}
	e.cluster.Stats.RqMaintenanceMode.Inc()
	s.Info.Flags |= stream.UpstreamOverflow
	s.LocalReply(503, "maintenance_mode", "maintenance mode")
	if !e.r.suppress {
		s.Response.Header.Add("x-envoy-overloaded", "true")
	}
	e.charge(503, nil)
	return filter.Stop
}
