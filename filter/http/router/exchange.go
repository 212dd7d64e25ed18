package router

import (
	"math/rand/v2"
	"time"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

// exchange is the state of one stream in the router. It is pooled with the stream.
type exchange struct {
	state

	retry   retries
	tape    tape
	cookies []string // set-cookie values of the hash policy
	tries   [maxTries]attempt
}

// state is what a stream begins without.
type state struct {
	r              *Router
	s              *filter.Stream
	action         *route.Action
	cluster        *cluster.Cluster
	limits         *cluster.Limits
	responses      *pool.Responses
	maintenanceKey string
	groups         [2]*filter.RouteStats // of the virtual cluster and of the route; nil: none
	times          times
	mirrors        []route.Mirror
	since          fiber.Time // the request was complete
	won            *attempt
	tcp            *pool.TCP // of a CONNECT that ends here
	bodyErr        error     // the client's fault while its body was sent
	settled        fiber.Cond
	used           int // tries[:used] may hold a connection
	hash           uint64
	match          []lb.Criterion // of the subset, once matched is set
	overrides      int            // how much of the list of hosts that the request names was used
	unresolved     string         // why the host that the client asks for was not found
	missing        int            // the status where the host that a filter insists on is not there; 0: as usual
	hasHash        bool
	hashed         bool
	matched        bool
	taped          bool
	hedging        bool
	completed      bool
	mirrored       bool
	canary         bool
	interim        bool // an interim response has come in
	expired        bool // at the timeout of the route, before a response
}

// maxTries is how many attempts of one stream may run at the same time: only hedging has more than one.
const maxTries = 4

// Reset makes e ready for its next stream; it keeps the memory of heads and bodies.
func (e *exchange) Reset() {
	e.state = state{}
	e.retry = retries{tried: e.retry.tried[:0], codes: e.retry.codes[:0]}
	e.tape = tape{kept: e.tape.kept[:0]}
	e.cookies = e.cookies[:0]
}

// begin notes whom the exchange is for.
func (e *exchange) begin(r *Router, s *filter.Stream, c *cluster.Cluster) {
	k := c.Routing()
	e.r, e.s, e.action, e.cluster, e.responses, e.maintenanceKey = r, s, s.Route.Action, c, k.Responses, k.MaintenanceKey
	e.limits = c.Limits(e.priority())
	u := &s.Info.Upstream
	u.Cluster, u.ClusterAlt, u.ClusterMetadata = c.Name, c.AltName, c.Metadata
	e.groups[1], _ = s.Route.Stats.(*filter.RouteStats)
	if vh := s.Route.VirtualHost; vh != nil {
		if v := vh.VirtualCluster(&s.Stream); v != nil {
			e.groups[0], _ = v.Stats.(*filter.RouteStats)
			if v != vh.OtherCluster { // which has statistics, but no name that logs show
				s.Info.VirtualCluster = v.Name
			}
		}
	}
}

func (e *exchange) priority() pool.Priority {
	if e.action.High {
		return pool.High
	}
	return pool.Default
}

// run is the whole story of a request: attempts until one is good enough.
func (e *exchange) run() error {
	for n := 0; ; n++ {
		a, err := e.attempt()
		if err != nil && e.fatal(err) {
			return err
		}
		switch e.decide(a, err) {
		case giveUp:
			if err != nil {
				return err
			}
			return e.accept(a)
		case follow:
			a.lift()
			return nil
		}
		e.drop()
		if err := e.pause(n); err != nil {
			return err
		}
		e.renew(err)
	}
}

// fatal says whether err ends the stream, and not only an attempt.
func (e *exchange) fatal(err error) bool {
	if e.s.Worker.Current().Err() != nil || e.bodyErr != nil {
		return true
	}
	t, ok := err.(*filter.TimeoutError)
	return ok && t != filter.LimitTry.Cause() && t != filter.LimitTryIdle.Cause() && t != filter.LimitUpstream.Cause()
}

// attempt makes one try, or several when hedging.
func (e *exchange) attempt() (*attempt, error) {
	if e.hedging && e.times.perTry > 0 {
		return e.hedge()
	}
	a := e.next()
	err := a.run()
	a.failedWith(err)
	e.s.Limit(filter.LimitTry, 0)
	if err != nil {
		e.s.Limit(filter.LimitTryIdle, 0)
		e.s.Limit(filter.LimitUpstream, 0)
	}
	return a, err
}

// next takes up another attempt.
func (e *exchange) next() *attempt {
	a := &e.tries[e.used]
	e.used++
	e.s.Info.Upstream.Attempts++
	a.begin(e)
	return a
}

// drop gives up all attempts so far.
func (e *exchange) drop() {
	for i := range e.tries[:e.used] {
		e.tries[i].release()
	}
	e.used = 0
	e.s.TryIdle = 0
	e.s.Limit(filter.LimitTryIdle, 0)
	e.s.Limit(filter.LimitUpstream, 0)
}

// end lets go of everything, at the end of the stream.
func (e *exchange) end() {
	if e.s == nil {
		return
	}
	if a := e.won; a != nil && a.ended && !a.tunnel {
		e.took(timeSince(e.since, a.endedAt))
		e.spent()
	}
	e.closeTunnel()
	e.drop()
	e.releaseRetry()
	e.mirror() // if the body has come to its end only now
	e.won, e.s = nil, nil
}

// closeTunnel counts what went through a tunnel, and closes the connection of one that ends here.
func (e *exchange) closeTunnel() {
	t := e.s.Tunnel
	switch {
	case t == nil:
		return
	case e.tcp != nil:
		e.tcp.Sent(int(t.Sent))
		e.tcp.Received(int(t.Received))
	default:
		e.won.conn.Tunneled(t.Sent, t.Received)
	}
	if e.s.Info.Flags&stream.UpstreamMaxStreamDurationReached != 0 {
		e.cluster.Stats.RqMaxDuration.Inc()
	}
	if e.tcp != nil {
		e.tcp.Release(t.Broken)
	}
}

// chosen chooses the host of an attempt, if there is one.
func (e *exchange) chosen(a *attempt) bool {
	a.host = e.pick()
	return a.host != nil
}

// draw is a random number for the balancer.
func draw() uint64 { return rand.Uint64() }

func timeSince(from, to fiber.Time) (d time.Duration) {
	if from == 0 || to < from {
		return 0
	}
	return time.Duration(to - from)
}

// noted writes down the host of the attempt under way.
func (e *exchange) noted(h *cluster.Host) {
	u := &e.s.Info.Upstream
	if u.Attempts == 2 { // the first one is worth a list only now
		u.Remember()
	}
	u.Host, u.HostName, u.HostMetadata = h.Address, h.Hostname, h.Metadata
	u.Failure, u.Local, u.Remote, u.ConnID, u.TLS, u.Protocol = "", stream.Address{}, stream.Address{}, 0, nil, stream.NoProtocol
	if e.action.AutoHostRewrite && h.Hostname != "" {
		e.action.SetHost(&e.s.Stream, h.Hostname, !e.r.suppress)
	}
}
