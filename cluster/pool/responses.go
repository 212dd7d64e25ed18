package pool

import "github.com/outrigger-proxy/outrigger/internal/stats"

// ZoneResponses count what came back from the hosts of one zone, cluster.<name>.zone.<our zone>.<their zone>.*: the router does.
type ZoneResponses struct {
	All  stats.Codes     `stat:"upstream_rq_"`
	Time stats.Histogram `stat:"upstream_rq_time,lazy"`
}

// Budgets are the histograms of track_cluster_stats.timeout_budgets: how much of its timeout a request, and each try, has used, in percent.
type Budgets struct {
	Global stats.Histogram `stat:"upstream_rq_timeout_budget_percent_used"`
	PerTry stats.Histogram `stat:"upstream_rq_timeout_budget_per_try_percent_used"`
}

// Responses count what came back from a cluster, cluster.<alt_stat_name or name>.*: the router does. upstream_rq_completed, which is
// shown from the start, is a part of Stats.
type Responses struct {
	All          stats.Codes     `stat:"upstream_rq_,classes"`
	Time         stats.Histogram `stat:"upstream_rq_time,lazy"`
	External     stats.Codes     `stat:"external.upstream_rq_"`
	ExternalTime stats.Histogram `stat:"external.upstream_rq_time,lazy"`
	Internal     stats.Codes     `stat:"internal.upstream_rq_"`
	InternalTime stats.Histogram `stat:"internal.upstream_rq_time,lazy"`
	Canary       stats.Codes     `stat:"canary.upstream_rq_"`
	CanaryTime   stats.Histogram `stat:"canary.upstream_rq_time,lazy"`
	Retried      stats.Codes     `stat:"retry.upstream_rq_"` // responses that were not good enough
}

// CodecStats are cluster.<name>.http1.*, shown from the first connection on. Nothing that they count happens to this codec: what a
// response may not hold makes a protocol error.
type CodecStats struct {
	DroppedUnderscores  stats.Counter `stat:"dropped_headers_with_underscores"`
	MetadataError       stats.Counter `stat:"metadata_not_supported_error"`
	RejectedUnderscores stats.Counter `stat:"requests_rejected_with_underscores_in_headers"`
	ResponseFlood       stats.Counter `stat:"response_flood"`
}
