// Package hashpolicy gets a number from a request, by which consistent hashing finds a host (envoy.config.route.v3.RouteAction.HashPolicy).
package hashpolicy

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

type kind uint8

const (
	header kind = iota
	cookie
	sourceIP
	query
	state
)

// List are policies, in their order.
type List []policy

// policy is one way to get a number from a request.
type policy struct {
	kind     kind
	name     string
	terminal bool
	rewrite  *match.Substitution // of the header's value
	set      bool                // a cookie that is not there is set: attributes says how
	tail     string              // what follows the value in set-cookie
}

// Hash returns the hash of a request by hash_policy; ok is false if no policy has anything to say. A cookie that is to be set on the
// client is appended to cookies as the value of set-cookie.
func (l List) Hash(s *stream.Stream, cookies []string) (hash uint64, ok bool, set []string) {
	for i := range l {
		p := &l[i]
		h, has, set := p.hash(s)
		if set != "" {
			cookies = append(cookies, set)
		}
		if has {
			if ok {
				h ^= bits.RotateLeft64(hash, 1)
			}
			hash, ok = h, true
		}
		if ok && p.terminal {
			break
		}
	}
	return hash, ok, cookies
}

func (p *policy) hash(s *stream.Stream) (h uint64, ok bool, setCookie string) {
	switch p.kind {
	case header:
		h, ok = p.headerHash(s)
	case cookie:
		if v, there := match.CookieValue(&s.Request.Header, p.name); there && v != "" {
			return xxhash.Sum64String(v), true, ""
		}
		if !p.set {
			return 0, false, ""
		}
		v := clientCookie(s)
		return xxhash.Sum64String(v), true, s.Text(p.name, "=\"", v, "\"", p.tail)
	case sourceIP:
		if c := s.Info.Conn; c != nil && c.Remote.IsValid() {
			var b [64]byte
			return xxhash.Sum64(c.Remote.Addr().AppendTo(b[:0])), true, ""
		}
	case query:
		if v, there := match.QueryParameter(s.Request.Path, p.name); there {
			return xxhash.Sum64String(v), true, ""
		}
	case state:
		if o, there := s.Info.State[p.name].(interface{ Hash() uint64 }); there {
			return o.Hash(), true, ""
		}
	}
	return h, ok, ""
}

// headerHash hashes all values of a header, in the order of their text, so that the order of the lines does not matter.
func (p *policy) headerHash(s *stream.Stream) (uint64, bool) {
	var few [8]string
	values := few[:0]
	if p.name[0] == ':' || p.name == "host" {
		if v, ok := match.HeaderValue(&s.Request, p.name); ok {
			values = append(values, v)
		}
	}
	for _, f := range s.Request.Header.All() {
		if f.Name == p.name {
			values = append(values, f.Value)
		}
	}
	if len(values) == 0 {
		return 0, false
	}
	if p.rewrite != nil {
		for i, v := range values {
			values[i] = s.Append(func(b []byte, _ *stream.Stream) []byte { return p.rewrite.Append(b, v) })
		}
	}
	for i := 1; i < len(values); i++ { // a handful
		for j := i; j > 0 && values[j] < values[j-1]; j-- {
			values[j], values[j-1] = values[j-1], values[j]
		}
	}
	h := uint64(0)
	for _, v := range values {
		h = seeded(v, h)
	}
	return h, true
}

func seeded(v string, seed uint64) uint64 {
	if seed == 0 {
		return xxhash.Sum64String(v)
	}
	var d xxhash.Digest
	d.ResetWithSeed(seed)
	_, _ = d.WriteString(v)
	return d.Sum64()
}

// clientCookie is the value of a cookie that binds a client to a host: all streams of a connection get the same one.
func clientCookie(s *stream.Stream) string {
	local, remote := "", ""
	if c := s.Info.Conn; c != nil {
		local, remote = c.Local.String(), c.Remote.String()
	}
	h := xxhash.Sum64String(s.Text(remote, local))
	return s.Append(func(b []byte, _ *stream.Stream) []byte {
		const digits = "0123456789abcdef"
		for i := 60; i >= 0; i -= 4 {
			b = append(b, digits[h>>i&15])
		}
		return b
	})
}

// Compile reads a list. Its errors begin with the index: "[0].header ...".
func Compile(list []*routev3.RouteAction_HashPolicy) (List, error) {
	var all List
	for i, p := range list {
		h, err := compile(p)
		if err != nil {
			return nil, fmt.Errorf("[%d].%w", i, err)
		}
		h.terminal = p.GetTerminal()
		all = append(all, h)
	}
	return all, nil
}

func compile(p *routev3.RouteAction_HashPolicy) (h policy, err error) {
	switch s := p.GetPolicySpecifier().(type) {
	case *routev3.RouteAction_HashPolicy_Header_:
		h = policy{kind: header, name: strings.ToLower(s.Header.GetHeaderName())}
		if w := s.Header.GetRegexRewrite(); w != nil {
			if h.rewrite, err = match.CompileSubstitution(w); err != nil {
				return h, fmt.Errorf("header.regex_rewrite.%w", err)
			}
		}
		return h, nil
	case *routev3.RouteAction_HashPolicy_Cookie_:
		return cookiePolicy(s.Cookie), nil
	case *routev3.RouteAction_HashPolicy_ConnectionProperties_:
		if s.ConnectionProperties.GetSourceIp() {
			return policy{kind: sourceIP}, nil
		}
		return policy{kind: query, name: "\x00"}, nil // says nothing, ever
	case *routev3.RouteAction_HashPolicy_QueryParameter_:
		return policy{kind: query, name: s.QueryParameter.GetName()}, nil
	case *routev3.RouteAction_HashPolicy_FilterState_:
		return policy{kind: state, name: s.FilterState.GetKey()}, nil
	}
	return h, errors.New("policy_specifier: is required")
}

func cookiePolicy(p *routev3.RouteAction_HashPolicy_Cookie) policy {
	h := policy{kind: cookie, name: p.GetName(), set: p.GetTtl() != nil}
	if ttl := p.GetTtl().AsDuration() / time.Second; ttl > 0 {
		h.tail = "; Max-Age=" + strconv.FormatInt(int64(ttl), 10)
	}
	if p.GetPath() != "" {
		h.tail += "; Path=" + p.GetPath()
	}
	for _, a := range p.GetAttributes() {
		if h.tail += "; " + a.GetName(); a.GetValue() != "" {
			h.tail += "=" + a.GetValue()
		}
	}
	h.tail += "; HttpOnly"
	return h
}
