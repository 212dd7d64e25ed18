// Package httpinspector is envoy.filters.listener.http_inspector
// (type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector): it looks at the first line of what a client
// sends, says whether it is HTTP, and of which version, so that filter chains can match application_protocols.
//
// It sets http/1.0, http/1.1 or h2c. Connections that tls_inspector found to be TLS are left alone.
package httpinspector

import (
	"bytes"
	"strings"

	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

type inspectorStats struct {
	HTTP10    stats.Counter `stat:"http10_found"`
	HTTP11    stats.Counter `stat:"http11_found"`
	HTTP2     stats.Counter `stat:"http2_found"`
	NotFound  stats.Counter `stat:"http_not_found"`
	ReadError stats.Counter `stat:"read_error"`
}

type inspector struct {
	stats               *inspectorStats
	http10, http11, h2c []string
}

// New builds it.
func New(_ *httpinspectorv3.HttpInspector, env filter.Env) (filter.ListenerFilter, error) {
	return &inspector{
		stats:  stats.New[inspectorStats](env.Stats.Root().Sub("http_inspector")),
		http10: []string{"http/1.0"}, http11: []string{"http/1.1"}, h2c: []string{"h2c"},
	}, nil
}

// OnAccept waits for as much of the first line as it needs.
func (i *inspector) OnAccept(a *filter.Accepted) filter.Status {
	if a.TransportProtocol != "" && a.TransportProtocol != "raw_buffer" {
		return filter.Continue
	}
	for need := 1; ; {
		b, err := a.Peek(need)
		if err != nil {
			i.stats.ReadError.Inc()
			return filter.Stop
		}
		v := classify(b)
		if v == unknown {
			need = len(b) + 1
			continue
		}
		i.found(a, v)
		return filter.Continue
	}
}

func (i *inspector) found(a *filter.Accepted, v verdict) {
	switch v {
	case http10:
		i.stats.HTTP10.Inc()
		a.ApplicationProtocols = i.http10
	case http11:
		i.stats.HTTP11.Inc()
		a.ApplicationProtocols = i.http11
	case http2:
		i.stats.HTTP2.Inc()
		a.ApplicationProtocols = i.h2c
	default:
		i.stats.NotFound.Inc()
	}
}

type verdict uint8

const (
	unknown verdict = iota // not enough bytes
	notHTTP
	http10
	http11
	http2
)

const (
	// preface is the client connection preface of HTTP/2 (RFC 9113 section 3.4).
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	// maxLine is how much of a line is waited for; Envoy inspects no more than 64 KiB.
	maxLine = 64<<10 - 1
)

// classify looks at the beginning of a byte stream.
func classify(b []byte) verdict {
	if n := min(len(b), len(preface)); string(b[:n]) == preface[:n] {
		if n == len(preface) {
			return http2
		}
		return unknown
	}
	if !token(b[:1]) {
		return notHTTP
	}
	end := bytes.IndexAny(b, "\r\n")
	if end < 0 {
		if len(b) >= maxLine {
			return notHTTP
		}
		return unknown
	}
	return requestLine(b[:end])
}

// requestLine judges method SP target SP version (RFC 9112 section 3).
func requestLine(b []byte) verdict {
	method, rest, ok := bytes.Cut(b, []byte(" "))
	if !ok || !token(method) {
		return notHTTP
	}
	at := bytes.LastIndexByte(rest, ' ')
	if at < 1 {
		return notHTTP
	}
	v := rest[at+1:]
	switch {
	case string(v) == "HTTP/1.1":
		return http11
	case len(v) == len("HTTP/1.0") && string(v[:5]) == "HTTP/" && digit(v[5]) && v[6] == '.' && digit(v[7]):
		return http10
	}
	return notHTTP
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// token says whether b is a token (RFC 9110 section 5.6.2), as every method is: Envoy knows no list of them either.
func token(b []byte) bool {
	for _, c := range b {
		if !digit(c) && (c|0x20 < 'a' || c|0x20 > 'z') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return len(b) > 0
}
