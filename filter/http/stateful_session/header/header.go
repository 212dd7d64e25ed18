// Package header is envoy.http.stateful_session.header
// (type.googleapis.com/envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState): a header holds the address of the host
// in base64.
//
// Differences to Envoy: none known.
package header

import (
	"encoding/base64"
	"errors"
	"strings"

	headerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/header/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// State is the extension.
type State struct{ name string }

// New builds it.
func New(p *headerv3.HeaderBasedSessionState, _ filter.Env) (filter.SessionState, error) {
	if p.GetName() == "" {
		return nil, errors.New("name: Header name cannot be empty for header based stateful sessions")
	}
	return &State{strings.ToLower(p.GetName())}, nil
}

// Read takes the first header of the name.
func (h *State) Read(s *filter.Stream) (address string, ok bool) {
	v, there := s.Request.Header.Get(h.name)
	if !there {
		return "", true
	}
	return s.Append(func(b []byte, _ *stream.Stream) []byte {
		d, err := base64.StdEncoding.AppendDecode(b, []byte(v))
		if err != nil {
			return b
		}
		return d
	}), true
}

// Write sets the header if another host has served the request.
func (h *State) Write(s *filter.Stream, asked, host string) (moved bool) {
	if host == asked {
		return false
	}
	s.Response.Header.Set(h.name, s.Append(func(b []byte, _ *stream.Stream) []byte { return base64.StdEncoding.AppendEncode(b, []byte(host)) }))
	return true
}
