package dns

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/snapshot"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// CacheConfig is a DnsCacheConfig, parsed, and what a Cache needs of its process.
type CacheConfig struct {
	Family       Family
	Refresh      time.Duration // dns_refresh_rate: of names without an address
	Least        time.Duration // dns_min_refresh_rate: no sooner than this for a TTL
	HostTTL      time.Duration // host_ttl: a name that nobody has used for so long goes
	QueryTimeout time.Duration // dns_query_timeout; 0: that of the resolver
	FailureBase  time.Duration // dns_failure_refresh_rate; 0: Refresh
	FailureMax   time.Duration
	OnDemand     bool     // disable_dns_refresh_on_failure: a name that has failed is asked for when it is wanted again
	MaxHosts     int      // max_hosts
	MaxPending   int64    // dns_cache_circuit_breaker.max_pending_requests
	Preresolve   []string // keys that are asked for from the beginning
	// Denied says which addresses are left out of answers (resolved_address_filter); nil: none.
	Denied   func(netip.Addr) bool
	Resolver Resolver

	Scope stats.Scope // dns_cache.<name>.
	After discovery.Timer
	Post  func(func()) // to the control loop
	Gate  *Gate
}

// cacheStats are dns_cache.<name>.*
type cacheStats struct {
	Loaded         stats.Counter `stat:"cache_load"` // from a store, which there is not
	Open           stats.Gauge   `stat:"circuit_breakers.rq_pending_open"`
	Remaining      stats.Gauge   `stat:"circuit_breakers.rq_pending_remaining"`
	FilteredOut    stats.Counter `stat:"dns_address_filter_out"`
	Attempt        stats.Counter `stat:"dns_query_attempt"`
	Failure        stats.Counter `stat:"dns_query_failure"`
	Success        stats.Counter `stat:"dns_query_success"`
	Timeout        stats.Counter `stat:"dns_query_timeout"`
	Overflow       stats.Counter `stat:"dns_rq_pending_overflow"`
	Added          stats.Counter `stat:"host_added"`
	AddressChanged stats.Counter `stat:"host_address_changed"`
	HostOverflow   stats.Counter `stat:"host_overflow"`
	Removed        stats.Counter `stat:"host_removed"`
	Hosts          stats.Gauge   `stat:"num_hosts"`
}

// Cache holds the addresses of names that clients ask for (envoy.extensions.common.dynamic_forward_proxy.v3). It asks for a name when it
// is first wanted, again when the answer has grown old, and forgets names that nobody wants any more. An address stays when it can't be
// resolved any longer.
type Cache struct {
	// set at construction
	c     CacheConfig
	stats *cacheStats
	// owned by the control loop
	watches []*func()
	closed  bool
	// atomic
	entries snapshot.Value[map[string]*Entry]
	pending atomic.Int64
}

// Entry is a name with its port.
type Entry struct {
	// set at construction
	Key  string // host:port
	name string
	port uint16
	// owned by the control loop
	failures uint
	asking   bool
	cancel   context.CancelFunc
	stop     func()
	waiting  []func(*Result)
	// atomic
	used   atomic.Int64
	result atomic.Pointer[Result] // nil: no answer has come yet
}

// Result is what is known of a name.
type Result struct {
	Addresses []stream.Address // none: it has never been resolved
	Details   string           // of the last answer, if it had no address, without spaces
	failed    bool
}

// Errors of Load, in the words of details of responses.
var (
	ErrCacheOverflow   = errors.New("dns_cache_overflow")                             // the cache holds max_hosts names
	ErrPendingOverflow = errors.New("dynamic_forward_proxy_pending_request_overflow") // max_pending_requests wait already
)

// NewCache makes a cache, and asks for what shall be there from the beginning.
func NewCache(c CacheConfig) *Cache {
	k := &Cache{c: c, stats: stats.New[cacheStats](c.Scope)}
	k.stats.Remaining.Set(c.MaxPending)
	k.entries.Store(&map[string]*Entry{})
	for _, key := range c.Preresolve {
		c.Post(func() { k.want(key, func(*Result) {}) })
	}
	return k
}

