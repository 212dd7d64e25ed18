// Package failover has one of three hosts fail under load, in the ways in which hosts fail: it is killed, it hangs, it breaks off its
// answers, it is late to start, it vanishes from the network. What clients notice of it is bounded. With ENVOY_BIN set the same is done to
// that binary, and the table that is logged compares.
package failover

import (
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if at := os.Getenv("FAILOVER_HOST"); at != "" {
		serve(at)
		return
	}
	os.Exit(m.Run())
}

// TestKilled kills a host (SIGKILL) under 400 requests a second.
func TestKilled(t *testing.T) {
	each(t, func(t *testing.T, s *stage) {
		r := s.load(t, "/retry", 400, func() { s.hosts[1].kill() })
		r.log(t, "killed, with retries")
		if s.ours && len(r.failed) > 0 {
			t.Errorf("%d of %d requests failed: %v", len(r.failed), r.total, r.failed)
		}
		s.restart(t, 1)
		r = s.load(t, "/plain", 400, func() { s.hosts[1].kill() })
		r.log(t, "killed, without retries")
		if s.ours && (len(r.failed) > 20 || r.last() > time.Second) {
			t.Errorf("%d requests failed, the last %v after the host", len(r.failed), r.last())
		}
	})
}

// TestHangs stops a host (SIGSTOP): it takes connections and bytes, and says nothing.
func TestHangs(t *testing.T) {
	each(t, func(t *testing.T, s *stage) {
		r := s.load(t, "/retry", 200, func() { s.hosts[1].stop() })
		r.log(t, "hangs, with retries")
		if s.ours && len(r.failed) > 0 {
			t.Errorf("%d of %d requests failed: %v", len(r.failed), r.total, r.failed)
		}
		s.restart(t, 1)
		r = s.load(t, "/plain", 200, func() { s.hosts[1].stop() })
		r.log(t, "hangs, without retries")
		if s.ours && (len(r.failed) > 60 || r.last() > time.Second) { // for as long as the timeout of the route, and a moment
			t.Errorf("%d requests failed, the last %v after the host", len(r.failed), r.last())
		}
	})
}

// TestBreaksOff has a host reset its connections in the middle of its answers: no retry helps, and no row of failures shows it, but its
// success rate does.
func TestBreaksOff(t *testing.T) {
	each(t, func(t *testing.T, s *stage) {
		r := s.load(t, "/rate", 200, func() { s.hosts[1].breakOff() })
		r.log(t, "breaks off")
		if s.ours && r.last() > 1500*time.Millisecond { // an interval is a second
			t.Errorf("%d requests failed, the last %v after the host", len(r.failed), r.last())
		}
	})
}

// TestStartsSlowly has a host that is killed come back a second later: nobody notices.
func TestStartsSlowly(t *testing.T) {
	each(t, func(t *testing.T, s *stage) {
		r := s.load(t, "/retry", 200, func() {
			s.hosts[1].kill()
			time.AfterFunc(time.Second, func() { s.hosts[1].start(t) })
		})
		r.log(t, "comes back")
		if s.ours && len(r.failed) > 0 {
			t.Errorf("%d of %d requests failed: %v", len(r.failed), r.total, r.failed)
		}
	})
}

// TestVanishes drops all that goes to a host: it refuses nothing, and answers nothing. The routes have no timeout, there are no health
// checks, and 50 connections to it are in the pool.
func TestVanishes(t *testing.T) {
	inNetwork(t, func() {
		each(t, func(t *testing.T, s *stage) {
			s.warm(t, "/vanish", 150)
			r := s.load(t, "/vanish", 1000, func() { drop(t, s.hosts[1]) })
			defer heal(t, s.hosts[1])
			r.log(t, "vanishes")
			// 0.2 percent of the requests of a minute, for no longer than a second
			if s.ours && (len(r.failed) > 120 || r.begun() > time.Second || r.ended() > 2*time.Second) {
				t.Errorf("%d requests failed; the last was made %v after the host was gone, and failed after %v", len(r.failed), r.begun(), r.ended())
			}
		})
	})
}
