package xdsclient

import (
	"errors"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/lastgood"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// mux shares what comes from one source among those who watch: the aggregated stream, a stream, a file or a REST service for one
// subscription. It belongs to the control loop.
type mux struct {
	// set at construction
	client *Client
	m      *machine
	stats  *controlStats
	source source
	whole  bool            // the one watcher sees every response as it is, whatever names are in it
	shelf  *lastgood.Shelf // nil: nothing is kept
	// owned by the control loop
	watches map[*kind][]*watch
	timers  map[*kind]map[string]*time.Timer // of resources with a time to live
	holds   int
	out     *outbox // nil: there is no stream
	started bool
	closed  bool
	lost    bool           // the server is away
	swept   map[*kind]bool // what is kept of it is what is there
}

// source is where responses come from.
type source interface {
	// start begins. What comes is given to mux.received on the control loop.
	start(x *mux) error
	// close ends it and does not wait.
	close()
}

// controlStats are control_plane.*
type controlStats struct {
	Connected  stats.Gauge   `stat:"connected_state"`
	Pending    stats.Gauge   `stat:"pending_requests"`
	Limited    stats.Counter `stat:"rate_limit_enforced"`
	Identifier stats.Text    `stat:"identifier"`
}

// watch is a subscription.Subscription.
type watch struct {
	// set at construction
	x       *mux
	wish    subscription.Wish
	stats   *subscription.Stats
	timeout time.Duration // initial_fetch_timeout; 0: for ever
	own     bool          // the mux is for this watch alone
	// owned by the control loop
	kind   *kind // nil: it has not started, or it is closed
	closed bool
	timer  *time.Timer
	heard  bool
}

func (x *mux) watch(w subscription.Wish, timeout time.Duration) *watch {
	return &watch{x: x, wish: w, timeout: timeout, stats: stats.New[subscription.Stats](w.Scope)}
}

// Start begins to want.
func (w *watch) Start() {
	if w.kind != nil || w.closed {
		return
	}
	x := w.x
	if !x.whole { // where every answer is an attempt of its own
		w.stats.Attempt.Inc()
	}
	w.kind = x.m.want(w.wish.Type, w.wish.Names...)
	x.watches[w.kind] = append(x.watches[w.kind], w)
	if u := w.kind.known(w.wish.Names); u != nil && len(w.wish.Names) > 0 {
		x.hold(func() { _ = w.deliver(u, nil) })
	}
	if x.lost {
		x.recall(w)
	}
	if !w.heard && w.timeout > 0 {
		w.timer = x.client.After(w.timeout, w.expire)
	}
	if w.own && !w.closed {
		x.start()
	}
	x.flush()
}

// expire is the end of the initial_fetch_timeout.
func (w *watch) expire() {
	if w.heard || w.closed {
		return
	}
	w.stats.InitFetchTimeout.Inc()
	if w.x.recall(w) {
		w.x.flush()
		return
	}
	w.heard = true
	w.stats.Attempt.Inc()
	w.x.client.log.Warn("initial fetch timed out", zap.String("type", w.wish.Type.URL), zap.Strings("names", w.wish.Names))
	w.x.hold(w.wish.Watcher.Failed)
	w.x.flush()
}

// Close ends the wish.
func (w *watch) Close() {
	if w.closed {
		return
	}
	w.closed = true
	stats.Drop[subscription.Stats](w.wish.Scope)
	if w.timer != nil {
		w.timer.Stop()
	}
	if k := w.kind; k != nil {
		w.x.watches[k] = slices.DeleteFunc(w.x.watches[k], func(o *watch) bool { return o == w })
		w.x.m.release(k, w.wish.Names...)
		w.x.drop(k, w.wish.Names)
		w.x.flush()
	}
	if w.own {
		w.x.close()
	}
}

// deliver gives the watcher what there is for it, and counts. bad is what could not be read of its resources.
func (w *watch) deliver(u *subscription.Update, bad error) error {
	w.heard = true
	if w.timer != nil {
		w.timer.Stop()
	}
	var err error
	begun := time.Now()
	if d := w.fresh(u); d != nil {
		err = w.wish.Watcher.Update(d)
	}
	w.stats.Attempt.Inc()
	if err != nil || bad != nil {
		w.stats.Rejected.Inc()
		w.wish.Watcher.Failed()
		return err
	}
	w.stats.Success.Inc()
	w.stats.Duration.Record(uint64(time.Since(begun).Milliseconds()))
	w.stats.Time.Set(begun.UnixMilli())
	w.stats.Version.Set(int64(xxhash.Sum64String(u.Version)))
	w.stats.VersionText.Set(u.Version)
	return nil
}

// fresh leaves out what has not changed, unless an update is told as a whole; nil: nothing is left.
func (w *watch) fresh(u *subscription.Update) *subscription.Update {
	if len(w.wish.Names) == 0 {
		return u
	}
	d := *u
	d.Resources = slices.DeleteFunc(slices.Clone(u.Resources), func(r subscription.Resource) bool { return r.Same })
	if len(d.Resources)+len(d.Removed) == 0 && len(u.Resources) > 0 {
		return nil
	}
	return &d
}

// start begins to ask, once.
func (x *mux) start() {
	if x.started || x.closed {
		return
	}
	x.started = true
	if err := x.source.start(x); err != nil {
		x.client.log.Warn(err.Error())
		x.failed()
	}
}

func (x *mux) close() {
	if !x.closed {
		x.closed = true
		x.source.close()
		delete(x.client.all, x)
		for _, k := range x.timers {
			for _, t := range k {
				t.Stop()
			}
		}
	}
}

// hold calls f and sends nothing before it has returned, so that what it leads to goes out together.
func (x *mux) hold(f func()) {
	x.holds++
	f()
	x.holds--
}

// flush sends what is to be sent.
func (x *mux) flush() {
	if x.holds > 0 || x.client.holds > 0 || x.out == nil {
		return
	}
	for _, r := range x.m.requests() {
		x.out.push(r)
	}
}

// opened begins a stream, closed (with failed) ends it.
func (x *mux) opened(out *outbox) {
	x.out, x.lost = out, false
	x.m.connect()
	x.stats.Connected.Set(1)
	x.flush()
}

// failed notes that the stream has ended, or could not begin.
func (x *mux) failed() {
	x.out, x.lost = nil, true
	x.m.disconnect()
	x.stats.Connected.Set(0)
	for _, k := range x.m.order {
		for _, w := range slices.Clone(x.watches[k]) {
			w.stats.Attempt.Inc()
			w.stats.Failure.Inc()
			x.recall(w)
		}
	}
}

// giveUp lets nobody wait any longer.
func (x *mux) giveUp() {
	for _, k := range x.m.order {
		for _, w := range slices.Clone(x.watches[k]) {
			x.hold(w.wish.Watcher.Failed)
		}
	}
}

// received takes a response in and answers it. The error is what the answer says.
func (x *mux) received(p proto.Message) error {
	if x.closed {
		return nil
	}
	x.lost = false
	x.identify(p)
	b := x.m.receive(p)
	if b == nil {
		x.client.log.Warn("ignoring a response of a type that nobody has asked for", zap.String("type", typeOf(p)))
		return nil
	}
	var err error
	x.hold(func() { err = x.share(b) })
	x.answer(b, err)
	x.live(b)
	if err != nil {
		x.client.log.Warn("update rejected", zap.String("type", b.kind.URL), zap.String("version", b.version), zap.Error(err))
	}
	x.flush()
	return err
}

// share gives every watcher its part. Every one is heard, and all reasons are joined.
func (x *mux) share(b *batch) error {
	all, whole := b.rejected, error(nil)
	for _, w := range slices.Clone(x.watches[b.kind]) {
		names := w.wish.Names
		if x.whole {
			names = nil
		}
		u, bad := b.update(names), b.refusedFor(names)
		if w.closed || u == nil && bad == nil {
			continue
		}
		if u == nil {
			w.stats.Attempt.Inc()
			w.stats.Rejected.Inc()
			w.wish.Watcher.Failed()
			continue
		}
		err := w.deliver(u, bad)
		if _, some := errors.AsType[*subscription.RejectedError](err); err != nil && !some && len(w.wish.Names) == 0 {
			whole = err
			continue
		}
		all.join(err, w.wish.Names)
	}
	if whole != nil {
		return whole
	}
	return all.Err()
}

func typeOf(p proto.Message) string {
	if r, ok := p.(interface{ GetTypeUrl() string }); ok {
		return r.GetTypeUrl()
	}
	return ""
}

// identify shows who the server says it is.
func (x *mux) identify(p proto.Message) {
	r, ok := p.(interface{ GetControlPlane() *corev3.ControlPlane })
	if ok && r.GetControlPlane().GetIdentifier() != "" {
		x.stats.Identifier.Set(r.GetControlPlane().GetIdentifier())
	}
}

// live starts, renews and ends the timers of resources with a time to live.
func (x *mux) live(b *batch) {
	for _, i := range b.items {
		if t := x.timers[b.kind][i.name]; t != nil {
			t.Stop()
			delete(x.timers[b.kind], i.name)
		}
		if i.ttl <= 0 || b.kind.have[i.name] == nil {
			continue
		}
		if x.timers[b.kind] == nil {
			x.timers[b.kind] = map[string]*time.Timer{}
		}
		x.timers[b.kind][i.name] = x.client.After(i.ttl, func() { x.outlived(b.kind, i.name) })
	}
}

// outlived removes a resource that was not renewed in time.
func (x *mux) outlived(k *kind, name string) {
	if x.closed || k.have[name] == nil {
		return
	}
	delete(x.timers[k], name)
	k.forget(name)
	k.absent[name] = true
	x.client.log.Warn("a resource has expired", zap.String("type", k.URL), zap.String("name", name))
	gone := &batch{kind: k, version: k.version, removed: []string{name}}
	x.hold(func() {
		for _, w := range slices.Clone(x.watches[k]) {
			if u := gone.update(w.wish.Names); u != nil && !w.closed {
				_ = w.wish.Watcher.Update(u)
			}
		}
	})
	x.flush()
}