// Key is the name under which the cache knows an authority whose port is the default one if it names none.
func Key(authority string, port uint16) string {
	host := authority
	if strings.HasPrefix(authority, "[") {
		if strings.Contains(authority, "]:") {
			return authority
		}
		host = strings.Trim(authority, "[]")
	} else if strings.Count(authority, ":") == 1 {
		return authority
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// LoadAdmitted is Load for requests that dns_cache_circuit_breaker limits.
func (k *Cache) LoadAdmitted(w *fiber.Worker, key string) (*Result, error) {
	if k.pending.Load() >= k.c.MaxPending {
		return nil, k.full()
	}
	if r := k.Known(key); r != nil {
		return r, nil
	}
	n := k.pending.Add(1)
	defer func() { k.show(k.pending.Add(-1)) }()
	if n > k.c.MaxPending {
		return nil, k.full()
	}
	k.show(n)
	return k.Load(w, key)
}

func (k *Cache) full() error {
	k.stats.Overflow.Inc()
	return ErrPendingOverflow
}

func (k *Cache) show(n int64) {
	k.stats.Remaining.Set(max(k.c.MaxPending-n, 0))
	open := int64(0)
	if n >= k.c.MaxPending {
		open = 1
	}
	k.stats.Open.Set(open)
}

// Known returns what the cache knows of a key without asking anybody; nil: it must be asked for. Any goroutine may call it.
func (k *Cache) Known(key string) *Result {
	e := (*k.entries.Load())[key]
	if e == nil {
		return nil
	}
	r := e.result.Load()
	if r != nil && r.failed && k.c.OnDemand {
		return nil
	}
	return r
}

// Load returns what is known of a key; the fiber of w waits for the first answer.
func (k *Cache) Load(w *fiber.Worker, key string) (*Result, error) {
	if r := k.Known(key); r != nil {
		return r, nil
	}
	if all := *k.entries.Load(); all[key] == nil && len(all) >= k.c.MaxHosts {
		k.stats.HostOverflow.Inc()
		return nil, ErrCacheOverflow
	}
	key = strings.Clone(key)
	return fiber.Await(w, func(ctx context.Context) (*Result, error) {
		got := make(chan *Result, 1)
		k.c.Post(func() { k.want(key, func(r *Result) { got <- r }) }) //nolint:contextcheck // who waits may go, the question goes on
		select {
		case r := <-got:
			return r, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})
}

// Touch notes that a name is in use, at a time of the wall clock. Any goroutine may call it.
func (e *Entry) Touch(now time.Time) {
	if n := now.Unix(); e.used.Load() != n {
		e.used.Store(n)
	}
}

// Watch lets f be called, on the control loop, whenever addresses have changed; stop ends that. Each calls g for the names that have
// an address, sorted.
func (k *Cache) Watch(f func()) (stop func()) {
	k.watches = append(k.watches, &f)
	return func() { k.watches = slices.DeleteFunc(k.watches, func(p *func()) bool { return p == &f }) }
}

// Each calls f for the names that have addresses, sorted. Control loop only.
func (k *Cache) Each(f func(*Entry, *Result)) {
	all := *k.entries.Load()
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if r := all[key].result.Load(); r != nil && len(r.Addresses) > 0 {
			f(all[key], r)
		}
	}
}

// Close ends all questions.
func (k *Cache) Close() {
	k.closed = true
	for _, e := range *k.entries.Load() {
		e.end()
	}
}

func (e *Entry) end() {
	if e.cancel != nil {
		e.cancel()
	}
	if e.stop != nil {
		e.stop()
	}
}

// want calls then with what is known of a key, now or when the answer comes. Control loop only.
func (k *Cache) want(key string, then func(*Result)) {
	e := (*k.entries.Load())[key]
	if e == nil {
		e = k.add(key)
	}
	if r := k.Known(key); r != nil {
		then(r)
		return
	}
	e.waiting = append(e.waiting, then)
	if !e.asking {
		k.ask(e)
	}
}

func (k *Cache) add(key string) *Entry {
	e := &Entry{Key: key, name: key}
	if host, port, err := net.SplitHostPort(key); err == nil {
		n, _ := strconv.ParseUint(port, 10, 16)
		e.name, e.port = host, uint16(n)
	}
	e.Touch(time.Now())
	next := maps.Clone(*k.entries.Load())
	next[key] = e
	k.entries.Store(&next)
	k.stats.Added.Inc()
	k.stats.Hosts.Set(int64(len(next)))
	return e
}

func (k *Cache) remove(e *Entry) {
	next := maps.Clone(*k.entries.Load())
	delete(next, e.Key)
	k.entries.Store(&next)
	k.stats.Removed.Inc()
	k.stats.Hosts.Set(int64(len(next)))
	k.tell()
}

func (k *Cache) tell() {
	for _, f := range slices.Clone(k.watches) {
		(*f)()
	}
}

// ask asks for a name; on the control loop.
func (k *Cache) ask(e *Entry) {
	e.asking = true
	k.stats.Attempt.Inc()
	k.c.Gate.enter(func() { k.lookup(e) })
}

func (k *Cache) lookup(e *Entry) {
	if k.closed { // while it stood in the queue
		k.c.Gate.leave()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	if k.c.QueryTimeout > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), k.c.QueryTimeout)
	}
	e.cancel = cancel
	go func() { // ends with the answer, or the timeout; Close cancels the context
		a, err := k.c.Resolver.Lookup(ctx, e.name, k.c.Family)
		end, bounded := ctx.Deadline()
		late := err != nil && bounded && !time.Now().Before(end)
		k.c.Post(func() { //nolint:contextcheck // the next question is one of its own
			k.c.Gate.leave()
			k.answer(e, a, err, late)
		})
	}()
}

