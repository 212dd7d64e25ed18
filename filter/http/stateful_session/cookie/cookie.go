// Package cookie is envoy.http.stateful_session.cookie
// (type.googleapis.com/envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState): a cookie holds the address of the host
// and, where it has a ttl, when it expires.
//
// Differences to Envoy: none known; cookies that Envoy has set are understood, and the other way round.
package cookie

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	cookiev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/cookie/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// State is the extension.
type State struct {
	name string
	path string
	ttl  time.Duration // 0: for as long as the browser runs
	tail string        // what follows the value in set-cookie
}

// New builds it.
func New(p *cookiev3.CookieBasedSessionState, _ filter.Env) (filter.SessionState, error) {
	k := p.GetCookie()
	if k.GetName() == "" {
		return nil, errors.New("cookie.name: Cookie key cannot be empty for cookie based stateful sessions")
	}
	c := &State{name: k.GetName(), path: k.GetPath(), ttl: k.GetTtl().AsDuration().Truncate(time.Second)}
	if c.ttl > 0 {
		c.tail = "; Max-Age=" + strconv.FormatInt(int64(c.ttl/time.Second), 10)
	}
	if c.path != "" {
		c.tail += "; Path=" + c.path
	}
	for _, a := range k.GetAttributes() {
		if c.tail += "; " + a.GetName(); a.GetValue() != "" {
			c.tail += "=" + a.GetValue()
		}
	}
	c.tail += "; HttpOnly"
	return c, nil
}

// covers says whether the cookie is for a path.
func (c *State) covers(path string) bool {
	if c.path == "" || c.path == "/" {
		return true
	}
	rest, found := strings.CutPrefix(path, c.path)
	return found && (rest == "" || strings.HasSuffix(c.path, "/") || strings.ContainsRune("/?#", rune(rest[0])))
}

// Read takes the address from the cookie.
func (c *State) Read(s *filter.Stream) (address string, ok bool) {
	if !c.covers(s.Request.Path) {
		return "", false
	}
	v, _ := match.CookieValue(&s.Request.Header, c.name)
	if v == "" {
		return "", true
	}
	text := s.Append(func(b []byte, _ *stream.Stream) []byte {
		d, err := base64.StdEncoding.AppendDecode(b, []byte(v))
		if err != nil {
			return b
		}
		return d
	})
	return unpack(text, seconds()), true
}

// The fields of the message in the cookie.
const (
	addressField = 1
	expiresField = 2
)

// unpack reads the message in a cookie; what is none is the address itself, as Envoy wrote it before 1.25. Empty: nothing, or it has expired.
func unpack(text string, now int64) string {
	address, expires, ok := fields([]byte(text))
	switch {
	case !ok:
		return text
	case expires != 0 && now > expires:
		return ""
	}
	return address
}

func fields(b []byte) (address string, expires int64, ok bool) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return "", 0, false
		}
		b = b[n:]
		switch {
		case number == addressField && kind == protowire.BytesType:
			var v []byte
			if v, n = protowire.ConsumeBytes(b); n >= 0 && !utf8.Valid(v) {
				return "", 0, false
			}
			address = string(v)
		case number == expiresField && kind == protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(b)
			expires = int64(v)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return "", 0, false
		}
		b = b[n:]
	}
	return address, expires, true
}

// Write sets the cookie if another host has served the request.
func (c *State) Write(s *filter.Stream, asked, host string) (moved bool) {
	if host == asked {
		return false
	}
	s.Response.Header.Add("set-cookie", s.Append(func(b []byte, _ *stream.Stream) []byte {
		var message [96]byte
		m := protowire.AppendTag(message[:0], addressField, protowire.BytesType)
		m = protowire.AppendString(m, host)
		if c.ttl > 0 {
			m = protowire.AppendTag(m, expiresField, protowire.VarintType)
			m = protowire.AppendVarint(m, uint64(seconds()+int64(c.ttl/time.Second)))
		}
		b = append(append(b, c.name...), `="`...)
		b = base64.StdEncoding.AppendEncode(b, m)
		return append(append(b, '"'), c.tail...)
	}))
	return true
}
