package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3" // read, and then without effect
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/regex_engines/v3" // the engine that there is
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// config is what a bootstrap says about the process as a whole; resources are not part of it.
type config struct {
	node     *corev3.Node
	locality cluster.Locality
	flush    time.Duration // stats_flush_interval; 0: on admin requests only
	tags     *stats.Tags
	keep     func(name string) bool // stats_matcher; nil keeps all
	buckets  func(name string) []float64
	version  int64
	// maxConnections is how many downstream connections there may be (overload_manager); 0: no limit.
	maxConnections int64
	// mainPatience and workerPatience are the limits of the watchdogs of the control loop and of the workers.
	mainPatience, workerPatience patience
	dns                          *corev3.TypedExtensionConfig // for clusters without one of their own; nil: the default
}

// parse translates the bootstrap, or refuses what this build cannot honour.
func parse(b *bootstrapv3.Bootstrap, flags *adminv3.CommandLineOptions, e *filter.Extensions) (*config, error) {
	if err := refuse(b); err != nil {
		return nil, err
	}
	c := &config{node: parseNode(b.GetNode(), flags, e), flush: 5 * time.Second, version: buildNumber()}
	l := c.node.GetLocality()
	c.locality = cluster.Locality{Region: l.GetRegion(), Zone: l.GetZone(), Subzone: l.GetSubZone()}
	if b.GetStatsFlushInterval() != nil && b.GetStatsFlushOnAdmin() {
		return nil, errors.New("stats_flush_on_admin: only one of stats_flush_interval or stats_flush_on_admin should be set")
	}
	if b.GetWatchdog() != nil && b.GetWatchdogs() != nil {
		return nil, errors.New("watchdogs: only one of watchdog or watchdogs should be set")
	}
	if d := b.GetStatsFlushInterval(); d != nil {
		c.flush = d.AsDuration()
	}
	if e := b.GetStatsEvictionInterval(); e != nil && e.AsDuration()%c.flush != 0 {
		return nil, errors.New("stats_eviction_interval: must be a multiple of stats_flush_interval")
	}
	if b.GetStatsFlushOnAdmin() {
		c.flush = 0
	}
	if v := b.GetStatsServerVersionOverride(); v != nil {
		c.version = int64(v.GetValue())
	}
	c.mainPatience, c.workerPatience = parsePatience(b)
	if err := c.parseOverload(b.GetOverloadManager()); err != nil {
		return nil, fmt.Errorf("overload_manager.%w", err)
	}
	var err error
	if c.dns, err = parseDNS(b); err != nil {
		return nil, err
	}
	if err := c.parseStats(b.GetStatsConfig(), flags.GetStatsTag()); err != nil {
		return nil, fmt.Errorf("stats_config: %w", err)
	}
	return c, nil
}

// refuse names the first part of the bootstrap that would have to be ignored.
func refuse(b *bootstrapv3.Bootstrap) error {
	extension := func(path string, e *corev3.TypedExtensionConfig) error {
		return fmt.Errorf("%s: didn't find a registered implementation for '%s' with type URL '%s'", path, e.GetName(),
			e.GetTypedConfig().GetTypeUrl())
	}
	for i, s := range b.GetStatsSinks() {
		return fmt.Errorf("stats_sinks[%d]: didn't find a registered implementation for name: '%s'", i, s.GetName())
	}
	for i, e := range b.GetBootstrapExtensions() {
		m, _, err := protofile.Unpack(e.GetTypedConfig())
		if err != nil || m.ProtoReflect().Descriptor().FullName() != internalListener {
			return extension(fmt.Sprintf("bootstrap_extensions[%d]", i), e)
		}
	}
	if e := b.GetDefaultRegexEngine(); e != nil && e.GetTypedConfig().MessageName() != "envoy.extensions.regex_engines.v3.GoogleRE2" {
		return extension("default_regex_engine", e)
	}
	for _, r := range []struct {
		path string
		set  bool
	}{
		{"hds_config", b.GetHdsConfig() != nil},
		{"tracing", b.GetTracing().GetHttp() != nil},
		{"cluster_manager.load_stats_config", b.GetClusterManager().GetLoadStatsConfig() != nil},
		{"cluster_manager.outlier_detection.event_service", b.GetClusterManager().GetOutlierDetection().GetEventService() != nil},
		{"header_prefix", b.GetHeaderPrefix() != "" && b.GetHeaderPrefix() != "x-envoy"},
		{"fatal_actions", len(b.GetFatalActions()) > 0},
		{"watchdogs.main_thread_watchdog.actions", len(b.GetWatchdogs().GetMainThreadWatchdog().GetActions()) > 0},
		{"watchdogs.worker_watchdog.actions", len(b.GetWatchdogs().GetWorkerWatchdog().GetActions()) > 0},
		{"config_sources", len(b.GetConfigSources()) > 0},
		{"default_config_source", b.GetDefaultConfigSource() != nil},
		{"default_socket_interface", b.GetDefaultSocketInterface() != "" && b.GetDefaultSocketInterface() != socketInterface},
		{"certificate_provider_instances", len(b.GetCertificateProviderInstances()) > 0},
		{"xds_delegate_extension", b.GetXdsDelegateExtension() != nil},
		{"xds_config_tracker_extension", b.GetXdsConfigTrackerExtension() != nil},
		{"listener_manager", b.GetListenerManager() != nil},
		{"node_context_params", len(b.GetNodeContextParams()) > 0},
	} {
		if r.set {
			return fmt.Errorf("%s: not supported by this build", r.path)
		}
	}
	return nil
}

