package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	"github.com/outrigger-proxy/outrigger/cluster/discovery/dns"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/snapshot"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

// Forwarding is what a dynamic forward proxy (envoy.clusters.dynamic_forward_proxy) has beyond other clusters: its hosts are whom clients
// ask for.
type Forwarding struct {
	// set at construction
	c     *Cluster
	cache *dns.Cache
	subs  *subOptions // nil: hosts are those of the cache
	// owned by the control loop
	entries map[string]*dns.Entry
	stop    func()
	// atomic
	hosts snapshot.Value[map[string]forwarded]
	made  snapshot.Value[map[string]*made] // clusters of single hosts, by key
}

// forwarded is a host that has been asked for.
type forwarded struct {
	host  *Host
	entry *dns.Entry
}

// made is a cluster that was made for a host.
type made struct {
	used atomic.Int64 // in seconds
}

// Keys of the filter state that say where a request goes, in Envoy's words.
const (
	dynamicHost = "envoy.upstream.dynamic_host"
	dynamicPort = "envoy.upstream.dynamic_port"
)

// Forwarding returns what c has as a dynamic forward proxy; nil: it is none.
func (c *Cluster) Forwarding() *Forwarding { return c.forward }

// forwardTo makes a dynamic forward proxy of c.
func (c *Cluster) forwardTo() (err error) {
	f := &Forwarding{c: c, subs: c.config.forward.subs, entries: map[string]*dns.Entry{}}
	if f.cache, err = c.m.DNSCache(c.config.forward.cache); err != nil {
		return fmt.Errorf("cluster_type.typed_config.dns_cache_config: %w", err)
	}
	f.hosts.Store(&map[string]forwarded{})
	f.made.Store(&map[string]*made{})
	c.forward = f
	c.source = f
	return nil
}

// Start takes the hosts of the cache, and then whatever comes to be there.
func (f *Forwarding) Start(update func(*discovery.Assignment)) {
	if f.subs != nil {
		update(&discovery.Assignment{})
		f.sweep()
		return
	}
	f.stop = f.cache.Watch(func() { update(f.assignment()) })
	update(f.assignment())
}

// Close ends it, and the clusters that it has made.
func (f *Forwarding) Close() {
	if f.stop != nil {
		f.stop()
	}
	for key := range *f.made.Load() {
		f.c.m.drop(subName(key))
	}
}

func (f *Forwarding) assignment() *discovery.Assignment {
	var l []discovery.Endpoint
	clear(f.entries)
	f.cache.Each(func(e *dns.Entry, r *dns.Result) {
		f.entries[e.Key] = e
		l = append(l, discovery.Endpoint{Key: e.Key, Hostname: e.Key, Address: r.Addresses[0], Additional: r.Addresses[1:], Weight: 1})
	})
	return &discovery.Assignment{Overprovisioning: 140, Groups: []discovery.Group{{Endpoints: l}}}
}

// index lets hosts be found by what clients ask for.
func (f *Forwarding) index(list []*Host) {
	hosts := make(map[string]forwarded, len(list))
	for _, h := range list {
		hosts[h.Hostname] = forwarded{h, f.entries[h.Hostname]}
	}
	f.hosts.Store(&hosts)
}

// Port is the default one: that of https where the cluster speaks TLS.
func (f *Forwarding) Port() uint16 {
	if n, ok := f.c.sockets.choose(nil, nil).(interface{ Negotiates() bool }); ok && n.Negotiates() {
		return 443
	}
	return 80
}

// Divided says that each host has a cluster of its own (sub_clusters_config), which Sub makes.
func (f *Forwarding) Divided() bool { return f.subs != nil }

// Key is what a host is known by where clients ask for authority.
func (f *Forwarding) Key(authority string) string { return dns.Key(authority, f.Port()) }

// Aim notes in q where the cluster shall take a request for authority, whose head is h; both are empty for TCP.
func (c *Cluster) Aim(q *lb.Request, i *stream.Info, authority string, h *header.Map) {
	switch c.config.kind {
	case originalDst:
		q.Destination = c.destination(i, h)
	case forward:
		q.Host = c.forward.wanted(i, authority, h)
	}
}

func (f *Forwarding) wanted(i *stream.Info, authority string, h *header.Map) string {
	if h == nil && i.Conn != nil {
		authority = i.Conn.ServerName
	}
	host, port := Dynamic(i)
	if host != "" {
		authority = host
	}
	if port == 0 {
		port = f.Port()
	}
	if authority == "" {
		return ""
	}
	return dns.Key(authority, port)
}

// Dynamic is the host and the port that filters have written for a stream or its connection; empty and 0: none.
func Dynamic(i *stream.Info) (host string, port uint16) {
	for _, s := range []stream.FilterState{i.State, connState(i)} {
		if len(s) == 0 {
			continue
		}
		if v, ok := s[dynamicHost]; ok && host == "" {
			host = fmt.Sprint(v)
		}
		if v, ok := s[dynamicPort]; ok && port == 0 {
			n, _ := strconv.ParseUint(fmt.Sprint(v), 10, 16)
			port = uint16(n)
		}
	}
	return host, port
}

func connState(i *stream.Info) stream.FilterState {
	if i.Conn == nil {
		return nil
	}
	return i.Conn.State
}

