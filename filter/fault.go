package filter

import (
	"errors"
	"io"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Fault is why a host has broken off an exchange, and the local reply that Envoy makes of it while that can be made.
type Fault struct {
	Reason string // in words
	Status int
	Flag   Flags
}

// FaultOf names an error that has come from a host after it was connected to.
func FaultOf(err error) Fault {
	reset, isReset := errors.AsType[*http2.Reset](err)
	_, bad1 := errors.AsType[*http1.Error](err)
	_, bad2 := errors.AsType[*http2.Error](err)
	switch {
	case http2.Refused(err):
		return Fault{"remote refused stream reset", 503, stream.UpstreamRemoteReset}
	case isReset && reset.Remote && reset.Code == http2.ConnectError:
		return Fault{"remote error with CONNECT request", 503, stream.UpstreamRemoteReset}
	case isReset && reset.Remote && reset.Code != http2.ProtocolError:
		return Fault{"remote reset", 503, stream.UpstreamRemoteReset}
	case isReset, bad1, bad2, errors.Is(err, io.ErrUnexpectedEOF):
		return Fault{"protocol error", 502, stream.UpstreamProtocolError}
	case errors.Is(err, fiber.ErrCancelled):
		return Fault{"local reset", 503, stream.LocalReset}
	}
	return Fault{"connection termination", 503, stream.UpstreamConnectionTermination}
}

// Details are the response code details of a fault; started says that it came after the head of the response.
func (f Fault) Details(started bool) string {
	when := "before"
	if started {
		when = "after"
	}
	return "upstream_reset_" + when + "_response_started{" + strings.ReplaceAll(f.Reason, " ", "_") + "}"
}

// Unfinished answers for a response whose body's Next has returned err, from a filter that must have all of it before the head goes out:
// `return s.Unfinished(err)`.
func (s *Stream) Unfinished(err error) Status {
	if t, ok := errors.AsType[*TimeoutError](err); ok {
		return s.TimedOut(t)
	}
	f := FaultOf(err)
	s.Info.Flags |= f.Flag
	return s.LocalReply(f.Status, f.Details(true), "upstream connect error or disconnect/reset before headers. reset reason: "+f.Reason)
}
