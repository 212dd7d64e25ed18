package pool

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Config is what the pools of all hosts of a cluster share.
type Config struct {
	// set at construction
	ConnectTimeout time.Duration
	IdleTimeout    time.Duration // of a connection that carries no stream; 0: for ever
	TCPIdle        time.Duration // of a TCP connection that nobody uses; 0: for ever
	MaxRequests    uint32        // streams that a connection may carry; 0: no limit
	PerDownstream  bool          // connection_pool_per_downstream_connection
	Stats          *Stats
	Sizes          *Sizes // nil unless track_cluster_stats.request_response_sizes
	Limits         [Priorities]*Limits
	// HostConnections limits the connections of each host over all workers, by the priority of the stream.
	HostConnections [Priorities]int64
	// Preconnect is how many connections there may be for each stream under way (per_upstream_preconnect_ratio); 1: no more than needed.
	Preconnect float64
	HTTP1      *http1.Options
	// Header fills in what the transport socket says of the downstream connection; nil: nothing.
	Header func(t Transport, downstream *stream.Conn) Transport
	// CloseOnFailure lets Fail close TCP connections that carry a stream, too (close_connections_on_host_health_failure).
	CloseOnFailure bool
	// Workers are all of them: a host that one has lost is lost to the others, too.
	Workers []*fiber.Worker
	// Progress says how far the kernel has come with a connection; nil: it is asked.
	Progress func(c fiber.Conn) Progress
	// Opened is called for each HTTP/1 connection, nil: not.
	Opened func()
	HTTP2  *http2.Options
	// Protocol is what HTTP streams are spoken in.
	Protocol Protocol
	// Duration draws the life of a connection (max_connection_duration with its jitter); 0: no limit.
	Duration func() time.Duration
	// Dial connects to a host and shakes hands; it runs on a fiber whose limit is the connect timeout.
	Dial func(w *fiber.Worker, to Target, i *Info) (fiber.Conn, error)
}

// Target is where a host is.
type Target struct {
	Address    stream.Address
	Additional []stream.Address // other addresses of the same host (happy eyeballs)
	Hostname   string
	Socket     any // the transport socket of the cluster that is for this host
}

// Peer is an upstream host as its pools see it. It outlives versions of the host list.
type Peer struct {
	// set at construction
	Config *Config
	Stats  HostStats
	// owned by the worker of the same index
	lanes []*lanes
	// atomic
	target  atomic.Pointer[Target]
	gone    atomic.Bool
	suspect atomic.Bool // it does not seem to be there
	probing atomic.Bool // a fiber tries to connect to it
}

// NewPeer makes the pools of a host, which cost nothing before they are used.
func NewPeer(to Target, c *Config, workers int) *Peer {
	p := &Peer{Config: c, lanes: make([]*lanes, workers)}
	p.target.Store(&to)
	return p
}

// Move lets new connections go to another address; a logical host does so. Any goroutine may call it.
func (p *Peer) Move(to Target) {
	if old := p.target.Load(); old.Address != to.Address || old.Hostname != to.Hostname || old.Socket != to.Socket || !slices.Equal(old.Additional, to.Additional) {
		p.target.Store(&to)
	}
}

// Target returns where new connections go. Any goroutine may call it.
func (p *Peer) Target() Target { return *p.target.Load() }

// Protocol says in which version of HTTP a cluster is spoken to.
type Protocol uint8

// The ways to choose.
const (
	HTTP1      Protocol = iota
	HTTP2               // by prior knowledge
	Auto                // as ALPN says
	Downstream          // as the client speaks
)

// offers are the ALPN names of the protocols.
var offers = [...][]string{HTTP1: {"http/1.1"}, HTTP2: {"h2"}, Auto: {"h2", "http/1.1"}}

// lanes are the pools of one host on one worker.
type lanes struct {
	http, tcp [Priorities]*lane
	http2     [Priorities]*lane // where both versions are spoken
	streams   http2.Streams
	watch     watch
	own       map[ownKey]*lane // those that not every stream may share
}

// ownKey says which streams share a lane of their own.
type ownKey struct {
	downstream uint64 // connection_pool_per_downstream_connection
	priority   Priority
	http       bool
	mode       Protocol
	transport  Transport
}

