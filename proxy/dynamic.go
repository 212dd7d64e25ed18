package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/internal/lastgood"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
	"github.com/outrigger-proxy/outrigger/listener"
	"github.com/outrigger-proxy/outrigger/proxy/admin"
	"github.com/outrigger-proxy/outrigger/xdsclient"
)

// dynamic are the resources that a control plane sends: the client that brings them, and what becomes of clusters and listeners.
type dynamic struct {
	// set at construction
	client    *xdsclient.Client
	runtime   *runtime.Loader
	clusters  *discovered // nil: there is no cds_config
	listeners *discovered // nil: there is no lds_config
	reloads   *reloadStats
}

// reloadStats are cluster_manager.cds.*, beside those of the subscription.
type reloadStats struct {
	Reload stats.Counter `stat:"config_reload"`
	Time   stats.Gauge   `stat:"config_reload_time_ms"`
}

// discovered is what is known of all resources of a kind that come as a whole: CDS and LDS.
type discovered struct {
	// set at construction
	wish   subscription.Subscription
	update func(u *subscription.Update) error
	// owned by the control loop
	version string
	first   func() // called when the first answer has been taken in, or has not come in time
}

// Update takes a response in.
func (d *discovered) Update(u *subscription.Update) error {
	err := d.update(u)
	if err == nil && len(u.Refused) == 0 {
		d.version = u.Version
	}
	d.answered()
	return err
}

// Failed lets nobody wait any longer.
func (d *discovered) Failed() { d.answered() }

// waiting says whether the start waits for the first answer.
func (d *discovered) waiting() bool { return d != nil && d.first != nil }

func (d *discovered) answered() {
	if f := d.first; f != nil {
		d.first = nil
		f()
	}
}

// makeClient makes the client, before anything that may want resources.
func (p *Proxy) makeClient() (err error) {
	var kept *lastgood.Store
	if dir := p.options.LastGoodDir; dir != "" && !p.validating() {
		if kept, err = lastgood.Open(dir, stats.New[lastgood.Stats](p.Stats.Root().Sub("last_good")), p.options.Logs.Get("config")); err != nil {
			return fmt.Errorf("--last-good-dir: %w", err)
		}
	}
	p.dynamic.client, err = xdsclient.New(xdsclient.Config{
		Node: p.config.node, ADS: p.ads(), Dial: p.dialCluster, HasCluster: p.hasCluster, Check: p.checkResource,
		Post: p.Control.Post, Stats: p.Stats, Log: p.options.Logs.Get("config"), LastGood: kept,
	})
	if err != nil {
		return fmt.Errorf("dynamic_resources.%w", err)
	}
	return nil
}

func (p *Proxy) ads() *corev3.ApiConfigSource {
	return p.bootstrap.GetDynamicResources().GetAdsConfig()
}

// hasCluster says why a cluster cannot lead to a control plane: it must be there without one.
func (p *Proxy) hasCluster(name string) error {
	for _, c := range p.bootstrap.GetStaticResources().GetClusters() {
		if c.GetName() != name {
			continue
		}
		if e := c.GetEdsClusterConfig().GetEdsConfig(); c.GetType() == clusterv3.Cluster_EDS && e.GetPath() == "" && e.GetPathConfigSource() == nil {
			break
		}
		return nil
	}
	return fmt.Errorf("Unknown gRPC client cluster '%s': it must be statically defined and non-EDS", name)
}

// checkResource holds a resource to the rules of its message.
func (p *Proxy) checkResource(m proto.Message) error {
	found, err := protofile.Check(m)
	if err != nil {
		return err
	}
	if len(found.Unknown) == 0 || p.options.Flags.GetIgnoreUnknownDynamicFields() {
		return nil
	}
	if p.options.Flags.GetRejectUnknownDynamicFields() {
		return protofile.Refuse(found.Unknown)
	}
	p.server.DynamicUnknown.Add(uint64(len(found.Unknown)))
	return nil
}

// dialCluster connects to a host of a cluster, for the client. It runs on a goroutine of the client's.
func (p *Proxy) dialCluster(ctx context.Context, name string) (net.Conn, error) {
	var dial func(context.Context) (net.Conn, error)
	err := fmt.Errorf("no cluster '%s'", name)
	if !p.Control.Do(func() {
		if c := p.Clusters.Get(name); c != nil {
			dial, err = c.Dialer()
		}
	}) {
		return nil, net.ErrClosed
	}
	if err != nil {
		return nil, err
	}
	return dial(ctx)
}

// subscribe looks at where clusters and listeners come from.
func (p *Proxy) subscribe() (err error) {
	r := p.bootstrap.GetDynamicResources()
	if r.GetCdsResourcesLocator() != "" || r.GetLdsResourcesLocator() != "" {
		return errors.New("dynamic_resources: resource locators (xdstp) are not supported")
	}
	all := &p.dynamic
	if r.GetCdsConfig() != nil {
		all.reloads = stats.New[reloadStats](p.Stats.Root().Sub("cluster_manager").Sub("cds"))
	}
	if all.clusters, err = p.discover(r.GetCdsConfig(), subscription.Clusters(), p.Stats.Root().Sub("cluster_manager").Sub("cds"), p.updateClusters); err != nil {
		return fmt.Errorf("dynamic_resources.cds_config.%w", err)
	}
	if all.listeners, err = p.discover(r.GetLdsConfig(), subscription.Listeners(), p.Stats.Root().Sub("listener_manager").Sub("lds"), p.updateListeners); err != nil {
		return fmt.Errorf("dynamic_resources.lds_config.%w", err)
	}
	return nil
}

