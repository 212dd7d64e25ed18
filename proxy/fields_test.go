package proxy

import (
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
)

// TestFields: the bootstrap, but for the resources in it, and layered_runtime, which internal/runtime decides.
func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &bootstrapv3.Bootstrap{}, &bootstrapv3.Admin{}, &bootstrapv3.ClusterManager{})
}
