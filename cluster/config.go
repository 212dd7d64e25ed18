package cluster

import (
	"fmt"
	"math"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	genericv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/generic/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	"github.com/outrigger-proxy/outrigger/cluster/health"
	"github.com/outrigger-proxy/outrigger/cluster/outlier"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// kind is how a cluster finds its hosts.
type kind uint8

const (
	static kind = iota
	strictDNS
	logicalDNS
	originalDst
	eds
	aggregate
	forward
)

// config is a cluster's configuration, parsed.
type config struct {
	name, altName   string
	kind            kind
	metadata        stream.Metadata
	connectTimeout  time.Duration
	assignment      *discovery.Assignment
	http            httpOptions
	tcpIdle         time.Duration
	dns             dnsOptions
	original        originalOptions
	eds             edsOptions
	members         []string // of an aggregate, in their order
	forward         forwardOptions
	limits          [pool.Priorities]pool.Maxima
	hostConnections [pool.Priorities]int64
	lb              lbOptions
	bind            bindOptions
	keepalive       *corev3.TcpKeepalive
	first           firstFamily
	preconnect      float64
	perDownstream   bool
	waitForWarm     bool
	closeOnHostSet  bool
	budgets         bool
	sizes           bool
	errors          outlier.Errors // what counts as an error of a host; nil: statuses 5xx
	outlier         *outlier.Config
	checks          []*health.Config
	warmHosts       bool // ignore_new_hosts_until_first_hc
	closeOnFailure  bool
	// ignoreHealthOnRemoval removes hosts that discovery no longer knows even if they pass their checks
	ignoreHealthOnRemoval bool
}

// refused is the error about a field that is not honoured.
func refused(path, why string) error { return fmt.Errorf("%s: %s", path, why) }

// parse reads c. It does no I/O.
func parse(c *clusterv3.Cluster) (*config, error) {
	o := &config{
		name: c.GetName(), altName: c.GetAltStatName(), metadata: discovery.Metadata(c.GetMetadata()),
		connectTimeout: duration(c.GetConnectTimeout(), 5*time.Second), waitForWarm: true,
		perDownstream: c.GetConnectionPoolPerDownstreamConnection(),
	}
	if o.altName == "" {
		o.altName = o.name
	}
	if o.connectTimeout <= 0 {
		return nil, refused("connect_timeout", "must be more than 0")
	}
	if w := c.GetWaitForWarmOnInit(); w != nil {
		o.waitForWarm = w.GetValue()
	}
	o.budgets = c.GetTrackTimeoutBudgets() || c.GetTrackClusterStats().GetTimeoutBudgets()
	o.sizes = c.GetTrackClusterStats().GetRequestResponseSizes()
	for _, step := range []func(*clusterv3.Cluster) error{refuse, o.parseType, o.parseHTTP, o.parseLimits, o.parseLB, o.parseConnections, o.parseHealth} {
		if err := step(c); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// refuse names what is not supported.
func refuse(c *clusterv3.Cluster) error {
	later := "is not supported yet"
	for _, r := range []struct {
		set  bool
		path string
		why  string
	}{
		{c.GetTransportSocketMatcher() != nil, "transport_socket_matcher", later},
		{c.GetStatsMatcher() != nil, "stats_matcher", later},
		{c.GetPerConnectionBufferHighWatermarkTimeout().AsDuration() > 0, "per_connection_buffer_high_watermark_timeout", later},
		{c.GetLrsServer() != nil, "lrs_server", "load reporting " + later},
		{len(c.GetLrsReportEndpointMetrics()) > 0, "lrs_report_endpoint_metrics", "load reporting " + later},
		{c.GetTrackClusterStats().GetPerEndpointStats(), "track_cluster_stats.per_endpoint_stats", later},
		{c.GetQueuingPolicies() != nil, "queuing_policies", later},
		{c.GetPreconnectPolicy().GetPredictivePreconnectRatio().GetValue() > 1, "preconnect_policy.predictive_preconnect_ratio", later},
		{c.GetPreconnectPolicy().GetPreconnectEnabledMetadata() != nil, "preconnect_policy.preconnect_enabled_metadata", later},
	} {
		if r.set {
			return refused(r.path, r.why)
		}
	}
	if f := c.GetFilters(); len(f) > 0 {
		return refused("filters[0]", fmt.Sprintf("Didn't find a registered implementation for name: '%s'", f[0].GetName()))
	}
	return upstreamConfig(c.GetUpstreamConfig())
}

// upstreamConfig accepts the one that is the default anyway.
func upstreamConfig(c *corev3.TypedExtensionConfig) error {
	if c == nil || c.GetTypedConfig().MessageIs(&genericv3.GenericConnectionPoolProto{}) {
		return nil
	}
	return refused("upstream_config", fmt.Sprintf("didn't find a registered implementation for '%s' with type URL: '%s'", c.GetName(), c.GetTypedConfig().GetTypeUrl()))
}

// builtinTypes are the extensions that need no configuration of their own.
var builtinTypes = map[string]kind{
	"envoy.cluster.static": static, "envoy.cluster.strict_dns": strictDNS, "envoy.cluster.logical_dns": logicalDNS, "envoy.cluster.original_dst": originalDst,
}

func (o *config) parseType(c *clusterv3.Cluster) (err error) {
	names := false
	switch c.GetType() {
	case clusterv3.Cluster_STATIC:
	case clusterv3.Cluster_STRICT_DNS:
		o.kind, names = strictDNS, true
	case clusterv3.Cluster_LOGICAL_DNS:
		o.kind, names = logicalDNS, true
	case clusterv3.Cluster_ORIGINAL_DST:
		o.kind = originalDst
	case clusterv3.Cluster_EDS:
		o.kind = eds
		return o.parseEDS(c)
	}
	t := c.GetClusterType()
	if kind, ok := builtinTypes[t.GetName()]; ok && t.GetTypedConfig() == nil {
		o.kind, names, t = kind, kind == strictDNS || kind == logicalDNS, nil
	}
	if t != nil {
		if err := o.parseClusterType(t); err != nil {
			return fmt.Errorf("cluster_type: %w", err)
		}
		names = o.kind == strictDNS || o.kind == logicalDNS
		if o.kind == aggregate || o.kind == forward { // Envoy does not look at its load_assignment
			o.assignment = &discovery.Assignment{}
			return nil
		}
	} else if names { // other types do not look at the fields of the DNS
		if err := o.parseDNS(c); err != nil {
			return err
		}
	}
	if c.GetEdsClusterConfig() != nil {
		return refused("eds_cluster_config", "cannot set eds_cluster_config in a non-EDS cluster")
	}
	if o.assignment, err = discovery.Parse(c.GetLoadAssignment(), names); err != nil {
		return fmt.Errorf("load_assignment.%w", err)
	}
	return o.checkType(c)
}

func (o *config) checkType(c *clusterv3.Cluster) error {
	switch o.kind {
	case static:
		return namesEndpoints(c.GetLoadAssignment())
	case logicalDNS:
		g := o.assignment.Groups
		if len(g) != 1 || len(g[0].Endpoints) != 1 {
			return refused("load_assignment.endpoints", "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint")
		}
	case originalDst:
		if c.GetLoadAssignment() != nil {
			return refused("load_assignment", "ORIGINAL_DST clusters must have no load assignment configured")
		}
		return o.parseOriginal(c)
	}
	return nil
}

// namesEndpoints refuses endpoints that are only named: Envoy looks at named_endpoints in EDS alone.
func namesEndpoints(a *endpointv3.ClusterLoadAssignment) error {
	for i, l := range a.GetEndpoints() {
		for j, e := range l.GetLbEndpoints() {
			if e.GetEndpointName() != "" {
				return refused(fmt.Sprintf("load_assignment.endpoints[%d].lb_endpoints[%d].endpoint_name", i, j), "is for EDS clusters")
			}
		}
	}
	return nil
}

func (o *config) parseLimits(c *clusterv3.Cluster) error {
	for p := range o.limits {
		o.limits[p] = pool.Maxima{Connections: 1024, Pending: 1024, Requests: 1024, Retries: 3, Pools: math.MaxInt64}
	}
	var seen [pool.Priorities]bool
	for _, t := range c.GetCircuitBreakers().GetThresholds() {
		p := pool.Priority(t.GetPriority())
		if seen[p] { // Envoy takes the first of them
			continue
		}
		seen[p] = true
		thresholds(&o.limits[p], t)
	}
	for p := range o.hostConnections {
		o.hostConnections[p] = math.MaxInt64
	}
	for i, t := range c.GetCircuitBreakers().GetPerHostThresholds() {
		if t.GetMaxPendingRequests() != nil || t.GetMaxRequests() != nil || t.GetMaxRetries() != nil || t.GetMaxConnectionPools() != nil || t.GetRetryBudget() != nil || t.GetTrackRemaining() {
			return refused(fmt.Sprintf("circuit_breakers.per_host_thresholds[%d]", i), "only max_connections may be set")
		}
		if m := t.GetMaxConnections(); m != nil && o.hostConnections[t.GetPriority()] == math.MaxInt64 {
			o.hostConnections[t.GetPriority()] = int64(m.GetValue())
		}
	}
	return nil
}

func thresholds(m *pool.Maxima, t *clusterv3.CircuitBreakers_Thresholds) {
	for _, f := range []struct {
		to   *int64
		from interface{ GetValue() uint32 }
		set  bool
	}{
		{&m.Connections, t.GetMaxConnections(), t.GetMaxConnections() != nil},
		{&m.Pending, t.GetMaxPendingRequests(), t.GetMaxPendingRequests() != nil},
		{&m.Requests, t.GetMaxRequests(), t.GetMaxRequests() != nil},
		{&m.Retries, t.GetMaxRetries(), t.GetMaxRetries() != nil},
		{&m.Pools, t.GetMaxConnectionPools(), t.GetMaxConnectionPools() != nil},
	} {
		if f.set {
			*f.to = int64(f.from.GetValue())
		}
	}
	m.Track = t.GetTrackRemaining()
	if b := t.GetRetryBudget(); b != nil {
		m.Budgeted, m.Budget, m.Floor, m.Interval = true, 20, 3, b.GetBudgetInterval().AsDuration()
		if b.GetBudgetPercent() != nil {
			m.Budget = b.GetBudgetPercent().GetValue()
		}
		if b.GetMinRetryConcurrency() != nil {
			m.Floor = int64(b.GetMinRetryConcurrency().GetValue())
		}
	}
}

func duration(d *durationpb.Duration, absent time.Duration) time.Duration {
	if d == nil {
		return absent
	}
	return d.AsDuration()
}