// HTTP lends an exchange; it may wait for a connection.
func (p *Peer) HTTP(w *fiber.Worker, o Options) (Stream, error) {
	l, err := p.lane(w, o, true)
	if err != nil {
		return nil, err
	}
	c, err := l.get()
	if err != nil {
		return nil, err
	}
	if c.mux != nil {
		return c.mux.channel(), nil
	}
	return c.exchange, nil
}

// streams are the HTTP/2 streams that are not in use on a worker.
func (p *Peer) streams(w *fiber.Worker) *http2.Streams { return &p.lanes[w.ID].streams }

// mode is the protocol of a lane for o.
func (p *Peer) mode(o Options, http bool) Protocol {
	switch m := p.Config.Protocol; {
	case !http:
		return HTTP1
	case m == Downstream && o.HTTP2:
		return HTTP2
	case m == Downstream:
		return HTTP1
	default:
		return m
	}
}

// TCP lends a connection; it may wait for it.
func (p *Peer) TCP(w *fiber.Worker, o Options) (*TCP, error) {
	l, err := p.lane(w, o, false)
	if err != nil {
		return nil, err
	}
	c, err := l.get()
	if err != nil {
		return nil, err
	}
	return (*TCP)(c), nil
}

func (p *Peer) lane(w *fiber.Worker, o Options, http bool) (*lane, error) {
	ls := p.lanes[w.ID]
	if ls == nil {
		ls = &lanes{watch: watch{peer: p, w: w}}
		ls.watch.lanes = ls
		p.lanes[w.ID] = ls
	}
	if p.Config.Header != nil && o.Downstream != nil {
		o.Transport = p.Config.Header(o.Transport, o.Downstream)
	}
	if http && p.Config.PerDownstream && o.Downstream != nil || o.Transport != (Transport{}) {
		return ls.private(p, w, o, http)
	}
	at := &ls.tcp[o.Priority]
	switch {
	case http && p.mode(o, http) == HTTP2:
		at = &ls.http2[o.Priority]
	case http:
		at = &ls.http[o.Priority]
	}
	if *at == nil {
		l, err := newLane(p, w, o, http)
		if err != nil {
			return nil, err
		}
		l.emptied = func() { *at = nil }
		*at = l
	}
	return *at, nil
}

func (ls *lanes) private(p *Peer, w *fiber.Worker, o Options, http bool) (*lane, error) {
	key := ownKey{priority: o.Priority, http: http, mode: p.mode(o, http), transport: o.Transport}
	if http && p.Config.PerDownstream && o.Downstream != nil {
		key.downstream = o.Downstream.ID + 1
	}
	l := ls.own[key]
	if l != nil {
		return l, nil
	}
	l, err := newLane(p, w, o, http)
	if err != nil {
		return nil, err
	}
	if ls.own == nil {
		ls.own = map[ownKey]*lane{}
	}
	ls.own[key] = l
	l.emptied = func() { delete(ls.own, key) }
	return l, nil
}

func (ls *lanes) each(f func(*lane)) {
	for i := range ls.http {
		for _, l := range []*lane{ls.http[i], ls.tcp[i], ls.http2[i]} {
			if l != nil {
				f(l)
			}
		}
	}
	for _, l := range ls.own {
		f(l)
	}
}

// Drain closes the connections that carry no stream, and the others once their stream ends. Any goroutine may call it.
func (p *Peer) Drain(workers []*fiber.Worker) {
	p.gone.Store(true)
	p.Empty(workers)
}

// Fail closes the connections of a host that has failed a health check or was ejected: those that carry no stream now, the others
// once it ends; those of TCP at once, if CloseOnFailure. Whoever still wants to go there gets new ones. Any goroutine may call it.
func (p *Peer) Fail(workers []*fiber.Worker) {
	for _, w := range workers {
		w.Post(func() {
			if ls := p.lanes[w.ID]; ls != nil {
				ls.each((*lane).kill)
				ls.each((*lane).drain)
			}
		})
	}
}

// Empty closes the connections that carry no stream, and the others once it ends. Any goroutine may call it.
func (p *Peer) Empty(workers []*fiber.Worker) {
	for _, w := range workers {
		w.Post(func() {
			if ls := p.lanes[w.ID]; ls != nil {
				ls.each((*lane).drain)
			}
		})
	}
}
