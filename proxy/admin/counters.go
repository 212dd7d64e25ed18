package admin

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// listenerStats are listener.admin.*.
type listenerStats struct {
	Total         stats.Counter   `stat:"downstream_cx_total"`
	Active        stats.Gauge     `stat:"downstream_cx_active"`
	Destroy       stats.Counter   `stat:"downstream_cx_destroy"`
	Length        stats.Histogram `stat:"downstream_cx_length_ms"`
	ThreadTotal   stats.Counter   `stat:"main_thread.downstream_cx_total"`
	ThreadActive  stats.Gauge     `stat:"main_thread.downstream_cx_active"`
	NoFilterChain stats.Counter   `stat:"no_filter_chain_match"`
	Overflow      stats.Counter   `stat:"downstream_cx_overflow"`
	Responses     stats.Classes   `stat:"http.admin.downstream_rq_"`
}

// httpStats are http.admin.*.
type httpStats struct {
	Connections      stats.Counter   `stat:"downstream_cx_total"`
	HTTP1Connections stats.Counter   `stat:"downstream_cx_http1_total"`
	Active           stats.Gauge     `stat:"downstream_cx_active"`
	HTTP1Active      stats.Gauge     `stat:"downstream_cx_http1_active"`
	Destroy          stats.Counter   `stat:"downstream_cx_destroy"`
	Length           stats.Histogram `stat:"downstream_cx_length_ms"`
	Requests         stats.Counter   `stat:"downstream_rq_total"`
	HTTP1Requests    stats.Counter   `stat:"downstream_rq_http1_total"`
	Time             stats.Histogram `stat:"downstream_rq_time"`
	Responses        stats.Classes   `stat:"downstream_rq_"`
}

// counters are the statistics of the admin interface itself.
type counters struct {
	listener *listenerStats
	http     *httpStats

	mu     sync.Mutex
	opened map[net.Conn]time.Time // guarded by mu
}

func newCounters(s *stats.Store) *counters {
	return &counters{
		listener: stats.New[listenerStats](s.Root().Sub("listener").Sub("admin")),
		http:     stats.New[httpStats](s.Root().Sub("http").Sub("admin")),
		opened:   map[net.Conn]time.Time{},
	}
}

// connection is told of the states that a connection comes to.
func (c *counters) connection(conn net.Conn, s http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s {
	case http.StateNew:
		c.opened[conn] = time.Now()
		c.active(1)
	case http.StateClosed, http.StateHijacked:
		length := uint64(time.Since(c.opened[conn]).Milliseconds())
		delete(c.opened, conn)
		c.active(-1)
		c.listener.Destroy.Inc()
		c.http.Destroy.Inc()
		c.listener.Length.Record(length)
		c.http.Length.Record(length)
	}
}

func (c *counters) active(n int64) {
	for _, g := range []*stats.Gauge{&c.listener.Active, &c.listener.ThreadActive, &c.http.Active, &c.http.HTTP1Active} {
		g.Add(n)
	}
	if n > 0 {
		for _, t := range []*stats.Counter{&c.listener.Total, &c.listener.ThreadTotal, &c.http.Connections, &c.http.HTTP1Connections} {
			t.Inc()
		}
	}
}

// request counts a response that is about to go out.
func (c *counters) request(status int, began time.Time) {
	c.http.Requests.Inc()
	c.http.HTTP1Requests.Inc()
	c.http.Time.Record(uint64(time.Since(began).Milliseconds()))
	c.http.Responses.Count(status)
	c.listener.Responses.Count(status)
}