// Resolve sees to it that the host of q, as Aim has noted it, is known; the fiber of w may wait. Where it is not to be found, why says so.
func (f *Forwarding) Resolve(w *fiber.Worker, q *lb.Request) (why string) {
	if f.subs != nil || q.Host == "" {
		return ""
	}
	if _, ok := (*f.hosts.Load())[q.Host]; ok {
		return ""
	}
	switch r, err := f.cache.Load(w, q.Host); {
	case errors.Is(err, dns.ErrCacheOverflow):
		return err.Error()
	case err == nil && len(r.Addresses) == 0:
		return "dns_resolution_failure{" + r.Details + "}"
	}
	return ""
}

// pick finds the host of a request.
func (f *Forwarding) pick(w *fiber.Worker, q lb.Request) *Host {
	if f.subs != nil {
		if sub := f.c.m.Get(subName(q.Host)); sub != nil && q.Host != "" {
			return sub.Pick(w, q)
		}
		return nil
	}
	h := (*f.hosts.Load())[q.Host]
	if h.host == nil || h.host.Flags.Unhealthy() {
		return nil
	}
	if h.entry != nil {
		h.entry.Touch(w.Wall())
	}
	return h.host
}

// Errors of Sub, in the words of details of responses.
var (
	ErrSubOverflow = errors.New("sub_cluster_overflow")
	ErrSubTimeout  = errors.New("sub_cluster_warming_timeout")
)

// subName is the name of the cluster that is made for a host.
func subName(key string) string {
	return "DFPCluster:" + strings.NewReplacer("[", "", "]", "").Replace(key)
}

// Sub sees to it that a host, as Key has it, has its cluster; the fiber of w waits for it, but not longer than limit.
func (f *Forwarding) Sub(w *fiber.Worker, key string, limit time.Duration) error {
	if m := (*f.made.Load())[key]; m != nil && f.c.m.Get(subName(key)) != nil {
		m.used.Store(w.Wall().Unix())
		return nil
	}
	key = strings.Clone(key)
	_, err := fiber.Await(w, func(ctx context.Context) (struct{}, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, limit, ErrSubTimeout)
		defer cancel()
		done := make(chan error, 1)
		f.c.m.post(func() { f.make(key, func(err error) { done <- err }) }) //nolint:contextcheck // who waits may go, the cluster comes
		select {
		case err := <-done:
			return struct{}{}, err
		case <-ctx.Done():
			return struct{}{}, context.Cause(ctx)
		}
	})
	return err
}

// make makes the cluster of a host, and calls then when it is there. Control loop only.
func (f *Forwarding) make(key string, then func(error)) {
	all := *f.made.Load()
	m, name := all[key], subName(key)
	if m == nil {
		if len(all) >= f.subs.most {
			then(ErrSubOverflow)
			return
		}
		m = &made{}
		next := maps.Clone(all)
		next[key] = m
		f.made.Store(&next)
		if err := f.c.m.derive(f.config(name, key)); err != nil {
			f.forget(key)
			then(err)
			return
		}
	}
	m.used.Store(time.Now().Unix())
	f.c.m.whenThere(name, func() { then(nil) })
}

// config is that of the cluster of a host: as ours, with one name.
func (f *Forwarding) config(name, key string) *clusterv3.Cluster {
	c := proto.Clone(f.c.Proto).(*clusterv3.Cluster)
	host, port, _ := net.SplitHostPort(key)
	number, _ := strconv.ParseUint(port, 10, 16)
	c.Name, c.LbPolicy = name, f.subs.config.GetLbPolicy()
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
	if d := f.subs.config.GetDnsClusterConfig(); d != nil {
		typed, _ := anypb.New(d)
		c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{Name: "envoy.cluster.dns", TypedConfig: typed}}
	}
	if c.GetUpstreamHttpProtocolOptions() == nil {
		c.UpstreamHttpProtocolOptions = &corev3.UpstreamHttpProtocolOptions{AutoSni: true, AutoSanValidation: true}
	}
	socket := &corev3.SocketAddress{Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(number)}}
	endpoint := &endpointv3.Endpoint{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: socket}}}
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: endpoint}}},
	}}}
	return c
}

func (f *Forwarding) forget(key string) {
	next := maps.Clone(*f.made.Load())
	delete(next, key)
	f.made.Store(&next)
}

// sweep takes away the clusters that nobody has used for their time, again and again.
func (f *Forwarding) sweep() {
	f.stop = f.c.m.after(f.subs.ttl, func() {
		oldest := time.Now().Add(-f.subs.ttl).Unix()
		for key, m := range *f.made.Load() {
			if m.used.Load() < oldest {
				f.forget(key)
				f.c.m.drop(subName(key))
			}
		}
		f.sweep()
	})
}

// derive adds a cluster that follows from another one, and that no control plane takes away.
func (m *Manager) derive(p *clusterv3.Cluster) error {
	if _, err := m.Update(p, false, ""); err != nil {
		return err
	}
	m.latest(p.GetName()).derived = true
	return nil
}

// whenThere calls f when a cluster of a name is in force, which may be now.
func (m *Manager) whenThere(name string, f func()) {
	if m.clusters[name] != nil {
		f()
		return
	}
	m.awaited[name] = append(m.awaited[name], f)
}

// arrived tells those who wait for a cluster.
func (m *Manager) arrived(name string) {
	l := m.awaited[name]
	delete(m.awaited, name)
	for _, f := range l {
		f()
	}
}
