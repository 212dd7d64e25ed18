// Package xdsclient speaks xDS, the protocol between proxies and their control plane, and knows no resource's meaning: it brings
// messages to those who want them by type and name (package internal/subscription), and carries their opinion back.
//
// machine.go and batch.go are the protocol as a state machine without I/O; mux.go shares one source among watchers; stream.go, grpc.go,
// file.go and rest.go are the sources; client.go finds the source that a ConfigSource names.
package xdsclient

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/lastgood"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
	inotify "github.com/outrigger-proxy/outrigger/internal/watch"
)

// Config is what a Client is made of.
type Config struct {
	// Node is who this proxy says it is.
	Node *corev3.Node
	// ADS is where aggregated resources come from (dynamic_resources.ads_config); nil: there is no such server.
	ADS *corev3.ApiConfigSource
	// Dial connects to a host of a cluster.
	Dial func(ctx context.Context, cluster string) (net.Conn, error)
	// HasCluster says whether the bootstrap has the cluster, statically and without need of a control plane.
	HasCluster func(name string) error
	// Check holds a resource to its rules before anybody sees it. It is not asked about those that protofile.Canonical finds clean.
	Check func(m proto.Message) error
	// Post runs a function on the control loop.
	Post  func(func()) bool
	Stats *stats.Store
	Log   *zap.Logger
	// LastGood keeps what was accepted for times without a server; nil: it is not kept.
	LastGood *lastgood.Store
}

// Client brings resources. It belongs to the control loop.
type Client struct {
	Config

	log   *zap.Logger
	files *inotify.Watcher
	ads   *mux // nil: none
	all   map[*mux]struct{}
	holds int
	// closed keeps what ends with the process from being forgotten on disk
	closed bool

	running sync.WaitGroup // goroutines of sources
}

// New makes a client; nothing is asked for before Start.
func New(c Config) (*Client, error) {
	x := &Client{Config: c, log: c.Log, files: inotify.New(), all: map[*mux]struct{}{}}
	if c.ADS == nil {
		return x, nil
	}
	if err := x.named(); err != nil {
		return nil, fmt.Errorf("ads_config: %w", err)
	}
	s, err := x.stream(c.ADS, subscription.Type{Service: aggregated, Method: "AggregatedResources"})
	if err != nil {
		return nil, fmt.Errorf("ads_config.%w", err)
	}
	x.ads = x.newMux(s, s.delta, c.ADS, stats.New[controlStats](c.Stats.Root().Sub("control_plane")))
	return x, nil
}

const aggregated = "envoy.service.discovery.v3.AggregatedDiscoveryService"

func (c *Client) newMux(s source, delta bool, p *corev3.ApiConfigSource, counts *controlStats) *mux {
	x := &mux{
		client: c, m: newMachine(c.Node, delta, !p.GetSetNodeOnFirstMessageOnly(), c.Check), source: s,
		stats: counts, watches: map[*kind][]*watch{}, timers: map[*kind]map[string]*time.Timer{}, shelf: c.shelf(p), swept: map[*kind]bool{},
	}
	c.all[x] = struct{}{}
	return x
}

// Start opens the aggregated stream, if there is one.
func (c *Client) Start() {
	if c.LastGood != nil {
		c.running.Go(c.LastGood.Run) // ends with Close
	}
	if c.ads != nil {
		c.ads.start()
	}
}

// Close ends all subscriptions.
func (c *Client) Close() {
	c.closed = true
	for x := range maps.Clone(c.all) {
		x.close()
	}
	c.files.Close()
	c.LastGood.Close()
}

// Wait returns when the goroutines of a closed client have ended. It must not be called on the control loop.
func (c *Client) Wait() { c.running.Wait() }

// Hold calls f; what it subscribes to is asked for once it has returned, in one request for each type.
func (c *Client) Hold(f func()) {
	c.holds++
	f()
	c.holds--
	for x := range c.all {
		x.flush()
	}
}

// Pause keeps resources of a type from being asked for, until they are resumed.
func (c *Client) Pause(t subscription.Type) {
	if c.ads != nil {
		c.ads.m.paused[t.URL] = true
	}
}