func (p *Proxy) discover(from *corev3.ConfigSource, t subscription.Type, scope stats.Scope, update func(*subscription.Update) error) (*discovered, error) {
	if from == nil {
		return nil, nil
	}
	d := &discovered{update: update}
	var err error
	d.wish, err = p.dynamic.client.Subscribe(from, subscription.Wish{Type: t, Scope: scope, Watcher: d})
	return d, err
}

// begin asks for the resources, and calls then when the first answer was taken in.
func (d *discovered) begin(then func()) {
	if d == nil {
		then()
		return
	}
	d.first = then
	d.wish.Start()
}

// take applies one resource.
func take(r *subscription.Resource, rejected *subscription.RejectedError, apply func() error) {
	if err := apply(); err != nil {
		rejected.Add(r.Name, err)
	}
}

// updateClusters applies a response of CDS: what is new or different is added, what is gone removed.
func (p *Proxy) updateClusters(u *subscription.Update) error {
	rejected := &subscription.RejectedError{What: "Error adding/updating cluster(s)"}
	present := map[string]bool{}
	changed, removed := 0, 0
	p.Clusters.Batch(func() {
		for i := range u.Resources {
			r := &u.Resources[i]
			if present[r.Name] {
				rejected.Add(r.Name, fmt.Errorf("duplicate cluster %s found", r.Name))
				continue
			}
			present[r.Name] = true
			if r.Same {
				continue
			}
			take(r, rejected, func() error {
				c, ok := r.Message.(*clusterv3.Cluster)
				if !ok {
					return errors.New("is not a cluster")
				}
				done, err := p.Clusters.Update(c, false, r.Version)
				if done {
					changed++
				}
				return err
			})
		}
		for _, name := range p.goneClusters(u, present) {
			if p.Clusters.Remove(name) {
				removed++
			}
		}
	})
	if changed > manyResources {
		p.relax()
	}
	if changed+removed > 0 {
		p.dynamic.reloads.Reload.Inc()
		p.dynamic.reloads.Time.Set(time.Now().UnixMilli())
	}
	p.log.Info("cds: clusters were updated", zap.Int("changed", changed), zap.Int("removed", removed), zap.Int("received", len(u.Resources)))
	return rejected.Err()
}

// manyResources is from when on an update leaves so much garbage behind that it is worth a collection.
const manyResources = 100

func (p *Proxy) goneClusters(u *subscription.Update, present map[string]bool) []string {
	gone := slices.Clone(u.Removed)
	if u.Complete {
		p.Clusters.EachVersion(func(c *cluster.Cluster, _ bool) {
			if !c.Static && !present[c.Name] {
				gone = append(gone, c.Name)
			}
		})
	}
	return gone
}

// updateListeners applies a response of LDS. Those that are gone go first, as in Envoy: their addresses may be wanted.
func (p *Proxy) updateListeners(u *subscription.Update) error {
	rejected := &subscription.RejectedError{What: "Error adding/updating listener(s)"}
	gone := slices.Clone(u.Removed)
	if u.Complete {
		p.Listeners.Each(func(v listener.View) {
			named := func(r subscription.Resource) bool { return r.Name == v.Name }
			if !v.Static && v.State != listener.Draining && !slices.ContainsFunc(u.Resources, named) {
				gone = append(gone, v.Name)
			}
		})
	}
	changed := 0
	for _, name := range gone {
		p.Listeners.Remove(name)
	}
	present := map[string]bool{}
	for i := range u.Resources {
		r := &u.Resources[i]
		if present[r.Name] {
			rejected.Add(r.Name, fmt.Errorf("duplicate listener %s found", r.Name))
			continue
		}
		present[r.Name] = true
		if r.Same {
			continue
		}
		take(r, rejected, func() error {
			l, ok := r.Message.(*listenerv3.Listener)
			if !ok {
				return errors.New("is not a listener")
			}
			done, err := p.Listeners.Update(l, r.Version)
			if done {
				changed++
			}
			return err
		})
	}
	p.log.Info("lds: listeners were updated", zap.Int("changed", changed), zap.Int("removed", len(gone)), zap.Int("received", len(u.Resources)))
	return rejected.Err()
}

func (d *dynamic) kind(k admin.Kind) *discovered {
	if k == admin.CDS {
		return d.clusters
	}
	return d.listeners
}

// Version implements admin.Dynamic, as Resources and Pending do.
func (d *dynamic) Version(k admin.Kind) string {
	if x := d.kind(k); x != nil {
		return x.version
	}
	return ""
}

// Resources lists what is known of all resources.
func (d *dynamic) Resources() []xdsclient.Status { return d.client.Status() }

// Pending names what the start waits for.
func (d *dynamic) Pending() (l []string) {
	for _, name := range d.runtime.Pending() {
		l = append(l, "RTDS "+name)
	}
	if d.clusters.waiting() {
		l = append(l, "CDS")
	}
	if d.listeners.waiting() {
		l = append(l, "LDS")
	}
	return l
}
