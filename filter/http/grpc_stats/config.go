package grpcstats

import (
	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
)

type config struct {
	emit   bool // the counts go into the filter state
	times  bool // how long the upstream takes is recorded
	noDots bool // the dots in names of services become underscores
	all    bool // all methods are counted by their name
	listed map[name]bool
}

// name is that of a method.
type name struct{ service, method string }

func parse(p *grpcstatsv3.FilterConfig) config {
	c := config{
		emit: p.GetEmitFilterState(), times: p.GetEnableUpstreamStats(), all: p.GetStatsForAllMethods().GetValue(), listed: map[name]bool{},
	}
	c.noDots = p.GetReplaceDotsInGrpcServiceName() && c.all
	for _, s := range p.GetIndividualMethodStatsAllowlist().GetServices() {
		for _, m := range s.GetMethodNames() {
			c.listed[name{s.GetName(), m}] = true
		}
	}
	return c
}
