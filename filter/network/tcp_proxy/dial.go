package tcpproxy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/cluster/outlier"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

// outcome says why there is no upstream connection; the numbers are those of Envoy's UpstreamFailureReason.
type outcome uint8

const (
	connectFailed outcome = iota
	noHealthyHost
	noResources
	noRoute
	cancelled // the session ended meanwhile
)

// dial connects upstream, with as many attempts as are allowed. It is a fiber of its own.
func (s *session) dial() {
	t, why := s.attempts()
	switch {
	case s.closed:
		if t != nil {
			t.Release(false)
		}
	case t == nil:
		s.end(fmt.Sprintf("tcp_initializion_failure:%d", why)) // Envoy spells it so
	default:
		s.connected(t)
	}
}

func (s *session) attempts() (*pool.TCP, outcome) {
	for tried := uint32(0); ; tried++ {
		cl := s.p.clusters.Get(s.target.cluster)
		if cl == nil {
			s.p.stats.NoRoute.Inc()
			s.flag(stream.NoClusterFound)
			return nil, noRoute
		}
		s.describeCluster(cl)
		if c := &cl.Limits(pool.Default).Connections; c.Active() >= c.Max() { // Envoy asks before the pool does
			cl.Stats.CxOverflow.Inc()
			s.flag(stream.UpstreamOverflow)
			return nil, noResources
		}
		if tried >= s.p.attempts {
			cl.Stats.CxConnectAttempts.Inc()
			s.flag(stream.UpstreamRetryLimitExceeded)
			return nil, connectFailed
		}
		if tried > 0 && s.p.base > 0 && s.c.Worker.Sleep(s.p.backoff(tried)) != nil {
			return nil, cancelled
		}
		t, why, again := s.attempt(cl)
		if t != nil || !again {
			return t, why
		}
	}
}

// attempt connects to one host; again says that another attempt may do better.
func (s *session) attempt(cl *cluster.Cluster) (t *pool.TCP, why outcome, again bool) {
	h := s.host(cl)
	if h == nil {
		cl.Stats.CxNoneHealthy.Inc()
		s.flag(stream.NoHealthyUpstream)
		return nil, noHealthyHost, false
	}
	s.describeHost(h)
	o := pool.Options{Downstream: s.c.Info}
	if len(s.c.Info.State) > 0 {
		o.Transport.SNI = text(s.c.Info.State[stream.ServerNameState])
	}
	t, err := cl.TCP(s.c.Worker, h, o)
	var failed *pool.ConnectError
	switch {
	case s.closed:
		return t, cancelled, false
	case err == nil:
		h.Outlier.Report(outlier.ConnectedFinally, 0)
		s.describeConn(t.Info())
		return t, 0, false
	case errors.Is(err, pool.ErrOverflow):
		s.flag(stream.UpstreamOverflow)
		return nil, noResources, false
	case errors.As(err, &failed):
		if failed.Timeout {
			h.Outlier.Report(outlier.Timeout, 0)
		} else {
			h.Outlier.Report(outlier.ConnectFailed, 0)
		}
		s.flag(stream.UpstreamConnectionFailure)
		if s.c.Stream != nil {
			s.c.Stream.Info.Upstream.Failure = failed.Reason()
		}
	}
	return nil, connectFailed, true
}

// backoff is the pause before attempt n+1: a random share of an interval that doubles.
func (c *config) backoff(n uint32) time.Duration {
	d := c.base
	for ; n > 1 && d < c.ceiling; n-- {
		d *= 2
	}
	return time.Duration(rand.Int64N(int64(max(min(d, c.ceiling), 1))))
}

// host chooses one: that which metadata names, where the cluster allows it, or the balancer's.
func (s *session) host(cl *cluster.Cluster) *cluster.Host {
	i := &stream.Info{Conn: s.c.Info, Metadata: s.c.Info.Metadata}
	h, used := cl.Override(i, nil, s.overrides)
	if s.overrides = used; h == nil {
		q := s.request(cl, i)
		if f := cl.Forwarding(); f != nil {
			f.Resolve(s.c.Worker, &q)
		}
		h = cl.Pick(s.c.Worker, q)
	}
	if h != nil {
		cl.Selected(i, h)
	}
	return h
}

func (s *session) request(cl *cluster.Cluster, i *stream.Info) lb.Request {
	r := lb.Request{Random: rand.Uint64(), Match: s.target.match, Fallbacks: s.target.fallbacks}
	if own := i.Metadata["envoy.lb"]; len(own) > 0 && cl.Subsets() {
		r.Match = lb.Merge(r.Match, lb.Criteria(own))
	}
	cl.Aim(&r, i, "", nil)
	switch p := s.p; {
	case p.sourceIP && s.c.Info.Remote.IsValid():
		r.Hash, r.HasHash = xxhash.Sum64String(s.c.Info.Remote.Addr().String()), true
	case p.stateKey != "":
		if v, ok := s.c.Info.State[p.stateKey]; ok {
			r.Hash, r.HasHash = xxhash.Sum64String(text(v)), true
		}
	}
	return r
}

func (s *session) describeCluster(cl *cluster.Cluster) {
	if s.c.Stream == nil {
		return
	}
	u := &s.c.Stream.Info.Upstream
	u.Cluster, u.ClusterAlt, u.ClusterMetadata = cl.Name, cl.AltName, cl.Metadata
}

func (s *session) describeHost(h *cluster.Host) {
	if s.c.Stream == nil {
		return
	}
	u := &s.c.Stream.Info.Upstream
	u.Attempts++
	u.Start = s.c.Worker.Now()
	u.Host, u.HostName, u.HostMetadata = h.Address, h.Hostname, h.Metadata
}

func (s *session) describeConn(i *pool.Info) {
	if s.c.Stream == nil {
		return
	}
	u := &s.c.Stream.Info.Upstream
	u.Local, u.Remote, u.TLS, u.ConnID = i.Local, i.Remote, i.TLS, i.ID
	u.ServerName, u.Handshake = i.ServerName, i.Handshake
	u.ConnStart, u.Connected, u.Ready = i.Started, i.Connected, s.c.Worker.Now()
}
