package filter

import "github.com/outrigger-proxy/outrigger/internal/stats"

// RouteStats are what the router counts for a virtual cluster (vhost.<host>.vcluster.<name>.) or for a route with a stat_prefix
// (vhost.<host>.route.<prefix>.). They stand as VirtualCluster.Stats and Route.Stats in the route table.
type RouteStats struct {
	Codes         stats.Codes     `stat:"upstream_rq_"`
	Time          stats.Histogram `stat:"upstream_rq_time,lazy"`
	Total         stats.Counter   `stat:"upstream_rq_total"`
	Timeout       stats.Counter   `stat:"upstream_rq_timeout"`
	Retry         stats.Counter   `stat:"upstream_rq_retry"`
	RetryLimit    stats.Counter   `stat:"upstream_rq_retry_limit_exceeded"`
	RetryOverflow stats.Counter   `stat:"upstream_rq_retry_overflow"`
	RetrySuccess  stats.Counter   `stat:"upstream_rq_retry_success"`
}
