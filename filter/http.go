package filter

import (
	"io"
	"time"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// A filter implements the hooks it needs. It is one value for all streams of all workers: what belongs to a stream is in a Slot.

// RequestHook sees the head; the body is pulled, wrapped or buffered by whoever wants it.
type RequestHook interface{ OnRequest(s *Stream) Status }

// ResponseHook sees each response, local replies too, in reverse order.
type ResponseHook interface{ OnResponse(s *Stream) Status }

// EndHook is called once, last and always, also when the stream was cancelled; it cannot wait.
type EndHook interface{ OnEnd(s *Stream) }

// HTTPTerminal leaves a response in the stream, whose body the connection manager then pulls.
type HTTPTerminal interface{ Serve(s *Stream) }

// InterimHook sees the interim responses (1xx) that the terminal passes on with Stream.Interim, before they are sent.
type InterimHook interface {
	OnInterim(s *Stream, r *stream.Response)
}

// Stream is one request and its response as HTTP filters see them. It is pooled by its worker.
type Stream struct {
	stream.Stream

	Conn  *Conn
	Chain *Chain
	// Table is the route configuration of this stream.
	Table *route.Table
	// Route is the one that matched; nil: none. Rematch looks again.
	Route *route.Route
	// Cluster is the one that the route leads to; nil: there is none, or none of that name. Rematch looks again.
	Cluster *cluster.Cluster
	// Draw is the stream's random number: of weighted clusters, runtime fractions and retries.
	Draw uint64
	// Idle is how long the stream may rest, 0: for ever. Change it before Touch.
	Idle time.Duration
	// TryIdle is the same for the attempt under way (per_try_idle_timeout).
	TryIdle time.Duration
	// Upgrade is what the request asks for and is granted: "websocket", "connect" and so on; empty: a plain request.
	Upgrade string
	// Tunnel is the other side of an upgrade that has come about; the connection manager joins both and the terminal closes it in OnEnd.
	Tunnel *Tunnel
	// Override is the host that a filter wants the request to go to.
	Override Override
	// Restart is set by a terminal that wants the request, which it has changed, to go through the chain again (an internal
	// redirect); Redirects counts how often that was.
	Restart   bool
	Redirects int
	// Visited are the routes that internal redirects have led to.
	Visited []*route.Route
	// Port is what the connection manager has stripped off the authority of a CONNECT (":443"); the upstream gets it back.
	Port string
	// MatchScheme says that the scheme follows the upstream's transport (scheme_header_transformation.match_upstream).
	MatchScheme bool
	// Close says that the connection cannot go on after this stream.
	Close bool

	fiber      *fiber.Fiber
	interim    func(r *stream.Response) error
	reply      stream.Bytes
	grpcStatus grpc.Status
	grpc       bool // the request was gRPC when it came
	local      bool
	finished   bool
	badRequest bool // the local reply was meant to be a 400
	started    bool // the response head went out
	limits     [limits]fiber.Time
	inlet      inlet
	slots      []slot
	turn       uint64 // counts the streams that this value has been: a slot of an earlier one is reset
	off        uint64 // bit i: filter i is disabled
}

// Override is a wish for a host, which goes before what the cluster's policy would choose. Retries do not heed it.
type Override struct {
	Address string // as Host.Address prints; empty: no wish
	Strict  bool   // no other host will do
	Status  int    // of the response where Strict and no host has the address; 0: 503
}

// Tunnel is the upstream end of an upgraded stream.
type Tunnel struct {
	// set by the terminal
	Conn fiber.Conn
	Rest []byte // read past the head of the response
	Ends bool   // the end of Conn is that of the response (a CONNECT that ends here); else it is a failure
	// set by the connection manager
	Sent, Received int64 // bytes
	Broken         bool  // Conn has failed
}

// Setup is what a stream is begun with.
type Setup struct {
	Conn    *Conn
	Chain   *Chain
	Table   *route.Table
	Draw    uint64
	Idle    time.Duration
	Interim func(r *stream.Response) error // sends an interim response to the client
}

// Begin makes s, whose request has been read, ready to be served by the current fiber.
func (s *Stream) Begin(p *Setup) {
	s.Reset(p.Conn.Worker, p.Conn.Info)
	s.Conn, s.Chain, s.Table, s.Route, s.Draw, s.Idle, s.interim = p.Conn, p.Chain, p.Table, nil, p.Draw, p.Idle, p.Interim
	s.TryIdle, s.Port, s.MatchScheme = 0, "", false
	s.Upgrade, s.Tunnel, s.Restart, s.Redirects, s.Close = "", nil, false, 0, false
	s.Visited = s.Visited[:0]
	s.local, s.finished, s.started, s.badRequest, s.grpcStatus, s.off = false, false, false, false, 0, 0
	s.Cluster = nil
	s.Override = Override{}
	s.limits = [limits]fiber.Time{}
	s.fiber, s.grpc = p.Conn.Worker.Current(), s.GRPC()
	s.inlet = inlet{s: s, src: s.Request.Body}
	if s.Request.Body != nil {
		s.Request.Body = &s.inlet
	} else {
		s.Info.RequestEnd = s.Info.Start
	}
	s.room()
}

// Again prepares s for another pass through its chain, after Restart; the next pass is a stream of its own for the filters.
func (s *Stream) Again() {
	s.Restart, s.Route, s.Override = false, nil, Override{}
	s.local, s.finished, s.badRequest, s.grpcStatus, s.off = false, false, false, 0, 0
	s.grpc = s.GRPC()
	s.Response.Status, s.Response.Body = 0, nil
	s.Response.Header.Reset()
	s.Response.Trailer.Reset()
	s.Redirects++
	s.room()
}

// Forget takes back what was read of a head that is none, or is left of the stream before: it is nobody's business.
func (s *Stream) Forget() {
	q := &s.Request
	q.Method, q.Path, q.Authority, q.Scheme, q.Body = "", "", "", "", nil
	q.Header.Reset()
	s.grpc = false
}

// room makes room for the slots of the chain.
func (s *Stream) room() {
	s.turn++
	for len(s.slots) < s.Chain.Slots {
		s.slots = append(s.slots, slot{})
	}
}

// Use changes the chain before it is served: for an upgrade that has filters of its own.
func (s *Stream) Use(c *Chain) {
	s.Chain = c
	s.room()
}

// End lets go of what the stream does not own.
func (s *Stream) End() {
	s.fiber, s.Tunnel, s.Route, s.Cluster = nil, nil, nil, nil
}

// Leave lets the fiber go that serves the stream, which lives on without one: a tunnel. The limits bound nobody then.
func (s *Stream) Leave() {
	s.fiber.Unlimit()
	s.fiber = nil
}

// RequestComplete says whether the request has been read to its end.
func (s *Stream) RequestComplete() bool {
	return s.Upgrade == "" && (s.inlet.src == nil || s.inlet.ended)
}

// RequestError is why the body of the request could not be read to its end; nil: it can, so far.
func (s *Stream) RequestError() error { return s.inlet.err }

// Started says that the head of the response has gone out, so that no other response can be made.
func (s *Stream) Started() bool { return s.started }

// Start is called by the connection manager when the head of the response goes out.
func (s *Stream) Start() {
	s.started = true
	s.Info.ResponseStart = s.Worker.Now()
	s.Touch()
}

// Interim sends r, an interim response (1xx), to the client, through the hooks that want to see it.
func (s *Stream) Interim(r *stream.Response) error {
	for _, h := range s.Chain.interims {
		h.OnInterim(s, r)
	}
	if s.interim == nil {
		return nil
	}
	return s.interim(r)
}

// Rematch finds the route again, after a filter has changed what it depends on.
func (s *Stream) Rematch() {
	s.Route = nil
	if s.Table == nil {
		return
	}
	if v, ok := s.Request.Header.Get("x-forwarded-proto"); ok && v == "" {
		return // nobody knows whether the client speaks TLS, which virtual hosts may require
	}
	vh, r := s.Table.Match(&s.Stream, s.Draw)
	s.Route = r
	s.Info.VirtualHost, s.Info.VirtualHostMetadata, s.Info.Route, s.Info.RouteMetadata = "", nil, "", nil
	if vh != nil {
		s.Info.VirtualHost, s.Info.VirtualHostMetadata = vh.Name, vh.Metadata
	}
	if r != nil {
		s.Info.Route, s.Info.RouteMetadata = r.Name, r.Metadata
	}
	s.findCluster()
}

// findCluster looks for the cluster of the route: logs name it even if it is never asked for a host.
func (s *Stream) findCluster() {
	u := &s.Info.Upstream
	s.Cluster, u.Cluster, u.ClusterAlt, u.ClusterMetadata = nil, "", "", nil
	if s.Route == nil || s.Route.Action == nil || s.Chain.Clusters == nil {
		return
	}
	if c := s.Chain.Clusters.Get(s.Route.Action.ClusterName(&s.Stream)); c != nil {
		s.Cluster, u.Cluster, u.ClusterAlt, u.ClusterMetadata = c, c.Name, c.AltName, c.Metadata
	}
}

// editLocal gives a local reply the headers of the route.
func (s *Stream) editLocal() {
	if s.Route != nil {
		s.Route.FinalizeResponse(&s.Stream)
	}
}

// inlet is the body of the request as the chain sees it: it counts, and notes the end.
type inlet struct {
	s     *Stream
	src   stream.Body
	ended bool
	err   error
	first []byte // prefetched
}

// Prefetch looks at what of the body is there already, without waiting: an error says that it is malformed.
func (s *Stream) Prefetch() error {
	b := &s.inlet
	if b.src == nil || b.ended || b.first != nil || b.err != nil {
		return b.err
	}
	p, err := b.src.Next(false)
	if b.first = p; err != nil && err != io.EOF {
		b.err = err
		return err
	}
	return nil
}

// Next passes a piece on.
func (b *inlet) Next(wait bool) (p []byte, err error) {
	if p, b.first = b.first, nil; p == nil {
		p, err = b.src.Next(wait)
	}
	s := b.s
	if len(p) > 0 {
		s.Info.BytesIn += int64(len(p))
		s.Touch()
	}
	switch {
	case err == io.EOF && !b.ended:
		b.ended = true
		s.Info.RequestEnd = s.Worker.Now()
		s.Limit(LimitRequest, 0)
	case err != nil && err != io.EOF:
		b.err = err
	}
	return p, err
}

// Slot is the place of a filter's state in each stream. The T is kept with the pooled stream: it is allocated once, not per request.
type Slot[T any] struct{ i int }

type slot struct {
	v    any
	turn uint64
}

// NewSlot reserves a slot in the chain that env builds.
func NewSlot[T any](env Env) Slot[T] {
	i := *env.Slots
	*env.Slots++
	return Slot[T]{i}
}

// Get returns the state of s. It is zero when a stream asks first; a T with a Reset method is reset instead, and may keep its memory.
func (sl Slot[T]) Get(s *Stream) *T {
	e := &s.slots[sl.i]
	v, ok := e.v.(*T)
	if !ok {
		v = new(T)
		e.v, e.turn = v, s.turn
		return v
	}
	if e.turn != s.turn {
		e.turn = s.turn
		if r, ok := e.v.(interface{ Reset() }); ok {
			r.Reset()
		} else {
			*v = *new(T)
		}
	}
	return v
}
