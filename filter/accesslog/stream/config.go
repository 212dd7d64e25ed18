package stream

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/outrigger-proxy/outrigger/internal/format"
)

// parse compiles the format; none means Envoy's default format.
func parse(c *corev3.SubstitutionFormatString) (*format.Template, error) {
	if c == nil {
		return format.Default(), nil
	}
	t, err := format.CompileSource(c)
	if err != nil {
		return nil, fmt.Errorf("log_format.%w", err)
	}
	return t, nil
}
