package runtime

import (
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &bootstrapv3.LayeredRuntime{}, &bootstrapv3.RuntimeLayer{}, &corev3.RuntimeFractionalPercent{},
		&corev3.RuntimeFeatureFlag{}, &corev3.RuntimeUInt32{}, &corev3.RuntimeDouble{}, &corev3.RuntimePercent{}, &typev3.FractionalPercent{})
}
