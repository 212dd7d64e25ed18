// Package router is envoy.filters.http.router: it sends the request to a host of the route's cluster and leaves the response.
package router

import (
	"errors"
	"io"
	"math/rand/v2"
	"strconv"
	"syscall"
	"time"

	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

var (
	errTimeout = errors.New("upstream request timeout")
	errPerTry  = errors.New("upstream request per-try timeout")
	errNoHosts = errors.New("no healthy upstream")
)

const retryBuffer = 1 << 20 // per_connection_buffer_limit_bytes

// Router is the terminal HTTP filter.
type Router struct {
	clusters *cluster.Manager
	slot     filter.Slot[exchange]
}

// New builds it.
func New(_ *routerv3.Router, env filter.Env) (any, error) {
	return &Router{env.Clusters, filter.NewSlot[exchange](env)}, nil
}

// exchange is the state of one stream in the router.
type exchange struct {
	s       *filter.Stream
	rt      *route.Action
	cluster *cluster.Cluster
	used    int        // attempts[:used] may hold a connection
	try     [2]attempt // the second one only when hedging
	replay  stream.Replay
	body    stream.Body
	won     *attempt
	settled fiber.Cond // hedging: an attempt has come to its head or its end
}

// attempt is one try at one host.
type attempt struct {
	e        *exchange
	host     *cluster.Host
	conn     pool.Stream
	upload   fiber.Task // sends what of the body was not there at once
	uploaded bool
	failed   bool
	response stream.Response
	task     fiber.Task // hedging
	err      error
	done     bool
}

// Serve finds a response.
func (r *Router) Serve(s *filter.Stream) {
	rt := s.Route
	if rt == nil {
		s.Info.Flags |= stream.NoRouteFound
		s.LocalReply(404, "route_not_found", "")
		return
	}
	if rt.Direct != nil {
		body, _ := rt.Direct.Body(&s.Stream)
		s.LocalReply(rt.Direct.Status, "direct_response", body)
		rt.FinalizeResponse(&s.Stream)
		return
	}
	if rt.Redirect != nil {
		rt.RewritePath(&s.Stream, true)
		s.LocalReply(rt.Redirect.Status, "direct_response", "")
		s.Response.Header.Add("location", rt.Location(&s.Stream))
		rt.FinalizeResponse(&s.Stream)
		return
	}
	if rt.Action == nil {
		return
	}
	c := r.clusters.Get(rt.Action.ClusterName(&s.Stream))
	if c == nil {
		s.Info.Flags |= stream.NoClusterFound
		s.LocalReply(503, "cluster_not_found", "")
		return
	}
	e := r.slot.Get(s)
	rt.FinalizeRequest(&s.Stream, true)
	e.begin(s, rt.Action, c)
	e.answer(e.run())
}

// OnEnd gives the connections back.
func (r *Router) OnEnd(s *filter.Stream) {
	e := r.slot.Get(s)
	for i := range e.try[:e.used] {
		e.try[i].release()
	}
	e.used, e.won = 0, nil
}

func (e *exchange) begin(s *filter.Stream, rt *route.Action, c *cluster.Cluster) {
	e.s, e.rt, e.cluster, e.used, e.won = s, rt, c, 0, nil
	s.Info.Upstream.Cluster = c.Name
	if rt.Timeout > 0 {
		s.Request.Header.Set("x-envoy-expected-rq-timeout-ms", s.Text(strconv.FormatInt(rt.Timeout.Milliseconds(), 10)))
	}
	if e.body = s.Request.Body; e.body == nil {
		e.arm(s.Worker.Current())
	} else if rt.Retry != nil {
		e.replay.Reset(e.body, retryBuffer)
		s.Request.Body = &e.replay
	}
}

// arm starts the route's timeout, which covers the response body too; the connection manager lifts it when the stream ends.
func (e *exchange) arm(f *fiber.Fiber) {
	if e.rt.Timeout > 0 {
		f.SetLimit(fiber.Limit{At: e.s.Worker.Now().Add(e.rt.Timeout), Cause: errTimeout})
	}
}

// run is the whole story of a request: attempts until one is good enough.
func (e *exchange) run() error {
	for n := 0; ; n++ {
		a, err := e.attempt()
		if err == nil && !e.worthRetry(a, nil) {
			if n > 0 {
				e.cluster.Stats.RqRetrySuccess.Inc()
			}
			return e.accept(a)
		}
		if err != nil && (e.s.Worker.Current().Err() != nil || !e.worthRetry(a, err)) {
			return err
		}
		if n == e.rt.Retry.NumRetries || e.body != nil && !e.replay.Rewind() {
			e.cluster.Stats.RqRetryLimit.Inc()
			if err == nil {
				return e.accept(a)
			}
			return err
		}
		e.cluster.Stats.RqRetry.Inc()
		e.drop()
		if err := e.s.Worker.Sleep(e.rt.Retry.Backoff(n, rand.Uint64())); err != nil {
			return err
		}
	}
}

// attempt makes one try, or two when hedging, and returns the first to have an acceptable head.
func (e *exchange) attempt() (*attempt, error) {
	if e.rt.Hedge.OnPerTryTimeout && e.rt.Retry != nil && e.rt.Retry.PerTry > 0 {
		return e.hedge()
	}
	a := e.next()
	if p := e.rt.Retry; p != nil && p.PerTry > 0 {
		f := e.s.Worker.Current()
		defer f.Restore(f.SetLimit(fiber.Limit{At: e.s.Worker.Now().Add(p.PerTry), Cause: errPerTry}))
	}
	return a, a.run()
}

func (e *exchange) next() *attempt {
	a := &e.try[e.used]
	e.used++
	e.s.Info.Upstream.Attempts++
	*a = attempt{e: e, response: a.response}
	return a
}

// hedge starts an attempt; when it exceeds the per-try timeout it goes on, and another one starts beside it.
func (e *exchange) hedge() (*attempt, error) {
	w := e.s.Worker
	f := w.Current()
	for e.used < len(e.try) {
		a := e.next()
		a.task.Start(w, func() {
			a.err = a.run()
			a.done = true
			e.settled.Broadcast()
		})
		last := f.SetLimit(fiber.Limit{At: w.Now().Add(e.rt.Retry.PerTry), Cause: errPerTry})
		err := e.firstDone(w)
		f.Restore(last)
		if err == nil || !errors.Is(err, errPerTry) {
			break
		}
	}
	if err := e.firstDone(w); err != nil {
		return nil, err
	}
	for i := range e.try[:e.used] {
		if a := &e.try[i]; a.done && a.err == nil {
			return a, nil
		}
	}
	return &e.try[0], e.try[0].err
}

func (e *exchange) firstDone(w *fiber.Worker) error {
	for {
		failed := 0
		for i := range e.try[:e.used] {
			if a := &e.try[i]; a.done {
				if a.err == nil {
					return nil
				}
				failed++
			}
		}
		if failed == e.used {
			return nil
		}
		if err := e.settled.Wait(w); err != nil {
			return err
		}
	}
}

// drop gives up all attempts so far.
func (e *exchange) drop() {
	for i := range e.try[:e.used] {
		e.try[i].release()
	}
	e.used = 0
}

func (e *exchange) accept(a *attempt) error {
	s := e.s
	e.won = a
	s.Response, a.response = a.response, s.Response
	s.Info.ResponseStart = s.Worker.Now()
	ms := int64(s.Worker.Now()-s.Info.Upstream.Start) / int64(time.Millisecond)
	s.Response.Header.Set("x-envoy-upstream-service-time", s.Text(strconv.FormatInt(ms, 10)))
	s.Info.Details = "via_upstream"
	e.cluster.Stats.RqCompleted.Inc()
	return nil
}

// answer turns the reason for having no response into one.
func (e *exchange) answer(err error) {
	s, st := e.s, e.cluster.Stats
	switch {
	case err == nil:
		return
	case errors.Is(err, errTimeout), errors.Is(err, errPerTry):
		st.RqTimeout.Inc()
		s.Info.Flags |= stream.UpstreamRequestTimeout
		s.LocalReply(504, "response_timeout", "upstream request timeout")
	case errors.Is(err, errNoHosts):
		st.CxNoneHealthy.Inc()
		s.Info.Flags |= stream.NoHealthyUpstream
		s.LocalReply(503, "no_healthy_upstream", "no healthy upstream")
	default:
		reason, flag := "connection termination", stream.UpstreamConnectionTermination
		if connectFailure(err) {
			reason, flag = "remote connection failure", stream.UpstreamConnectionFailure
		}
		s.Info.Flags |= flag
		s.LocalReply(503, "upstream_reset_before_response_started{"+reason+"}", "upstream connect error or disconnect/reset before headers. reset reason: "+reason)
	}
	st.RqCompleted.Inc()
}

// worthRetry says whether the policy wants another attempt after this one.
func (e *exchange) worthRetry(a *attempt, err error) bool {
	p := e.rt.Retry
	if p == nil {
		return false
	}
	switch {
	case errors.Is(err, errTimeout), errors.Is(err, errNoHosts):
		return false
	case errors.Is(err, errPerTry):
		e.cluster.Stats.RqPerTryTimeout.Inc()
		return p.On&(route.On5xx|route.OnGatewayError|route.OnReset) != 0
	case connectFailure(err):
		return p.On&(route.On5xx|route.OnGatewayError|route.OnConnectFailure) != 0
	case err != nil:
		return p.On&(route.On5xx|route.OnGatewayError|route.OnReset) != 0
	}
	status := a.response.Status
	return p.On&route.On5xx != 0 && status >= 500 || p.On&route.OnGatewayError != 0 && status >= 502 && status <= 504 || p.On&route.OnRetriable4xx != 0 && status == 409
}

func connectFailure(err error) bool {
	var c *pool.ConnectError
	return errors.As(err, &c)
}

// run takes an attempt to the head of its response.
func (a *attempt) run() error {
	e := a.e
	s, w := e.s, e.s.Worker
	host := e.cluster.Pick(w, lb.Request{Random: rand.Uint64()})
	if host == nil {
		return errNoHosts
	}
	a.host = host
	c, err := e.cluster.HTTP(w, host, pool.Options{Downstream: s.Info.Conn})
	if err != nil {
		return err
	}
	a.conn = c
	s.Info.Upstream.Start = w.Now()
	if a.uploaded, err = c.Send(&s.Request, false); err != nil {
		return err
	}
	if !a.uploaded {
		main := w.Current()
		a.upload.Start(w, func() {
			done, err := c.Send(&s.Request, true)
			if a.uploaded = done; done {
				e.arm(main)
			} else if err != nil && !upstreamWrite(err) {
				a.failed = true // the client failed: nothing more will come of this attempt
			}
		})
	} else if e.body != nil {
		e.arm(w.Current())
	}
	err = c.Receive(&a.response)
	if err != nil {
		e.cluster.Stats.RqRxReset.Inc()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
	}
	return err
}

// upstreamWrite says that an upload ended since the upstream would take no more; its response may still be good.
func upstreamWrite(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// release gives the connection of an attempt back: to the pool after a whole exchange, else it is closed.
func (a *attempt) release() {
	w := a.e.s.Worker
	a.task.Join(w)
	a.upload.Join(w)
	if a.conn != nil {
		a.conn.Release(a.uploaded && !a.failed && a.e.won == a)
	}
	a.conn, a.host = nil, nil
}