// answer takes an answer in; on the control loop.
func (k *Cache) answer(e *Entry, a Answer, err error, late bool) {
	e.cancel()
	if e.asking = false; k.closed {
		return
	}
	r := &Result{failed: err != nil}
	old := e.result.Load()
	if old != nil {
		r.Addresses = old.Addresses
	}
	fresh := k.addresses(e, a.Addrs)
	k.judge(r, a, err, late, len(fresh))
	changed := len(fresh) > 0 && !slices.Equal(fresh, r.Addresses)
	if changed {
		r.Addresses = fresh
		k.stats.AddressChanged.Inc()
	}
	e.result.Store(r)
	if changed {
		k.tell()
	}
	waiting := e.waiting
	e.waiting = nil
	for _, then := range waiting {
		then(r)
	}
	k.rest(e, a, err)
}

// addresses are those of an answer that are not denied.
func (k *Cache) addresses(e *Entry, l []netip.Addr) (kept []stream.Address) {
	for _, a := range l {
		if k.c.Denied != nil && k.c.Denied(a) {
			k.stats.FilteredOut.Inc()
			continue
		}
		kept = append(kept, stream.Address{AddrPort: netip.AddrPortFrom(a, e.port)})
	}
	return kept
}

// judge counts an answer, and says why it is none.
func (k *Cache) judge(r *Result, a Answer, err error, late bool, fresh int) {
	switch {
	case late:
		k.stats.Timeout.Inc()
		k.stats.Failure.Inc()
		r.Details = "resolve_timeout"
	case err != nil:
		k.stats.Failure.Inc()
		r.Details = Details(a, err)
	default:
		k.stats.Success.Inc()
		if fresh == 0 && len(a.Addrs) > 0 {
			r.Details = "address_denied"
		} else if fresh == 0 {
			r.Details = Details(a, nil)
		}
	}
}

// rest lets a name rest until it is asked for again, or goes.
func (k *Cache) rest(e *Entry, a Answer, err error) {
	if err == nil {
		e.failures = 0
	} else if e.failures++; k.c.OnDemand {
		return
	}
	e.stop = k.c.After(k.wait(e, a), func() {
		if time.Since(time.Unix(e.used.Load(), 0)) > k.c.HostTTL {
			k.remove(e)
		} else if !e.asking {
			k.ask(e)
		}
	})
}

func (k *Cache) wait(e *Entry, a Answer) time.Duration {
	switch {
	case e.failures > 0 && k.c.FailureBase > 0:
		return backoff(e.failures, k.c.FailureBase, k.c.FailureMax)
	case a.TTL > 0:
		return max(a.TTL, k.c.Least)
	}
	return k.c.Refresh
}

// backoff draws the pause after so many failures in a row.
func backoff(failures uint, base, most time.Duration) time.Duration {
	return rand.N(min(base<<min(failures-1, 20), max(most, base))) + 1
}
