package tcpproxy

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/internal/tunnel"
)

// session is a downstream connection with the upstream connection that belongs to it. All of it is owned by the worker.
type session struct {
	p         *proxy
	c         *filter.Conn
	target    *target
	up        *pool.TCP // nil until it is connected
	pair      tunnel.Pair
	idle      time.Duration
	timers    *timers // nil: none is configured
	connect   fiber.Task
	overrides int // how much of the list of hosts that metadata names was used
	closed    bool
	// a side has ended, and the other one was told
	upEnded, downEnded bool // from the client; from the host
	byHost             bool // the host has ended its connection, rather than we
}

// timers are those that most configurations do without.
type timers struct{ longest, log fiber.Timer }

func newSession(p *proxy, c *filter.Conn) *session {
	s := &session{p: p, c: c, idle: p.idle}
	c.Drop = s.drop
	return s
}

// begin runs on the loop or on a fiber, and does not wait.
func (s *session) begin() {
	p, c := s.p, s.c
	p.stats.Total.Inc()
	if len(p.loggers) > 0 {
		c.Record()
	}
	if c.Stream != nil {
		c.Stream.Info.Upstream.CloseType = "Normal" // Envoy says so from the beginning
	}
	s.choose()
	s.startTimers()
	if p.logOnStart {
		s.log(stream.LogTCPConnectionStart)
	}
	if p.onData {
		c.OnIdle(0, s.firstData)
		return
	}
	s.connect.Start(c.Worker, s.dial)
}

// choose finds the cluster, and what filters before us want of this connection.
func (s *session) choose() {
	s.target = s.p.pick(rand.Uint64())
	if len(s.c.Info.State) > 0 {
		if name := text(s.c.Info.State[ClusterState]); name != "" {
			s.target = &target{cluster: name, match: s.target.match}
		}
		if ms, err := strconv.ParseUint(text(s.c.Info.State[IdleState]), 10, 32); err == nil {
			s.idle = time.Duration(ms) * time.Millisecond
		}
	}
	if len(s.p.tlvs) > 0 {
		s.p.addTLVs(s.c)
	}
}

// text is what a filter state object says; empty for one that is not there.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case fmt.Stringer:
		return v.String()
	}
	return fmt.Sprint(v)
}

func (s *session) startTimers() {
	p, w := s.p, s.c.Worker
	if p.longest == 0 && (p.logEvery == 0 || len(p.loggers) == 0) {
		return
	}
	s.timers = &timers{}
	if p.longest > 0 {
		d := p.longest + time.Duration(p.jitter*rand.Float64()*float64(p.longest))
		s.timers.longest.Do = s.tooLong
		s.timers.longest.Set(w, w.Now().Add(d))
	}
	if p.logEvery > 0 && len(p.loggers) > 0 {
		s.timers.log.Do = s.periodic
		s.timers.log.Set(w, w.Now().Add(p.logEvery))
	}
}

// firstData is where ON_DOWNSTREAM_DATA goes on, on a fiber.
func (s *session) firstData(bool) {
	b, err := s.c.Peek(1)
	if len(b) == 0 {
		if err != io.EOF {
			s.c.Info.CloseType = remoteReset
		}
		s.end("")
		return
	}
	if s.c.Stream != nil {
		s.c.Stream.Info.BytesIn = int64(len(b))
	}
	s.connect.Start(s.c.Worker, s.dial)
}

// connected begins to move bytes.
func (s *session) connected(t *pool.TCP) {
	w := s.c.Worker
	s.up = t
	t.OnKill(s.drop)
	if s.p.early && s.c.Readable() {
		s.p.stats.EarlyData.Inc()
	}
	if s.p.logOnConnected {
		s.log(stream.LogTCPUpstreamConnected)
	}
	s.pair.Join(w, s, s.c.Conn, t.Conn())
	s.pair.Begin(s.idle)
}

func (s *session) tooLong() {
	s.p.stats.MaxDuration.Inc()
	s.flag(stream.DurationTimeout)
	s.end("max_connection_duration_reached")
}

func (s *session) periodic() {
	s.log(stream.LogTCPPeriodic)
	s.timers.log.Set(s.c.Worker, s.c.Worker.Now().Add(s.p.logEvery))
}

// drop is filter.Conn.Drop.
func (s *session) drop() {
	if !s.closed {
		s.end("")
	}
}

func (s *session) flag(f stream.Flags) {
	if s.c.Stream != nil {
		s.c.Stream.Info.Flags |= f
	}
}

// end closes both sides, once; why is our reason in Envoy's words, empty if it is not ours. Fibers that are at work on a side see that
// it is closed and do nothing more.
func (s *session) end(why string) {
	w := s.c.Worker
	s.closed = true
	if s.timers != nil {
		s.timers.longest.Stop(w)
		s.timers.log.Stop(w)
	}
	s.c.OnIdle(0, nil) // of firstData
	s.connect.Cancel(fiber.ErrClosed)
	s.c.Info.LocalClose = why
	if s.up != nil {
		s.pair.Stop()
		if s.c.Stream != nil {
			s.c.Stream.Info.Upstream.LocalClose = why
		}
		s.settle()
		if s.c.Info.CloseType == remoteReset {
			s.up.Conn().Abort()
		}
		s.up.Release(s.byHost)
	}
	if s.c.Info.CloseType == localReset {
		s.c.Abort()
	} else {
		_ = s.c.Close()
	}
	s.log(stream.LogTCPConnectionEnd)
	s.c.Ended()
}

// How a connection was closed, in the words of %DOWNSTREAM_DETECTED_CLOSE_TYPE%.
const (
	localReset  = "LocalReset"
	remoteReset = "RemoteReset"
)

// settle counts what has moved since it was called last.
func (s *session) settle() {
	if n := s.pair.Up.Take(); n > 0 {
		s.p.stats.RxBytes.Add(uint64(n))
		s.up.Sent(int(n))
	}
	if n := s.pair.Down.Take(); n > 0 {
		s.p.stats.TxBytes.Add(uint64(n))
		s.up.Received(int(n))
	}
}

// log hands the connection to the access loggers. What is known by now goes into the stream even without loggers of ours: those of
// the listener read it.
func (s *session) log(t stream.LogType) {
	if s.c.Stream == nil {
		return
	}
	i := &s.c.Stream.Info
	if s.up != nil && t != stream.LogTCPUpstreamConnected {
		in, out := s.pair.Up.Moved(), s.pair.Down.Moved()
		i.BytesIn, i.BytesOut, i.WireIn, i.WireOut = in, out, in, out
		i.Upstream.BytesOut, i.Upstream.BytesIn = in, out
		s.c.Info.BytesIn, s.c.Info.BytesOut = in, out
	}
	if t == stream.LogTCPConnectionEnd {
		i.End = s.c.Worker.Now()
		s.c.Info.End = i.End
	}
	i.LogType = t
	s.p.loggers.Log(s.c.Stream)
	i.LogType = stream.LogNotSet
}
