package health

import (
	"errors"
	"time"

	datacorev3 "github.com/envoyproxy/go-control-plane/envoy/data/core/v3"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// Session is the checking of one host.
type Session struct {
	// set at construction
	c      *Checker
	host   *Host
	worker *fiber.Worker
	// owned by the control loop
	first     bool // no check has ended yet
	good, bad uint64
	stop      func() // of the timer to the next check
	ended     bool
	// owned by the worker
	probe  probe
	task   fiber.Task
	closed bool
}

// probe asks a host. It belongs to a worker.
type probe interface {
	// ask runs on a fiber whose limit is the timeout.
	ask(s *Session, to pool.Target) verdict
	// close ends what is kept from one check to the next.
	close()
}

// verdict is what an answer, or the lack of one, says.
type verdict struct {
	failure   datacorev3.HealthCheckFailureType
	failed    bool
	retriable bool // a failure that counts towards the threshold, rather than being enough by itself
	degraded  bool
	excluded  bool // the host asks to be left alone
	status    int  // of HTTP
}

// change is what a check means for the host.
type change uint8

const (
	unchanged change = iota
	pending          // more of the same are needed
	changed
)

var errTimeout = errors.New("health check timeout")

// network is the failure that err stands for.
func network(err error) verdict {
	v := verdict{failed: true, failure: datacorev3.HealthCheckFailureType_NETWORK}
	if errors.Is(err, errTimeout) {
		v.failure = datacorev3.HealthCheckFailureType_NETWORK_TIMEOUT
	}
	return v
}

// Host returns the host that is checked.
func (s *Session) Host() *Host { return s.host }

// Waiting says that the first check has not ended.
func (s *Session) Waiting() bool { return s.first && !s.ended }

// Start begins with the first check, or with the wait for it (initial_jitter).
func (s *Session) Start() {
	if j := s.c.config.initialJitter; j > 0 {
		s.after(s.c.jittered(0, j))
		return
	}
	s.begin()
}

func (s *Session) after(d time.Duration) { s.stop = s.c.env.After(d, s.begin) }

// begin asks the host.
func (s *Session) begin() {
	if s.ended {
		return
	}
	s.c.stats.Attempt.Inc()
	to := s.host.Target()
	s.worker.Post(func() {
		if !s.closed && !s.task.Running() {
			s.task.Start(s.worker, func() { s.run(to) })
		}
	})
}

// run is the fiber of a check.
func (s *Session) run(to pool.Target) {
	f := s.worker.Current()
	f.SetLimit(fiber.Limit{At: s.worker.Now().Add(s.c.config.timeout), Cause: errTimeout})
	v := s.probe.ask(s, to)
	f.Unlimit()
	if s.closed {
		s.probe.close()
		return
	}
	s.c.env.Post(func() { s.done(v) })
}

// idleFailure is for probes whose connection has ended between two checks, where that is a failure.
func (s *Session) idleFailure() {
	if !s.closed {
		s.c.env.Post(func() { s.done(network(nil)) })
	}
}

// Close ends the checks of a host that is gone.
func (s *Session) Close() {
	if s.ended {
		return
	}
	s.ended = true
	if s.stop != nil {
		s.stop()
	}
	s.worker.Post(func() {
		s.closed = true
		if s.task.Running() {
			s.task.Cancel(fiber.ErrCancelled)
		} else {
			s.probe.close()
		}
	})
	f := *s.host.Flags
	if !f.Has(FailedActive) {
		s.c.stats.Healthy.Dec()
	}
	if f.Has(DegradedActive) {
		s.c.stats.Degraded.Dec()
	}
	if s.first { // somebody may wait for it
		s.host.Checked(Result{First: true, Passed: !f.Has(FailedActive)})
	}
}

// FailedAtOnce tells of a response to a request, with which the host has asked to be left alone. Any goroutine may call it; a nil
// Session does nothing.
func (s *Session) FailedAtOnce() {
	if s == nil {
		return
	}
	s.c.env.Post(func() {
		if s.ended {
			return
		}
		s.host.Flags.Set(ExcludedAtOnce, true)
		s.fail(verdict{failed: true, failure: datacorev3.HealthCheckFailureType_PASSIVE})
	})
}

// done takes in the end of a check, and waits for the next.
func (s *Session) done(v verdict) {
	if s.ended {
		return
	}
	if s.stop != nil {
		s.stop()
	}
	if v.excluded {
		s.host.Flags.Set(ExcludedAtOnce, true)
	}
	judge := s.pass
	if v.failed {
		judge = s.fail
	}
	c := judge(v)
	if !s.ended { // the host may be gone by this
		s.after(s.c.interval(!v.failed, c))
	}
}

// pass is a check that was passed.
func (s *Session) pass(v verdict) change {
	f, c := s.host.Flags, unchanged
	s.bad = 0
	if f.Has(FailedActive) {
		s.good++
		c = pending
		if s.first || s.good == s.c.config.healthy { // the very first is enough
			f.Set(FailedActive|ActiveTimeout|ExcludedAtOnce, false)
			s.c.stats.Healthy.Inc()
			s.log(added(s.first))
			c = changed
		}
	}
	if c != changed && s.c.config.logSuccesses {
		s.log(successful())
	}
	if f.Set(PendingActive, false) {
		c = changed
	}
	if f.Set(DegradedActive, v.degraded) {
		if v.degraded {
			s.c.stats.Degraded.Inc()
			s.log(nowDegraded())
		} else {
			s.c.stats.Degraded.Dec()
			s.log(noLongerDegraded())
		}
		if c == unchanged {
			c = changed
		}
	}
	s.c.stats.Success.Inc()
	s.tell(c, true)
	return c
}

// fail is a check that was not passed, or a request that says as much.
func (s *Session) fail(v verdict) change {
	f, c := s.host.Flags, unchanged
	byNetwork := v.failure == datacorev3.HealthCheckFailureType_NETWORK || v.failure == datacorev3.HealthCheckFailureType_NETWORK_TIMEOUT
	s.good = 0
	if !f.Has(FailedActive) {
		c = pending
		enough := !byNetwork && !v.retriable
		if !enough {
			s.bad++
			enough = s.bad == s.c.config.unhealthy
		}
		if enough {
			f.Set(FailedActive, true)
			s.c.stats.Healthy.Dec()
			s.log(ejected(v))
			c = changed
		}
	}
	f.Set(ActiveTimeout, v.failure == datacorev3.HealthCheckFailureType_NETWORK_TIMEOUT && f.Has(FailedActive))
	if f.Set(PendingActive, false) {
		c = changed
	}
	if s.first || s.c.config.logFailures {
		s.log(failed(v, s.first))
	}
	s.c.stats.Failure.Inc()
	if byNetwork {
		s.c.stats.NetworkFailure.Inc()
	} else if v.failure == datacorev3.HealthCheckFailureType_PASSIVE {
		s.c.stats.PassiveFailure.Inc()
	}
	s.tell(c, false)
	return c
}

func (s *Session) tell(c change, passed bool) {
	first := s.first
	s.first = false
	s.host.Checked(Result{Changed: c == changed, Passed: passed, First: first})
}

func (s *Session) log(e event) {
	for _, l := range s.c.env.Logs {
		l.Write(s.message(e))
	}
}