// socketInterface is the one that there is.
const socketInterface = "envoy.extensions.network.socket_interface.default_socket_interface"

// internalListener is accepted without effect: it only allows internal listeners, which are refused where one is configured.
const internalListener = "envoy.extensions.bootstrap.internal_listener.v3.InternalListener"

// parseDNS joins the ways to describe the resolver, of which the newest wins.
func parseDNS(b *bootstrapv3.Bootstrap) (*corev3.TypedExtensionConfig, error) {
	old := b.GetDnsResolutionConfig()
	tcp := b.GetUseTcpForDnsLookups()
	if b.GetTypedDnsResolverConfig() != nil || old == nil && !tcp {
		return b.GetTypedDnsResolverConfig(), nil
	}
	r := &caresv3.CaresDnsResolverConfig{Resolvers: old.GetResolvers(), DnsResolverOptions: old.GetDnsResolverOptions()}
	if old == nil {
		r.DnsResolverOptions = &corev3.DnsResolverOptions{UseTcpForDnsLookups: tcp}
	}
	a, err := anypb.New(r)
	return &corev3.TypedExtensionConfig{Name: "envoy.network.dns_resolver.cares", TypedConfig: a}, err
}

func (c *config) filterNode() filter.Node {
	return filter.Node{
		ID: c.node.GetId(), Cluster: c.node.GetCluster(), Region: c.locality.Region, Zone: c.locality.Zone,
		Subzone: c.locality.Subzone, Metadata: stream.Metadata{},
	}
}

func (c *config) parseStats(p *metricsv3.StatsConfig, cli []string) (err error) {
	if c.tags, err = parseTags(p, cli); err != nil {
		return err
	}
	if c.keep, err = parseMatcher(p.GetStatsMatcher()); err != nil {
		return fmt.Errorf("stats_matcher: %w", err)
	}
	c.buckets, err = parseBuckets(p.GetHistogramBucketSettings())
	return err
}

func parseTags(p *metricsv3.StatsConfig, cli []string) (*stats.Tags, error) {
	tags := stats.NewTags(p.GetUseAllDefaultTags() == nil || p.GetUseAllDefaultTags().GetValue())
	given := map[string]bool{}
	for _, t := range cli {
		name, value, err := splitTag(t)
		if err != nil {
			return nil, err
		}
		tags.Fix(name, value)
		given[name] = true
	}
	for i, t := range p.GetStatsTags() {
		if given[t.GetTagName()] {
			return nil, fmt.Errorf("stats_tags[%d]: tag name '%s' is given by --stats-tag, too", i, t.GetTagName())
		}
		if v, ok := t.GetTagValue().(*metricsv3.TagSpecifier_FixedValue); ok {
			tags.Fix(t.GetTagName(), v.FixedValue)
			continue
		}
		if err := tags.Extract(t.GetTagName(), t.GetRegex()); err != nil {
			return nil, fmt.Errorf("stats_tags[%d]: %w", i, err)
		}
	}
	return tags, nil
}

// splitTag reads `name:value`, the form of --stats-tag.
func splitTag(s string) (name, value string, err error) {
	name, value, ok := strings.Cut(s, ":")
	if !ok || name == "" || value == "" {
		return "", "", fmt.Errorf("--stats-tag %q: want name:value", s)
	}
	return name, value, nil
}

func parseMatcher(p *metricsv3.StatsMatcher) (func(string) bool, error) {
	switch m := p.GetStatsMatcher().(type) {
	case *metricsv3.StatsMatcher_RejectAll:
		return func(string) bool { return !m.RejectAll }, nil
	case *metricsv3.StatsMatcher_ExclusionList:
		excluded, err := anyOf("exclusion_list", m.ExclusionList)
		return func(name string) bool { return !excluded(name) }, err
	case *metricsv3.StatsMatcher_InclusionList:
		return anyOf("inclusion_list", m.InclusionList)
	}
	return nil, nil // no matcher keeps everything
}

func anyOf(path string, l *matcherv3.ListStringMatcher) (func(string) bool, error) {
	all, err := match.CompileStrings(l.GetPatterns())
	if err != nil {
		return nil, fmt.Errorf("%s.patterns: %w", path, err)
	}
	return func(s string) bool { return match.Any(all, s) }, nil
}

func parseBuckets(settings []*metricsv3.HistogramBucketSettings) (func(string) []float64, error) {
	type rule struct {
		match  match.String
		bounds []float64
	}
	var rules []rule
	for i, s := range settings {
		m, err := match.CompileString(s.GetMatch())
		if err != nil {
			return nil, fmt.Errorf("histogram_bucket_settings[%d]: match: %w", i, err)
		}
		bounds := slices.Sorted(slices.Values(s.GetBuckets()))
		if len(bounds) == 0 {
			bounds = stats.Buckets()
		}
		rules = append(rules, rule{m, bounds})
	}
	standard := stats.Buckets()
	return func(name string) []float64 {
		for i := range rules {
			if rules[i].match.Match(name) {
				return rules[i].bounds
			}
		}
		return standard
	}, nil
}
