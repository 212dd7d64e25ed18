package outlier

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"

	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &clusterv3.OutlierDetection{}, &matcherv3.MatchPredicate{}, &matcherv3.HttpHeadersMatch{})
}
