package proxy

import (
	goruntime "runtime"
	"strconv"
	"sync"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// serverStats are the statistics server.*; those that are measured are brought up to date by update.
type serverStats struct {
	Concurrency        stats.Gauge     `stat:"concurrency"`
	DaysUntilExpiry    stats.Gauge     `stat:"days_until_first_cert_expiring"`
	OCSPExpiry         stats.Gauge     `stat:"seconds_until_first_ocsp_response_expiring"`
	DebugAssertions    stats.Counter   `stat:"debug_assertion_failures"`
	Bugs               stats.Counter   `stat:"envoy_bug_failures"`
	Notifications      stats.Counter   `stat:"envoy_notifications"`
	StaticUnknown      stats.Counter   `stat:"static_unknown_fields"`
	DynamicUnknown     stats.Counter   `stat:"dynamic_unknown_fields"`
	WIPProtos          stats.Counter   `stat:"wip_protos"`
	DroppedFlushes     stats.Counter   `stat:"dropped_stat_flushes"`
	HotRestartEpoch    stats.Gauge     `stat:"hot_restart_epoch"`
	FIPS               stats.Gauge     `stat:"compilation_settings.fips_mode"`
	Live               stats.Gauge     `stat:"live"`
	MemoryAllocated    stats.Gauge     `stat:"memory_allocated"`
	MemoryHeap         stats.Gauge     `stat:"memory_heap_size"`
	MemoryPhysical     stats.Gauge     `stat:"memory_physical_size"`
	ParentConnections  stats.Gauge     `stat:"parent_connections"`
	TotalConnections   stats.Gauge     `stat:"total_connections"`
	State              stats.Gauge     `stat:"state"`
	RecentLookups      stats.Gauge     `stat:"stats_recent_lookups"`
	Uptime             stats.Gauge     `stat:"uptime"`
	Version            stats.Gauge     `stat:"version"`
	InitializationTime stats.Histogram `stat:"initialization_time_ms"`
}

// noCertificate is what days_until_first_cert_expiring shows while there is no certificate.
const noCertificate = 1<<32 - 1

// threadStats are thread_local_cluster_manager.<thread>.*: each thread has all clusters.
type threadStats struct {
	Inflated stats.Gauge `stat:"clusters_inflated"`
}

// overloadStats are what there is of the overload manager while no resource is watched.
type overloadStats struct {
	Delay  stats.Histogram `stat:"overload.refresh_interval_delay"`
	Resets stats.Counter   `stat:"envoy.overload_actions.reset_high_memory_stream.count"`
}

// asyncStats are those of the client for calls of the proxy's own, in Envoy's name for it.
type asyncStats struct {
	NoCluster            stats.Counter `stat:"no_cluster"`
	NoRoute              stats.Counter `stat:"no_route"`
	RedirectBadLocation  stats.Counter `stat:"passthrough_internal_redirect_bad_location"`
	RedirectNoRoute      stats.Counter `stat:"passthrough_internal_redirect_no_route"`
	RedirectPredicate    stats.Counter `stat:"passthrough_internal_redirect_predicate"`
	RedirectTooMany      stats.Counter `stat:"passthrough_internal_redirect_too_many_redirects"`
	RedirectUnsafeScheme stats.Counter `stat:"passthrough_internal_redirect_unsafe_scheme"`
	RqDirectResponse     stats.Counter `stat:"rq_direct_response"`
	RqOverloadLocalReply stats.Counter `stat:"rq_overload_local_reply"`
	RqRedirect           stats.Counter `stat:"rq_redirect"`
	RqResetAfterStarted  stats.Counter `stat:"rq_reset_after_downstream_response_started"`
	RqTotal              stats.Counter `stat:"rq_total"`
}

// server keeps serverStats.
type server struct {
	*serverStats

	threads []*threadStats

	mu sync.Mutex // held while they are measured
}

func newServer(p *Proxy) *server {
	s := &server{serverStats: stats.New[serverStats](p.Stats.Root().Sub("server"))}
	s.Concurrency.Set(int64(max(1, p.options.Flags.GetConcurrency())))
	s.DaysUntilExpiry.Set(noCertificate)
	root := p.Stats.Root()
	stats.New[overloadStats](root)
	stats.New[asyncStats](root.Sub("http").Sub("async-client"))
	threads := []string{"main_thread"}
	for id := range s.Concurrency.Value() {
		threads = append(threads, "worker_"+strconv.FormatInt(id, 10))
	}
	for _, t := range threads {
		s.threads = append(s.threads, stats.New[threadStats](root.Sub("thread_local_cluster_manager").Sub(t)))
	}
	s.HotRestartEpoch.Set(int64(p.options.Flags.GetRestartEpoch()))
	s.Version.Set(p.config.version)
	return s
}

// expiry looks when the first certificate expires, on the control loop.
func (s *server) expiry(p *Proxy) {
	days, ok := p.Secrets.FirstExpiry(time.Now())
	if !ok {
		days = noCertificate
	}
	s.DaysUntilExpiry.Set(int64(days))
}

// update measures what is not counted as it happens.
func (s *server) update(p *Proxy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	s.MemoryAllocated.Set(int64(m.HeapAlloc))
	s.MemoryHeap.Set(int64(m.HeapSys - m.HeapReleased))
	s.MemoryPhysical.Set(int64(m.Sys - m.HeapReleased))
	s.Uptime.Set(int64(time.Since(p.options.Started).Seconds()))
	state := (*lifecycle)(p).State()
	s.State.Set(int64(state))
	s.Live.Set(0)
	if state == 0 {
		s.Live.Set(1)
	}
	if p.Clusters != nil {
		for _, t := range s.threads {
			t.Inflated.Set(p.Clusters.Count())
		}
	}
	if p.Listeners != nil {
		s.TotalConnections.Set(p.Listeners.Connections())
	}
}
