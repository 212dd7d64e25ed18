// Package customheader is envoy.http.original_ip_detection.custom_header
// (type.googleapis.com/envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig): it takes the address of the
// client from a header that a trusted proxy sets.
package customheader

import (
	"net/netip"
	"strings"

	customv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/custom_header/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Detection is the extension.
type Detection struct{ settings }

// New builds it.
func New(p *customv3.CustomHeaderConfig, _ filter.Env) (filter.IPDetection, error) {
	return &Detection{parse(p)}, nil
}

// Detect reads the header.
func (d *Detection) Detect(q *stream.Request, _ netip.AddrPort) filter.Detected {
	v, _ := q.Header.Get(d.header)
	a, err := netip.ParseAddr(strings.TrimSpace(v))
	if err != nil {
		return filter.Detected{Reject: d.reject, SkipXFFAppend: true}
	}
	return filter.Detected{Address: a, Trusted: d.trusted, SkipXFFAppend: true}
}
