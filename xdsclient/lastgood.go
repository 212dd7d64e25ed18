package xdsclient

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/zap"

	"github.com/outrigger-proxy/outrigger/internal/lastgood"
)

// What was accepted is kept on disk (Config.LastGood), and given to watchers that have not heard from their server: when its stream
// cannot be opened or ends, and when the initial_fetch_timeout passes.

// shelf is where resources of a server are kept, apart from those of other servers and of other nodes; nil: they are not.
func (c *Client) shelf(p *corev3.ApiConfigSource) *lastgood.Shelf {
	name := slices.Clone(p.GetClusterNames())
	for _, g := range p.GetGrpcServices() {
		name = append(name, g.GetEnvoyGrpc().GetClusterName()+g.GetGoogleGrpc().GetTargetUri())
	}
	if len(name) == 0 {
		return nil
	}
	return c.LastGood.Shelf(strings.Join(append(name, c.Node.GetCluster(), c.Node.GetId()), "\x00"))
}

// answer answers a batch, keeps what of it was accepted, and forgets what is gone.
func (x *mux) answer(b *batch, err error) {
	k := b.kind
	var had []string
	if x.shelf != nil && b.complete {
		had = slices.Collect(maps.Keys(k.have))
	}
	x.m.answer(b, err)
	b.note(err, time.Now())
	if _, all := reasons(err); x.shelf == nil || all {
		return
	}
	x.store(b)
	lost := slices.ContainsFunc(had, func(n string) bool { return k.have[n] == nil })
	if k.all > 0 && (!x.swept[k] || lost) {
		x.swept[k] = true
		x.shelf.Only(k.URL, b.known())
	}
}

// known are the names of all resources that there are, also of those that were refused: a good version of them may be kept.
func (b *batch) known() []string {
	l := slices.Collect(maps.Keys(b.kind.have))
	for _, i := range b.items {
		l = append(l, i.name)
	}
	return l
}

func (x *mux) store(b *batch) {
	k := b.kind
	for _, i := range b.items {
		switch {
		case i.raw == nil || k.have[i.name] != i.entry:
		case i.ttl > 0: // it is not to outlive its server
			x.shelf.Remove(k.URL, i.name)
		default:
			x.shelf.Put(k.URL, &discoveryv3.Resource{Name: i.name, Aliases: i.aliases, Version: plain(i.version), Resource: i.raw})
		}
	}
	for _, n := range b.removed {
		if k.have[n] == nil {
			x.shelf.Remove(k.URL, n)
		}
	}
}

// drop forgets what nobody wants any more.
func (x *mux) drop(k *kind, names []string) {
	if x.shelf == nil || x.closed || x.client.closed {
		return
	}
	for _, n := range names {
		if k.wanted[n] == 0 && k.all == 0 && !x.client.wanted(x, k.URL, n) {
			x.shelf.Remove(k.URL, n)
		}
	}
}

// wanted says whether somebody wants a resource from the same server over another stream.
func (c *Client) wanted(not *mux, url, name string) bool {
	for x := range c.all {
		if k := x.m.kinds[url]; x != not && k != nil && x.shelf != nil && *x.shelf == *not.shelf && k.wanted[name] > 0 {
			return true
		}
	}
	return false
}

// fromDisk begins the versions of resources that were not sent to this process. A server that counts versions from its own start on cannot
// take them for its own, and so sends what it has.
const fromDisk = "last-good/"

// plain is a version as its server has written it.
func plain(version string) string { return strings.TrimPrefix(version, fromDisk) }

// recall gives a watcher what was kept; false: nothing is known, or it needs nothing.
func (x *mux) recall(w *watch) bool {
	if x.shelf == nil || w.heard || w.closed || x.closed {
		return false
	}
	k := w.kind
	list, known := x.kept(w)
	if !known {
		return false
	}
	x.lost = true // what this leads to need not wait as long again
	b := &batch{kind: k, version: fromDisk}
	for _, r := range list {
		r.Version = fromDisk + r.GetVersion()
		b.add(r, x.m.check)
	}
	x.client.log.Warn("the server is away: the last good configuration is served", zap.String("type", k.URL), zap.Strings("names", w.wish.Names),
		zap.Int("resources", len(b.items)))
	all := b.rejected
	x.hold(func() {
		if u := b.update(w.wish.Names); u != nil {
			all.join(w.deliver(u, b.refusedFor(w.wish.Names)), w.wish.Names)
		}
	})
	b.settle(all.Err())
	b.note(all.Err(), time.Now())
	return w.heard
}

// kept is what there is on disk for a watcher.
func (x *mux) kept(w *watch) (list []*discoveryv3.Resource, known bool) {
	if len(w.wish.Names) == 0 {
		return x.shelf.All(w.wish.Type.URL)
	}
	for _, n := range w.wish.Names {
		if r := x.shelf.Get(w.wish.Type.URL, n); r != nil {
			list = append(list, r)
		}
	}
	return list, len(list) > 0
}
