package route

import (
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"

	"github.com/outrigger-proxy/outrigger/internal/format"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
)

// Tracing overrides the sampling and the tags of the connection manager (envoy.config.route.v3.Tracing).
type Tracing struct {
	Client, Random, Overall runtime.Fraction // default: all
	// CustomTags are for the connection manager to compile together with its own when its chain is built.
	CustomTags []*tracingv3.CustomTag
	// Operation names the span and UpstreamOperation that of the upstream; nil: as the decorator or the connection manager says.
	Operation, UpstreamOperation *format.Template
}
