// Package envelope is envoy.http.stateful_session.envelope
// (type.googleapis.com/envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState): a session header of the application gets
// the address of the host put around it on the way to the client, and taken off on the way back:
// base64(address);UV:base64(what the application has said).
//
// Differences to Envoy: none known.
package envelope

import (
	"encoding/base64"
	"strings"

	envelopev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/envelope/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// State is the extension.
type State struct{ name string }

const upstreamValue = "UV:"

// New builds it.
func New(p *envelopev3.EnvelopeSessionState, _ filter.Env) (filter.SessionState, error) {
	return &State{strings.ToLower(p.GetHeader().GetName())}, nil
}

// Read takes the address off, so that the application sees what it has said.
func (e *State) Read(s *filter.Stream) (address string, ok bool) {
	v, there := s.Request.Header.Get(e.name)
	if !there {
		return "", true
	}
	first, rest, _ := strings.Cut(strings.TrimLeft(v, ";"), ";")
	for part := range strings.SplitSeq(rest, ";") {
		value, found := strings.CutPrefix(part, upstreamValue)
		if !found {
			continue
		}
		value, err := decode(value)
		if err != nil || value == "" {
			return "", true
		}
		s.Request.Header.Set(e.name, value)
		address, err = decode(first)
		if err != nil {
			return "", true
		}
		return address, true
	}
	return "", true
}

func decode(v string) (string, error) {
	b, err := base64.StdEncoding.DecodeString(v)
	return string(b), err
}

// Write puts the address around what the application has said, if it has said it once.
func (e *State) Write(s *filter.Stream, asked, host string) (moved bool) {
	n, value := 0, ""
	for _, f := range s.Response.Header.All() {
		if f.Name == e.name {
			n, value = n+1, f.Value
		}
	}
	if n != 1 {
		return false
	}
	s.Response.Header.Set(e.name, s.Append(func(b []byte, _ *stream.Stream) []byte {
		b = base64.StdEncoding.AppendEncode(b, []byte(host))
		b = append(b, ";"+upstreamValue...)
		return base64.StdEncoding.AppendEncode(b, []byte(value))
	}))
	return host != asked
}
