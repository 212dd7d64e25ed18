// Package tlsinspector is envoy.filters.listener.tls_inspector
// (type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector): it looks at the ClientHello of a connection,
// without consuming it, for the server name and the application protocols that the client asks for, so that filter chains can match
// them, and for fingerprints of the client where those are wanted.
package tlsinspector

import (
	"strings"

	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

type inspectorStats struct {
	TooLarge     stats.Counter   `stat:"client_hello_too_large"`
	Found        stats.Counter   `stat:"tls_found"`
	NotFound     stats.Counter   `stat:"tls_not_found"`
	ALPNFound    stats.Counter   `stat:"alpn_found"`
	ALPNNotFound stats.Counter   `stat:"alpn_not_found"`
	SNIFound     stats.Counter   `stat:"sni_found"`
	SNINotFound  stats.Counter   `stat:"sni_not_found"`
	Bytes        stats.Histogram `stat:"bytes_processed"`
}

type inspector struct {
	*config

	stats *inspectorStats
}

// New builds it.
func New(p *tlsinspectorv3.TlsInspector, env filter.Env) (filter.ListenerFilter, error) {
	c, err := parse(p)
	if err != nil {
		return nil, err
	}
	return &inspector{config: c, stats: stats.New[inspectorStats](env.Stats.Root().Sub("tls_inspector"))}, nil
}

// OnAccept waits for the ClientHello.
func (i *inspector) OnAccept(a *filter.Accepted) filter.Status {
	for need := 1; ; {
		b, err := a.Peek(need)
		if err != nil {
			return filter.Stop
		}
		h, size, more, err := parseHello(b)
		switch {
		case err != nil:
			return i.other(len(b))
		case more == 0 && size <= i.limit:
			i.found(a, &h, size)
			return filter.Continue
		case len(b) >= i.limit || size > i.limit:
			i.stats.TooLarge.Inc()
			i.stats.Bytes.Record(uint64(min(len(b), i.limit)))
			return filter.Stop
		}
		need = min(more, i.limit)
	}
}

// other is a client that does not speak TLS.
func (i *inspector) other(n int) filter.Status {
	i.stats.Bytes.Record(uint64(n))
	if i.strict {
		return filter.Stop
	}
	i.stats.NotFound.Inc()
	return filter.Continue
}

func (i *inspector) found(a *filter.Accepted, h *hello, size int) {
	i.stats.Found.Inc()
	i.stats.Bytes.Record(uint64(size))
	a.TransportProtocol = "tls"
	if len(h.sni) > 0 {
		i.stats.SNIFound.Inc()
		a.Info.ServerName = strings.ToLower(string(h.sni))
	} else {
		i.stats.SNINotFound.Inc()
	}
	if len(h.alpn) > 0 {
		i.stats.ALPNFound.Inc()
		a.ApplicationProtocols = h.protocols()
	} else {
		i.stats.ALPNNotFound.Inc()
	}
	if i.ja3 {
		a.Info.JA3 = h.fingerprint3()
	}
	if i.ja4 {
		a.Info.JA4 = h.fingerprint4()
	}
}
