// Package connectionlimit is envoy.filters.network.connection_limit
// (type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit): it closes connections of its filter chain
// beyond a number, after a delay if one is set.
package connectionlimit

import (
	"errors"
	"sync/atomic"
	"time"

	connectionlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

type limitStats struct {
	Limited stats.Counter `stat:"limited_connections"`
	Active  stats.Gauge   `stat:"active_connections"`
}

type limit struct {
	// set at construction
	max     uint64
	delay   time.Duration
	enabled runtime.Feature
	runtime *runtime.Loader
	stats   *limitStats
	// atomic
	open atomic.Uint64 // over all workers: the limit is exact
}

// New builds it.
func New(p *connectionlimitv3.ConnectionLimit, env filter.Env) (any, error) {
	if p.GetMaxConnections() == nil {
		return nil, errors.New("max_connections: is required")
	}
	return &limit{
		max: p.GetMaxConnections().GetValue(), delay: p.GetDelay().AsDuration(), runtime: env.Runtime,
		enabled: runtime.CompileFeature(p.GetRuntimeEnabled(), true),
		stats:   stats.New[limitStats](env.Stats.Root().Sub("connection_limit").Sub(stats.Sanitize(p.GetStatPrefix()))),
	}, nil
}

// OnConn counts the connection, or holds it for the delay and has it closed.
func (l *limit) OnConn(c *filter.Conn) filter.Status {
	if !l.enabled.Enabled(l.runtime.Load()) {
		return filter.Continue
	}
	l.stats.Active.Inc()
	c.OnEnd(l.stats.Active.Dec)
	if l.open.Add(1) <= l.max {
		c.OnEnd(l.release)
		return filter.Continue
	}
	l.release()
	l.stats.Limited.Inc()
	if l.delay > 0 {
		_ = c.Worker.Sleep(l.delay)
	}
	return filter.Stop
}

func (l *limit) release() { l.open.Add(^uint64(0)) }
