// Package proxyprotocol is envoy.filters.listener.proxy_protocol
// (type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol): it takes the PROXY protocol header, version 1
// or 2, from the beginning of a connection, and makes the addresses in it those of the connection.
//
// Differences from Envoy: TLVs are not put into typed dynamic metadata (data.core.v3.TlvsMetadata), only into the untyped one.
package proxyprotocol

import (
	"bytes"
	"encoding/base64"
	"strings"
	"unicode/utf8"

	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// TLVState is the key of the filter state object that tlv_location FILTER_STATE fills: a map[string]string.
const TLVState = "envoy.network.proxy_protocol.tlv"

type versionStats struct {
	Found      stats.Counter `stat:"found"`
	Disallowed stats.Counter `stat:"disallowed"`
	Error      stats.Counter `stat:"error"`
}

type inspectorStats struct {
	NotFoundDisallowed stats.Counter `stat:"not_found_disallowed"`
	NotFoundAllowed    stats.Counter `stat:"not_found_allowed"`
	V1                 versionStats  `stat:"versions.v1."`
	V2                 versionStats  `stat:"versions.v2."`
}

type inspector struct {
	*config

	stats *inspectorStats
	wrong *stats.Counter // downstream_cx_proxy_proto_error: every connection without a sound header
}

// New builds it.
func New(p *proxyprotocolv3.ProxyProtocol, env filter.Env) (filter.ListenerFilter, error) {
	c, err := parse(p)
	if err != nil {
		return nil, err
	}
	scope := env.Stats.Root().Sub("proxy_proto")
	if c.statPrefix != "" {
		scope = scope.Sub(stats.Sanitize(c.statPrefix))
	}
	return &inspector{
		config: c, stats: stats.New[inspectorStats](scope),
		wrong: env.Stats.Root().Counter("downstream_cx_proxy_proto_error"),
	}, nil
}

// OnAccept waits for the header and consumes it.
func (i *inspector) OnAccept(a *filter.Accepted) filter.Status {
	for need := 1; ; {
		b, err := a.Peek(need)
		if err != nil {
			return filter.Stop
		}
		is1, maybe1 := begins(b, signature1)
		is2, maybe2 := begins(b, signature2)
		if i.optional { // Envoy: then a version that is disallowed is not even looked for
			is1, maybe1, is2, maybe2 = is1 && !i.noV1, maybe1 && !i.noV1, is2 && !i.noV2, maybe2 && !i.noV2
		}
		switch {
		case is1:
			return i.version1(a)
		case is2:
			return i.version2(a)
		case maybe1 || maybe2:
			need = len(b) + 1
			continue
		}
		if !i.optional {
			return i.fail(&i.stats.NotFoundDisallowed)
		}
		i.stats.NotFoundAllowed.Inc()
		return filter.Continue
	}
}

// fail ends a connection whose header is not sound.
func (i *inspector) fail(why *stats.Counter) filter.Status {
	why.Inc()
	i.wrong.Inc()
	return filter.Stop
}

func (i *inspector) version1(a *filter.Accepted) filter.Status {
	s := &i.stats.V1
	if i.noV1 {
		s.Found.Inc()
		s.Disallowed.Inc()
		return filter.Stop
	}
	for need := len(signature1) + 1; ; {
		b, err := a.Peek(need)
		if err != nil {
			return filter.Stop
		}
		end := bytes.Index(b[:min(len(b), longest1)], []byte("\r\n"))
		if end < 0 && len(b) < longest1 {
			need = len(b) + 1
			continue
		}
		if end < 0 {
			return i.fail(&s.Error)
		}
		h, err := parse1(b[:end])
		a.Discard(end + 2)
		return i.apply(a, s, h, err)
	}
}

func (i *inspector) version2(a *filter.Accepted) filter.Status {
	s := &i.stats.V2
	if i.noV2 {
		s.Found.Inc()
		s.Disallowed.Inc()
		return filter.Stop
	}
	b, err := a.Peek(fixed2)
	if err != nil {
		return filter.Stop
	}
	n := fixed2 + length2(b)
	if n > longest2 {
		return i.fail(&s.Error)
	}
	if b, err = a.Peek(n); err != nil {
		return filter.Stop
	}
	h, err := parse2(b[:n])
	status := i.apply(a, s, h, err) // the TLVs alias what Discard takes away
	a.Discard(n)
	return status
}

func (i *inspector) apply(a *filter.Accepted, s *versionStats, h header, err error) filter.Status {
	if err != nil {
		return i.fail(&s.Error)
	}
	s.Found.Inc()
	if !h.local {
		if local := (stream.Address{AddrPort: h.dest}); a.Info.Local != local {
			a.Info.Local, a.Info.LocalRestored = local, true
		}
		a.Info.Remote = stream.Address{AddrPort: h.remote}
	}
	i.store(a.Info, h.tlvs)
	if i.pass != nil {
		if a.Info.State == nil {
			a.Info.State = stream.FilterState{}
		}
		a.Info.State[stream.ProxyProtocolState] = &stream.ProxyProtocol{Remote: a.Info.Remote, Local: a.Info.Local, TLVs: i.passed(h.tlvs)}
	}
	return filter.Continue
}

// store keeps the values that rules ask for.
func (i *inspector) store(c *stream.Conn, tlvs []stream.TLV) {
	for _, t := range tlvs {
		r, ok := i.rules[t.Type]
		if !ok {
			continue
		}
		value := sanitize(t.Value)
		if r.base64 {
			value = base64.StdEncoding.EncodeToString(t.Value)
		}
		if !i.toFilterState {
			c.Metadata.Set(r.namespace, r.key, value)
			continue
		}
		if c.State == nil {
			c.State = stream.FilterState{}
		}
		m, _ := c.State[TLVState].(map[string]string)
		if m == nil {
			m = map[string]string{}
			c.State[TLVState] = m
		}
		m[r.key] = value
	}
}

// sanitize puts ! in the place of each byte that is not part of valid UTF-8.
func sanitize(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			r = '!'
		}
		out.WriteRune(r)
		b = b[n:]
	}
	return out.String()
}
