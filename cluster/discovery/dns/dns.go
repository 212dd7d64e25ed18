// Package dns finds the hosts of envoy.clusters.strict_dns, envoy.clusters.logical_dns and envoy.clusters.dns
// (envoy.extensions.clusters.dns.v3.DnsCluster).
//
// Look-ups run on goroutines; their answers are posted to the control loop. At most Parallel run at a time in a process.
// What differs from Envoy: its resolver is c-ares; ours is Client, which reads the same files and asks the same servers.
package dns

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Config is what a Source needs.
type Config struct {
	Assignment *discovery.Assignment
	// Logical: one host per name, at the first address of the answer; else a host per address.
	Logical     bool
	Family      Family
	Refresh     time.Duration // dns_refresh_rate
	RespectTTL  bool          // the answer says when to ask again, if it does
	Least       time.Duration // dns_min_refresh_rate: no sooner than this for a TTL
	Jitter      time.Duration // dns_jitter: added at random
	FailureBase time.Duration // dns_failure_refresh_rate; 0: Refresh
	FailureMax  time.Duration
	Resolver    Resolver
	Counts      discovery.Counts
	After       discovery.Timer
	Post        func(func()) // to the control loop
	Gate        *Gate
}

// Gate limits the look-ups under way in a process. It belongs to the control loop. The zero Gate is open.
type Gate struct {
	running int
	queue   []func()
}

// Parallel is how many look-ups run at a time.
const Parallel = 64

// enter calls f now, or when another look-up has come to its end.
func (g *Gate) enter(f func()) {
	if g.running == Parallel {
		g.queue = append(g.queue, f)
		return
	}
	g.running++
	f()
}

func (g *Gate) leave() {
	g.running--
	if len(g.queue) > 0 {
		f := g.queue[0]
		g.queue = g.queue[1:]
		g.enter(f)
	}
}

// Source asks and asks again.
type Source struct {
	// set at construction
	c Config
	// owned by the control loop
	names  []*name
	update func(*discovery.Assignment)
	closed bool
}

// name is a name that is asked for; endpoints may share neither state nor timing.
type name struct {
	// set at construction
	s           *Source
	group, slot int
	endpoint    discovery.Endpoint
	// owned by the control loop
	addrs    []netip.Addr
	answered bool
	failures uint
	cancel   context.CancelFunc
	stop     func()
}

// New makes a source that does not ask yet.
func New(c Config) *Source {
	s := &Source{c: c}
	for i, g := range c.Assignment.Groups {
		for j, e := range g.Endpoints {
			if e.Name != "" {
				s.names = append(s.names, &name{s: s, group: i, slot: j, endpoint: e})
			}
		}
	}
	return s
}

// Start asks for all names.
func (s *Source) Start(update func(*discovery.Assignment)) {
	s.update = update
	if len(s.names) == 0 {
		update(s.c.Assignment)
		return
	}
	for _, n := range s.names {
		n.ask()
	}
}

// Close ends all look-ups.
func (s *Source) Close() {
	s.closed = true
	for _, n := range s.names {
		if n.cancel != nil {
			n.cancel()
		}
		if n.stop != nil {
			n.stop()
		}
	}
}

func (n *name) ask() {
	n.s.c.Counts.Attempt()
	n.s.c.Gate.enter(n.lookup)
}

func (n *name) lookup() {
	c := &n.s.c
	if n.s.closed { // while it stood in the queue
		c.Gate.leave()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() { // ends with the answer; Close cancels the context
		a, err := c.Resolver.Lookup(ctx, n.endpoint.Name, c.Family)
		c.Post(func() {
			c.Gate.leave()
			n.answer(a, err)
		})
	}()
}

// answer takes an answer in; on the control loop.
func (n *name) answer(a Answer, err error) {
	s := n.s
	n.cancel()
	if s.closed {
		return
	}
	first := !n.answered
	n.answered = true
	if err != nil {
		n.failures++
		s.c.Counts.Failure()
		if first {
			s.update(nil)
		}
	} else {
		n.failures = 0
		s.c.Counts.Success()
		n.apply(a.Addrs, first)
	}
	n.stop = s.c.After(n.wait(a), n.ask)
}

func (n *name) apply(addrs []netip.Addr, first bool) {
	s := n.s
	if len(addrs) == 0 {
		s.c.Counts.Empty()
		if s.c.Logical && !first { // a logical host stays where it was
			return
		}
	}
	if s.c.Logical {
		addrs = slices.Clone(addrs)
	} else {
		addrs = distinct(addrs)
	}
	if !first && slices.Equal(addrs, n.addrs) {
		s.c.Counts.Unchanged()
		return
	}
	n.addrs = addrs
	s.update(s.assemble())
}

func distinct(l []netip.Addr) (kept []netip.Addr) {
	for _, a := range l {
		if !slices.Contains(kept, a) {
			kept = append(kept, a)
		}
	}
	slices.SortFunc(kept, netip.Addr.Compare)
	return kept
}

// wait is how long it is until the next question.
func (n *name) wait(a Answer) time.Duration {
	c := &n.s.c
	if n.failures > 0 && c.FailureBase > 0 {
		return backoff(n.failures, c.FailureBase, c.FailureMax)
	}
	d := c.Refresh
	if c.RespectTTL && a.TTL > 0 {
		d = max(a.TTL, c.Least)
	}
	if c.Jitter > 0 {
		d += rand.N(c.Jitter)
	}
	return d
}

// assemble puts the addresses in the place of the names.
func (s *Source) assemble() *discovery.Assignment {
	next := *s.c.Assignment
	next.Groups = make([]discovery.Group, len(s.c.Assignment.Groups))
	for i, g := range s.c.Assignment.Groups {
		g.Endpoints = nil
		for j, e := range s.c.Assignment.Groups[i].Endpoints {
			if e.Name == "" {
				g.Endpoints = append(g.Endpoints, e)
				continue
			}
			g.Endpoints = append(g.Endpoints, s.find(i, j).expand(s.c.Logical)...)
		}
		next.Groups[i] = g
	}
	return &next
}

func (s *Source) find(group, slot int) *name {
	i := slices.IndexFunc(s.names, func(n *name) bool { return n.group == group && n.slot == slot })
	return s.names[i]
}

func (n *name) expand(logical bool) (l []discovery.Endpoint) {
	for _, a := range n.addrs {
		e := n.endpoint
		e.Name = ""
		e.Address = stream.Address{AddrPort: netip.AddrPortFrom(a, e.Port)}
		if !logical {
			l = append(l, e)
			continue
		}
		if len(l) == 0 {
			e.Key = n.endpoint.Name + ":" + strconv.Itoa(int(e.Port))
			l = append(l, e)
			continue
		}
		l[0].Additional = append(l[0].Additional, e.Address)
	}
	return l
}
