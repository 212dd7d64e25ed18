package filter

import (
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Limit names one of the times by which a stream must have come somewhere. The earliest of them bounds every wait of the
// stream's fiber, and its TimeoutError is what that wait then returns.
type Limit uint8

// The limits of a stream.
const (
	LimitIdle     Limit = iota // stream_idle_timeout, or the idle_timeout of the route: moves on with each piece
	LimitRequest               // request_timeout: until the request is all there
	LimitDuration              // max_stream_duration
	LimitRoute                 // timeout of the route: from the end of the request to the end of the response
	LimitTry                   // per_try_timeout
	LimitTryIdle               // per_try_idle_timeout
	LimitUpstream              // max_stream_duration of the cluster: from the loan of the connection
	limits
)

// TimeoutError is the error of a wait that a limit of the stream has ended, and the local reply that Envoy makes of it.
type TimeoutError struct {
	Status  int // 0: 504, or 408 while the request is still arriving
	Details string
	Body    string
	Flags   stream.Flags
}

// Error returns the details.
func (t *TimeoutError) Error() string { return t.Details }

var timeouts = [limits]*TimeoutError{
	LimitIdle:     {Details: "stream_idle_timeout", Body: "stream timeout", Flags: stream.StreamIdleTimeout},
	LimitRequest:  {Details: "request_overall_timeout", Body: "request timeout"},
	LimitDuration: {Details: "max_duration_timeout", Body: "downstream duration timeout"},
	LimitRoute:    {Status: 504, Details: "response_timeout", Body: "upstream request timeout", Flags: stream.UpstreamRequestTimeout},
	LimitTry:      {Status: 504, Details: "upstream_per_try_timeout", Body: "upstream request timeout", Flags: stream.UpstreamRequestTimeout},
	LimitUpstream: {
		Details: "upstream_max_stream_duration_reached", Body: "upstream max stream duration reached", Flags: stream.UpstreamMaxStreamDurationReached,
	},
	LimitTryIdle: {Status: 504, Details: "upstream_per_try_idle_timeout", Body: "upstream request timeout", Flags: stream.UpstreamRequestTimeout},
}

// Cause is the error of waits that this limit ends.
func (l Limit) Cause() *TimeoutError { return timeouts[l] }

// Limit bounds the stream by at, 0 lifts the limit. It may be called by another fiber of the same worker, such as an upload.
func (s *Stream) Limit(l Limit, at fiber.Time) {
	if s.limits[l] == at {
		return
	}
	s.limits[l] = at
	s.bound()
}

// Limited returns when a limit ends the stream, 0: never.
func (s *Stream) Limited(l Limit) fiber.Time { return s.limits[l] }

// Touch says that the stream has moved: its idle limit moves on.
func (s *Stream) Touch() {
	if s.Idle > 0 {
		s.Limit(LimitIdle, s.Worker.Now().Add(s.Idle))
	}
	if s.TryIdle > 0 {
		s.Limit(LimitTryIdle, s.Worker.Now().Add(s.TryIdle))
	}
}

// bound puts the earliest limit on the fiber.
func (s *Stream) bound() {
	if s.fiber == nil {
		return
	}
	first, at := Limit(0), fiber.Time(0)
	for l, t := range s.limits {
		if t != 0 && (at == 0 || t < at) {
			first, at = Limit(l), t
		}
	}
	s.fiber.Unlimit()
	if at != 0 {
		s.fiber.SetLimit(fiber.Limit{At: at, Cause: timeouts[first]})
	}
}

// Expired returns the limit of the whole stream (idle, request, duration) that has passed, if one has.
func (s *Stream) Expired() (Limit, bool) {
	now := s.Worker.Now()
	for l := LimitIdle; l <= LimitDuration; l++ {
		if t := s.limits[l]; t != 0 && t <= now {
			return l, true
		}
	}
	return 0, false
}

// TimedOut answers for a limit: `return s.TimedOut(t)`.
func (s *Stream) TimedOut(t *TimeoutError) Status {
	status := t.Status
	if status == 0 {
		status = 504
		if !s.RequestComplete() {
			status = 408
		}
	}
	s.Info.Flags |= t.Flags
	return s.Reply(Reply{Status: status, Details: t.Details, Body: t.Body, GRPC: timeoutGRPC(t)})
}

// timeoutGRPC is the grpc-status of a timeout where it is not the one that the HTTP status maps to.
func timeoutGRPC(t *TimeoutError) grpc.Status {
	if t == timeouts[LimitDuration] {
		return grpc.DeadlineExceeded
	}
	return 0
}
