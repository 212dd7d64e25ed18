package router

import (
	"errors"
	"io"
	"syscall"
	"time"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/cluster/outlier"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

var errNoHosts = errors.New("no healthy upstream")

// attempt is one try at one host.
type attempt struct {
	e        *exchange
	host     *cluster.Host
	conn     pool.Stream
	upload   fiber.Task      // sends what of the body was not there at once
	send     func()          // what it runs
	q        *stream.Request // what is sent: the stream's, or request
	request  stream.Request
	response stream.Response
	reader   reader
	body     stream.Body // of the response
	endedAt  fiber.Time
	task     fiber.Task // hedging
	run1     func()     // what it runs
	err      error
	uploaded bool
	failed   bool // the connection is of no further use
	ended    bool // the response has been read to its end
	done     bool // hedging: it has come to its head, or to its end
	late     bool // hedging: it has exceeded its per-try timeout
	tunnel   bool // the connection is no longer HTTP
	unjudged bool // gRPC: the trailers will say whether the call has succeeded
	blamed   bool // its host was told of as too slow
	logged   bool // its end, to upstream_log
	flags    stream.Flags
	carried  wire // what of it was added to the stream's
}

// reset keeps the memory of the head, and the functions of the tasks.
func (a *attempt) reset() {
	r := a.response
	r.Status, r.Body = 0, nil
	*a = attempt{send: a.send, run1: a.run1, response: r}
}

func (a *attempt) begin(e *exchange) {
	a.reset()
	a.e = e
	if a.send == nil {
		a.send, a.run1 = a.sendRest, a.runTask
	}
}

// run takes an attempt to the head of its response, and reports how its host has done.
func (a *attempt) run() error {
	err := a.try()
	if err != nil {
		a.blame(err)
	}
	return err
}

func (a *attempt) try() error {
	e := a.e
	s, w := e.s, e.s.Worker
	if a.host = e.pick(); a.host == nil {
		return errNoHosts
	}
	e.noted(a.host)
	e.retry.note(a.host)
	u := &s.Info.Upstream
	u.Start = w.Now()
	c, err := e.cluster.HTTP(w, a.host, pool.Options{Priority: e.priority(), Downstream: s.Conn.Info, Transport: e.transport(), HTTP2: s.Info.Protocol == stream.HTTP2})
	if err != nil {
		u.Ready = w.Now()
		return err
	}
	a.conn = c
	a.host.Outlier.Report(outlier.Connected, 0)
	a.lent(c.Info(), c.Reused())
	if d := a.host.Cluster().MaxStreamDuration; d > 0 {
		s.Limit(filter.LimitUpstream, u.Ready.Add(d))
	}
	for _, v := range e.groups {
		if v != nil {
			v.Total.Inc()
		}
	}
	if e.r.logStart {
		a.log(stream.LogUpstreamPoolReady)
	}
	a.prepare()
	if err := a.start(); err != nil {
		return err
	}
	return a.receive()
}

// lent writes down the connection.
func (a *attempt) lent(i *pool.Info, reused bool) {
	u, now := &a.e.s.Info.Upstream, a.e.s.Worker.Now()
	u.Local, u.Remote, u.Protocol, u.ConnID, u.TLS, u.Ready = i.Local, i.Remote, i.Protocol, i.ID, i.TLS, now
	u.ServerName, u.Handshake = i.ServerName, i.Handshake
	if a.e.s.MatchScheme {
		a.e.s.Request.Scheme = "http"
		if i.TLS != nil {
			a.e.s.Request.Scheme = "https"
		}
	}
	if !reused {
		u.ConnStart, u.Connected = i.Started, i.Connected
	} else {
		u.ConnStart, u.Connected = 0, now
	}
	if u.Attempts > 1 {
		u.Remember()
	}
}

// prepare makes the request of this attempt.
func (a *attempt) prepare() {
	e := a.e
	a.q = &e.s.Request
	if e.hedging {
		a.request = e.s.Request // each attempt sends its own
		a.q = &a.request
	}
	if e.taped {
		a.reader = reader{t: &e.tape, from: &e.s.Request.Trailer, to: &a.q.Trailer}
		a.q.Body = &a.reader
	}
	e.s.TryIdle = e.times.perTryIdle
	e.s.Touch()
}

// start sends the head and what of the body is there; the rest goes on a task.
func (a *attempt) start() error {
	e := a.e
	u := &e.s.Info.Upstream
	u.FirstTx = e.s.Worker.Now()
	done, err := a.conn.Send(a.q, false)
	if done {
		a.sent()
		return nil
	}
	if err != nil {
		return a.sendFailed(err)
	}
	a.upload.Start(e.s.Worker, a.send) // ends with the body, or when the attempt is released
	return nil
}

// sendRest is the upload task.
func (a *attempt) sendRest() {
	done, err := a.conn.Send(a.q, true)
	if done {
		a.sent()
	} else if err != nil && a.sendFailed(err) != nil {
		a.e.s.Limit(filter.LimitTry, a.e.s.Worker.Now()) // wakes whoever waits for the response
	}
}

// sendFailed says whether an error of sending ends the attempt: where the upstream takes no more, its response may still be good.
func (a *attempt) sendFailed(err error) error {
	a.failed = true
	if berr := a.e.s.RequestError(); berr != nil {
		a.e.bodyErr = berr
		return berr
	}
	var t *filter.TimeoutError
	if errors.As(err, &t) || errors.Is(err, fiber.ErrPeerGone) || errors.Is(err, fiber.ErrCancelled) {
		return err
	}
	return nil
}

// sent notes that the request is out: the upstream's time begins.
func (a *attempt) sent() {
	e := a.e
	a.uploaded = true
	e.s.Info.Upstream.LastTx = e.s.Worker.Now()
	e.complete()
	if t := e.times.perTry; t > 0 && !e.hedging {
		e.s.Limit(filter.LimitTry, e.s.Worker.Now().Add(t))
	}
	if e.s.Upgrade == "" {
		e.mirror()
	}
}

// receive waits for the head of the final response; interim ones go on to the client.
func (a *attempt) receive() error {
	s := a.e.s
	for {
		if err := a.conn.Receive(&a.response); err != nil {
			return a.receiveFailed(err)
		}
		s.Info.Upstream.FirstRx = s.Worker.Now()
		st := a.response.Status
		if st >= 200 || st == 101 {
			break
		}
		a.e.interimCame(st, a.host)
		if err := s.Interim(&a.response); err != nil {
			return err
		}
	}
	a.praise()
	a.granted()
	if a.host.Cluster().Learns() {
		u := &s.Info.Upstream
		a.host.Cluster().Learn(s.Worker, a.host, &a.response.Header, timeSince(u.FirstTx, u.FirstRx))
	}
	if a.body = a.response.Body; a.body != nil {
		a.response.Body = a
	} else {
		a.finish()
	}
	return nil
}

// receiveFailed prefers the reason for which an upload has failed.
func (a *attempt) receiveFailed(err error) error {
	if a.host.Cluster().Learns() {
		a.host.Cluster().LearnFailure(a.e.s.Worker, a.host)
	}
	if a.e.bodyErr != nil {
		return a.e.bodyErr
	}
	if err == io.EOF {
		return http1.ErrNoResponse
	}
	return err
}

// granted notes an upgrade that has come about.
func (a *attempt) granted() {
	s, st := a.e.s, a.response.Status
	switch http1.KindOf(a.q) {
	case http1.Upgrading:
		a.tunnel = st == 101 && s.Upgrade != ""
	case http1.Connect:
		a.tunnel = st/100 == 2
	default:
		return
	}
	a.failed = true // never to be used for another request
}

// Next passes a piece of the response on; a is the body that the connection manager pulls.
func (a *attempt) Next(wait bool) ([]byte, error) {
	p, err := a.body.Next(wait)
	s := a.e.s
	if len(p) > 0 {
		if u := &s.Info.Upstream; u.FirstRxBody == 0 {
			u.FirstRxBody = s.Worker.Now()
		}
		return p, nil
	}
	if err == io.EOF {
		s.Response.Trailer, a.response.Trailer = a.response.Trailer, s.Response.Trailer
		a.settle()
		if a.host.Cluster().Learns() {
			a.host.Cluster().LearnTrailer(s.Worker, a.host, &s.Response.Trailer)
		}
		a.finish()
	} else if err != nil {
		a.failed = true
		if _, reset := errors.AsType[syscall.Errno](err); reset {
			err = io.ErrUnexpectedEOF // it ends too early, however it ends
		}
		a.blame(err)
		err = a.broken(err)
	}
	return p, err
}

// finish notes the end of the response.
func (a *attempt) finish() {
	if a.ended {
		return
	}
	s := a.e.s
	a.ended, a.endedAt = true, s.Worker.Now()
	s.Info.Upstream.LastRx = a.endedAt
	a.meter()
	if a.e.won == a {
		a.lift()
	}
	if !a.tunnel {
		a.logEnd()
	}
}

// lift takes away the limits of the upstream's time: the response that the client gets has come to its end. One that is tried
// again, or that another attempt is ahead of, leaves them as they are.
func (a *attempt) lift() {
	s := a.e.s
	s.Limit(filter.LimitRoute, 0)
	s.Limit(filter.LimitTryIdle, 0)
	if !a.tunnel {
		s.Limit(filter.LimitUpstream, 0)
	}
	s.TryIdle = 0
}

// broken counts a response that ends too early.
func (a *attempt) broken(err error) error {
	e := a.e
	a.meter()
	if e.s.Worker.Current().Err() == nil {
		a.flags = flagsOf(err)
	}
	a.logEnd()
	if e.s.GRPC() {
		e.r.stats.RqResetAfterStarted.Inc() // of gRPC only, as in Envoy
	}
	switch err {
	case filter.LimitRoute.Cause():
		e.countTimeout(a.host)
	case filter.LimitUpstream.Cause():
		e.cluster.Stats.RqMaxDuration.Inc()
	}
	if _, late := errors.AsType[*filter.TimeoutError](err); a.unjudged && !late && e.s.Worker.Current().Err() == nil {
		a.unjudged = false
		a.host.Stats.RqError.Add(1)
	}
	return err
}

// meter adds what has gone over the wire to what earlier attempts have carried.
func (a *attempt) meter() {
	n := wireOf(a.conn)
	n.charge(&a.e.s.Info.Upstream, a.carried)
	a.carried = n
}

// release gives the connection back: to the pool after a whole exchange, else it is closed.
func (a *attempt) release() {
	if a.e == nil {
		return
	}
	w := a.e.s.Worker
	a.task.Join(w)
	a.upload.Join(w)
	if !a.ended {
		a.abandon()
	}
	a.logEnd()
	if a.conn != nil {
		a.e.tried()
		a.conn.Release(a.uploaded && !a.failed && a.ended && !a.tunnel)
	}
	a.conn, a.host, a.e = nil, nil, nil
}

// abandon counts what has come of a response that nobody reads to its end.
func (a *attempt) abandon() {
	a.meter()
	if c, ok := a.conn.(metered); ok && !a.tunnel {
		in, _ := c.Codec()
		a.e.s.Info.Upstream.BytesIn += int64(in.Unread())
	}
}

// milliseconds is d in whole milliseconds.
func milliseconds(d time.Duration) int64 { return int64(d / time.Millisecond) }
