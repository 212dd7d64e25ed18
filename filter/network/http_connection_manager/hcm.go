// Package hcm is envoy.filters.network.http_connection_manager
// (type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager): the terminal network
// filter that reads requests from a connection, sends each through its HTTP filters, and writes the responses.
//
// The files follow a request: conn.go (a connection), stream.go (a stream), request.go, address.go, path.go and requestid.go (the
// head of the request), upgrade.go, reply.go (local replies), response.go (the head of the response). config.go reads the message
// and build.go makes the runtime objects of it.
package hcm

import (
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/snapshot"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// Manager is the terminal network filter. Its connections live on when its configuration changes.
type Manager struct {
	// set at construction
	env      filter.Env
	shards   []shard
	stats    *connStats
	listener *listenerStats
	// atomic
	config snapshot.Value[config]
}

// shard is what one worker owns.
type shard struct {
	streams []*exchange
	http2   http2.Streams
	_       [16]byte // a cache line of its own
}

// New builds it.
func New(p *hcmv3.HttpConnectionManager, env filter.Env) (any, error) {
	env.Scope = env.Stats.Root().Sub("http").Sub(p.GetStatPrefix())
	c, err := build(p, env)
	if err != nil {
		return nil, err
	}
	m := &Manager{env: env, shards: make([]shard, len(env.Workers)), stats: stats.New[connStats](env.Scope), listener: &listenerStats{}}
	if env.Listener != nil {
		m.listener = stats.New[listenerStats](env.Listener.Scope.Sub("http").Sub(p.GetStatPrefix()))
	}
	m.config.Store(c)
	return m, nil
}

// Update takes over the configuration of next, which was built for the same listener; open connections and streams stay.
func (m *Manager) Update(next *Manager) { m.config.Store(next.config.Load()) }

// Close is called when no connection is left, and none will come: nobody follows the routes any more.
func (m *Manager) Close() {
	if t := m.config.Load().routes; t != nil {
		t.Release()
	}
}

func (sh *shard) take() *exchange {
	n := len(sh.streams)
	if n == 0 {
		return &exchange{}
	}
	x := sh.streams[n-1]
	sh.streams = sh.streams[:n-1]
	return x
}

func (sh *shard) put(x *exchange) { sh.streams = append(sh.streams, x) }
