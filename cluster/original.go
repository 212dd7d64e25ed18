package cluster

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	"github.com/outrigger-proxy/outrigger/cluster/health"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/snapshot"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

// originalOptions are those of an original-destination cluster (envoy.config.cluster.v3.Cluster.OriginalDstLbConfig).
type originalOptions struct {
	header   string   // empty: no header decides
	port     uint16   // 0: as the destination says
	metadata []string // namespace, then the path of keys; nil: none
	cleanup  time.Duration
}

func (o *config) parseOriginal(c *clusterv3.Cluster) error {
	p := c.GetOriginalDstLbConfig()
	o.original.cleanup = duration(c.GetCleanupInterval(), 5*time.Second)
	if p.GetUseHttpHeader() {
		if o.original.header = p.GetHttpHeaderName(); o.original.header == "" {
			o.original.header = "x-envoy-original-dst-host"
		}
	} else if p.GetHttpHeaderName() != "" {
		return errors.New("original_dst_lb_config.http_header_name: is set while use_http_header is false")
	}
	if n := p.GetUpstreamPortOverride(); n.GetValue() > 65535 {
		return refused("original_dst_lb_config.upstream_port_override", "is out of range")
	}
	o.original.port = uint16(p.GetUpstreamPortOverride().GetValue())
	if k := p.GetMetadataKey(); k != nil {
		o.original.metadata = []string{k.GetKey()}
		for _, s := range k.GetPath() {
			o.original.metadata = append(o.original.metadata, s.GetKey())
		}
	}
	return nil
}

// originals are the hosts of an original-destination cluster: whatever clients have asked for lately.
type originals struct {
	mu sync.Mutex // writers of set
	// atomic
	set snapshot.Value[map[netip.AddrPort]*original]
}

type original struct {
	host *Host
	used atomic.Bool // since the last cleanup
}

// destination returns where an original-destination cluster takes a request; zero where nothing says it. h is nil for TCP. (Envoy: OriginalDstCluster::LoadBalancer::chooseHost.)
func (c *Cluster) destination(i *stream.Info, h *header.Map) netip.AddrPort {
	o := &c.config.original
	to := c.overridden(i, h)
	if !to.IsValid() && i.Conn != nil && i.Conn.LocalRestored {
		to = i.Conn.Local.AddrPort
	}
	if to.IsValid() && o.port != 0 {
		to = netip.AddrPortFrom(to.Addr(), o.port)
	}
	return to
}

// originalState is the key of a destination that a filter has written, in Envoy's words.
const originalState = "envoy.network.transport_socket.original_dst_address"

// overridden is the destination that something else says than the socket: a filter, then metadata, then a header.
func (c *Cluster) overridden(i *stream.Info, h *header.Map) (to netip.AddrPort) {
	for _, s := range []stream.FilterState{i.State, connState(i)} {
		if v, ok := s[originalState]; ok {
			return c.parseDestination(fmt.Sprint(v))
		}
	}
	o := &c.config.original
	if o.metadata != nil {
		for _, m := range []stream.Metadata{i.Metadata, connMetadata(i)} {
			if v, ok := find(m, o.metadata); ok {
				to = c.parseDestination(v)
				break
			}
		}
	}
	if !to.IsValid() && h != nil && o.header != "" {
		if v, ok := h.Get(o.header); ok {
			to = c.parseDestination(v)
		}
	}
	return to
}

func (c *Cluster) parseDestination(v string) netip.AddrPort {
	to, err := netip.ParseAddrPort(v)
	if err != nil {
		c.Stats.OriginalDstInvalid.Inc()
	}
	return to
}

func connMetadata(i *stream.Info) stream.Metadata {
	if i.Conn == nil {
		return nil
	}
	return i.Conn.Metadata
}

// find returns the text that stands at a path of keys.
func find(m stream.Metadata, path []string) (string, bool) {
	var v any = m[path[0]]
	for _, k := range path[1:] {
		s, ok := v.(map[string]any)
		if !ok {
			return "", false
		}
		v = s[k]
	}
	text, ok := v.(string)
	return text, ok
}

