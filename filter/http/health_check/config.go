package healthcheck

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	healthcheckv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"

	"github.com/outrigger-proxy/outrigger/internal/match"
)

type config struct {
	passThrough bool
	cacheTime   time.Duration // 0: nothing is cached
	headers     match.Headers // none: all requests are health checks
	clusters    []minimum     // sorted by name
}

// minimum is how much of a cluster must be able to serve.
type minimum struct {
	name    string
	percent uint64
}

// parse reads p. Percentages are cut to whole ones, as the field says.
func parse(p *healthcheckv3.HealthCheck) (config, error) {
	c := config{passThrough: p.GetPassThroughMode().GetValue(), cacheTime: p.GetCacheTime().AsDuration()}
	if c.cacheTime > 0 && !c.passThrough {
		return c, errors.New("cache_time: cache_time_ms must not be set when path_through_mode is disabled")
	}
	var err error
	if c.headers, err = match.CompileHeaders(p.GetHeaders()); err != nil {
		return c, fmt.Errorf("headers%w", err)
	}
	list := p.GetClusterMinHealthyPercentages()
	for _, name := range slices.Sorted(maps.Keys(list)) {
		c.clusters = append(c.clusters, minimum{name, uint64(list[name].GetValue())})
	}
	return c, nil
}
