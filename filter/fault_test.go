package filter_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/filtertest"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFaults(t *testing.T) {
	for want, err := range map[string]error{
		"503 UR upstream_reset_after_response_started{remote_reset}":                      &http2.Reset{Code: http2.Cancel, Remote: true},
		"503 UR upstream_reset_after_response_started{remote_refused_stream_reset}":       &http2.Reset{Code: http2.RefusedStream, Remote: true},
		"503 UR upstream_reset_after_response_started{remote_error_with_CONNECT_request}": &http2.Reset{Code: http2.ConnectError, Remote: true},
		"502 UPE upstream_reset_after_response_started{protocol_error}":                   fmt.Errorf("in a body: %w", io.ErrUnexpectedEOF),
		"503 LR upstream_reset_after_response_started{local_reset}":                       fiber.ErrCancelled,
		"503 UC upstream_reset_after_response_started{connection_termination}":            errors.New("gone"),
		"504 UT response_timeout":    filter.LimitRoute.Cause(),
		"504 SI stream_idle_timeout": filter.LimitIdle.Cause(),
	} {
		filtertest.Each(t, func(g *filtertest.Stage) {
			g.Use(unfinished{err})
			g.Serve(&filtertest.Play{AnswerBody: []string{"x"}})
			i := &g.Stream.Info
			if got := fmt.Sprint(i.Status, " ", i.Flags, " ", i.Details); got != want {
				g.T.Errorf("%v: %s, not %s", err, got, want)
			}
		})
	}
	for _, err := range []error{&http2.Error{}, &http2.Reset{Code: http2.Cancel}, &http2.Reset{Code: http2.ProtocolError, Remote: true}, &http1.Error{}} {
		if f := filter.FaultOf(err); f.Status != 502 || f.Details(false) != "upstream_reset_before_response_started{protocol_error}" {
			t.Errorf("%T: %+v", err, f)
		}
	}
}

// unfinished is a filter that cannot read the response.
type unfinished struct{ err error }

func (f unfinished) OnResponse(s *filter.Stream) filter.Status { return s.Unfinished(f.err) }

// TestUnreadable shows what a request gets whose body a filter, or the codec, refuses.
func TestUnreadable(t *testing.T) {
	for want, err := range map[string]error{
		"400 - http1.codec_error":         errors.New("odd"),
		"413 DPE http1.body_too_large":    &http1.Error{Status: 413, Details: "http1.body_too_large"},
		"504 SI stream_idle_timeout":      filter.LimitIdle.Cause(),
		"418 - teapot":                    &filter.BodyError{Reply: filter.Reply{Status: 418, Details: "teapot"}},
		"413 - request_payload_too_large": nil,
	} {
		filtertest.Each(t, func(g *filtertest.Stage) {
			g.Use(unreadable{err})
			g.Serve(&filtertest.Play{})
			i := &g.Stream.Info
			if got := fmt.Sprint(i.Status, " ", i.Flags, " ", i.Details); got != want {
				g.T.Errorf("%v: %s, not %s", err, got, want)
			}
		})
	}
}

// unreadable is a filter that cannot read the request; without an error it is too long.
type unreadable struct{ err error }

func (f unreadable) OnRequest(s *filter.Stream) filter.Status {
	if f.err == nil {
		return s.BodyTooLarge()
	}
	return s.Unreadable(f.err)
}

// TestRefuseBody ends the stream with the reply of the filter that has wrapped the body.
func TestRefuseBody(t *testing.T) {
	filtertest.Each(t, func(g *filtertest.Stage) {
		g.Use(refuser{})
		seen := g.Serve(&filtertest.Play{Body: []string{"a", "b"}})
		if seen.Status != 422 || seen.Body != "no b" || g.Stream.RequestError() == nil {
			g.T.Errorf("%+v", seen)
		}
	})
}

// refuser is a filter that takes no b.
type refuser struct{}

func (refuser) OnRequest(s *filter.Stream) filter.Status {
	s.Request.Body = &stream.Tap{Body: s.Request.Body, See: func(p []byte, _ error) error {
		if string(p) == "b" {
			return s.RefuseBody(filter.Reply{Status: 422, Details: "b", Body: "no b"})
		}
		return nil
	}}
	return filter.Continue
}