// original returns the host at the request's destination, making it if it is new.
func (c *Cluster) original(r lb.Request) *Host {
	if !r.Destination.IsValid() {
		return nil
	}
	e := (*c.originals.set.Load())[r.Destination]
	if e == nil {
		e = c.newOriginal(r.Destination)
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e.host
}

func (c *Cluster) newOriginal(to netip.AddrPort) *original {
	o := &c.originals
	o.mu.Lock() // the first request to a destination; the lock is held for the copy of a map
	defer o.mu.Unlock()
	old := *o.set.Load()
	if e := old[to]; e != nil {
		return e
	}
	a := stream.Address{AddrPort: to}
	point := discovery.Endpoint{Address: a, Hostname: c.Name + a.String(), Weight: 1}
	m := &member{cluster: c, Peer: pool.NewPeer(pool.Target{Address: a, Hostname: point.Hostname, Socket: c.sockets.usual}, &c.pools, len(c.m.env.Workers))}
	judge := c.judgeOriginal(m, &point)
	e := &original{host: newHost(&point, &discovery.Group{}, m)}
	judge() // from here on the member is the control loop's
	next := make(map[netip.AddrPort]*original, len(old)+1)
	maps.Copy(next, old)
	next[to] = e
	o.set.Store(&next)
	c.Stats.MembershipChange.Inc()
	c.countOriginals()
	return e
}

// judgeOriginal lets a host be checked and judged, which is shown and counted; it is used all the same, since the client has chosen it.
// The function it returns begins with it.
func (c *Cluster) judgeOriginal(m *member, e *discovery.Endpoint) (begin func()) {
	if c.detector == nil && len(c.checkers) == 0 {
		return func() {}
	}
	if c.detector != nil {
		m.monitor = c.detector.NewMonitor(e.Address.String(), func() {
			m.flags.Set(health.FailedOutlier, m.monitor.Ejected())
			m.show()
			c.touch()
		})
	}
	return func() {
		c.m.post(func() {
			if c.closed {
				return
			}
			if c.detector != nil {
				c.detector.Add(m.monitor)
			}
			c.examine(m, e, &discovery.Group{})
			m.show()
			c.touch()
		})
	}
}

func (c *Cluster) countOriginals() {
	all := *c.originals.set.Load()
	sound := int64(0)
	for _, e := range all {
		sound += int64(flag(!e.host.Standing().Unhealthy()))
	}
	c.Stats.MembershipTotal.Set(int64(len(all)))
	c.Stats.MembershipHealthy.Set(sound)
}

// startOriginals begins to forget hosts that nobody has asked for during a cleanup interval and that have no connection.
func (c *Cluster) startOriginals() {
	c.stopCleanup = c.m.after(c.config.original.cleanup, func() {
		c.cleanup()
		c.startOriginals()
	})
}

func (c *Cluster) cleanup() {
	o := &c.originals
	o.mu.Lock()
	defer o.mu.Unlock()
	next := map[netip.AddrPort]*original{}
	old := *o.set.Load()
	for k, e := range old {
		if e.used.Swap(false) || e.host.Stats.CxActive.Load() > 0 {
			next[k] = e
		} else {
			c.dismiss(e.host.member)
		}
	}
	if len(next) != len(old) {
		o.set.Store(&next)
		c.Stats.MembershipChange.Inc()
		c.countOriginals()
	}
}

func (c *Cluster) closeOriginals() {
	if c.stopCleanup != nil {
		c.stopCleanup()
	}
	for _, e := range *c.originals.set.Load() {
		c.dismiss(e.host.member)
	}
}

func (c *Cluster) originalHosts() (l []*Host) {
	for _, e := range *c.originals.set.Load() {
		l = append(l, e.host)
	}
	slices.SortFunc(l, func(a, b *Host) int { return a.Address.Compare(b.Address.AddrPort) })
	return l
}
