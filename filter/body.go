package filter

import (
	"errors"

	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// defaultBuffer is the default of per_connection_buffer_limit_bytes.
const defaultBuffer = 1 << 20

// BufferLimit is how many bytes of a body a filter may keep: per_connection_buffer_limit_bytes of the listener.
func (e Env) BufferLimit() int {
	if e.Listener != nil && e.Listener.BufferLimit > 0 {
		return int(e.Listener.BufferLimit)
	}
	return defaultBuffer
}

// BodyError is the error of a request body that a filter refuses.
type BodyError struct{ Reply Reply }

// Error returns the details of the reply.
func (r *BodyError) Error() string { return r.Reply.Details }

// RefuseBody ends the body of the request: a filter that has wrapped it returns the error from Next, and p is the response, unless one
// has begun.
func (s *Stream) RefuseBody(p Reply) error {
	s.inlet.err = &BodyError{p}
	return s.inlet.err
}

// Unreadable answers for a request body whose Next has returned err: `return s.Unreadable(err)`.
func (s *Stream) Unreadable(err error) Status {
	if r, ok := errors.AsType[*BodyError](err); ok {
		return s.Reply(r.Reply)
	}
	if t, ok := errors.AsType[*TimeoutError](err); ok {
		return s.TimedOut(t)
	}
	bad, ok := errors.AsType[*http1.Error](err)
	if !ok {
		return s.LocalReply(400, "http1.codec_error", "Bad Request")
	}
	s.Info.Flags |= stream.DownstreamProtocolError
	return s.LocalReply(bad.Status, bad.Details, http1.Reason(bad.Status))
}

// BodyTooLarge answers for a request body that is longer than a filter may keep.
func (s *Stream) BodyTooLarge() Status {
	return s.LocalReply(413, "request_payload_too_large", "Payload Too Large")
}
