package outlier

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
)

func TestFields(t *testing.T) { fieldtest.Check(t, "fields.golden", &clusterv3.OutlierDetection{}) }