// Resume ends a pause.
func (c *Client) Resume(t subscription.Type) {
	if c.ads != nil {
		delete(c.ads.m.paused, t.URL)
		c.ads.flush()
	}
}

// After runs f on the control loop after d.
func (c *Client) After(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { c.Post(f) })
}

// initialFetchTimeout is Envoy's default.
const initialFetchTimeout = 15 * time.Second

// named says whether the node says who it is, without which Envoy subscribes to nothing, not even to a file.
func (c *Client) named() error {
	if c.Node.GetId() == "" || c.Node.GetCluster() == "" {
		return errors.New("node 'id' and 'cluster' are required: set them in 'node' of the bootstrap or by --service-node and --service-cluster")
	}
	return nil
}

// Subscribe implements subscription.Source.
func (c *Client) Subscribe(from *corev3.ConfigSource, w subscription.Wish) (subscription.Subscription, error) {
	if err := c.named(); err != nil {
		return nil, fmt.Errorf("config_source_specifier: %w", err)
	}
	timeout := initialFetchTimeout
	if t := from.GetInitialFetchTimeout(); t != nil {
		timeout = t.AsDuration()
	}
	if v := from.GetResourceApiVersion(); v == corev3.ApiVersion_V2 {
		return nil, errors.New("resource_api_version: V2 is not supported")
	}
	if len(from.GetAuthorities()) > 0 {
		return nil, errors.New("authorities: names of the xdstp scheme are not supported")
	}
	switch s := from.GetConfigSourceSpecifier().(type) {
	case *corev3.ConfigSource_Ads:
		if c.ads == nil {
			return nil, errors.New("ads: there is no ads_config in dynamic_resources")
		}
		return c.ads.watch(w, timeout), nil
	case *corev3.ConfigSource_Path:
		return c.ownFile(&corev3.PathConfigSource{Path: s.Path}, w, "path")
	case *corev3.ConfigSource_PathConfigSource:
		return c.ownFile(s.PathConfigSource, w, "path_config_source.path")
	case *corev3.ConfigSource_ApiConfigSource:
		return c.own(s.ApiConfigSource, w, timeout)
	case *corev3.ConfigSource_Self:
		return nil, errors.New("self: is not supported: it is for resources that a control plane has sent")
	}
	return nil, errors.New("config_source_specifier: is required")
}

// own makes a subscription with a stream, or a REST service, of its own.
func (c *Client) own(p *corev3.ApiConfigSource, w subscription.Wish, timeout time.Duration) (subscription.Subscription, error) {
	var s source
	delta := false
	switch p.GetApiType() {
	case corev3.ApiConfigSource_REST:
		r, err := c.poll(p, w.Type)
		if err != nil {
			return nil, fmt.Errorf("api_config_source.%w", err)
		}
		s = r
	case corev3.ApiConfigSource_AGGREGATED_GRPC, corev3.ApiConfigSource_AGGREGATED_DELTA_GRPC:
		return nil, fmt.Errorf("api_config_source.api_type: %s is for xdstp names, which are not supported", p.GetApiType())
	default:
		g, err := c.stream(p, w.Type)
		if err != nil {
			return nil, fmt.Errorf("api_config_source.%w", err)
		}
		s, delta = g, g.delta
	}
	x := c.newMux(s, delta, p, stats.New[controlStats](w.Scope.Sub("control_plane")))
	x.whole = p.GetApiType() == corev3.ApiConfigSource_REST
	own := x.watch(w, timeout)
	own.own = true
	return own, nil
}

// ownFile makes a subscription to a file.
func (c *Client) ownFile(p *corev3.PathConfigSource, w subscription.Wish, field string) (subscription.Subscription, error) {
	f, err := c.file(p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	f.url = w.Type.URL
	x := c.newMux(f, false, &corev3.ApiConfigSource{}, &controlStats{})
	x.whole = true
	own := x.watch(w, 0)
	own.own = true
	return own, nil
}
