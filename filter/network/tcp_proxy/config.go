package tcpproxy

import (
	"errors"
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/outrigger-proxy/outrigger/internal/format"
	"github.com/outrigger-proxy/outrigger/lb"
)

const defaultIdle = time.Hour

// config is a parsed TcpProxy but for its access loggers.
type config struct {
	prefix   string
	targets  []target // one, or weighted ones
	weights  uint64   // sum of the targets'
	idle     time.Duration
	attempts uint32
	base     time.Duration // backoff; 0: none
	ceiling  time.Duration
	longest  time.Duration // max_downstream_connection_duration; 0: none
	jitter   float64       // share of longest, 0..1
	sourceIP bool          // hash_policy
	stateKey string        // hash_policy: of the filter state object to hash
	onData   bool          // upstream_connect_mode ON_DOWNSTREAM_DATA
	early    bool          // max_early_data_bytes is set: early data counts
	draining bool          // check_drain_close
	tlvs     []tlv
	merge    tcpv3.ProxyProtocolTlvMergePolicy

	logOnStart, logOnConnected bool
	logEvery                   time.Duration
}

// target is a cluster with its share of connections.
type target struct {
	cluster   string
	weight    uint64
	match     []lb.Criterion
	fallbacks [][]lb.Criterion
}

// tlv goes into the upstream PROXY protocol header.
type tlv struct {
	kind   byte
	value  []byte
	format *format.Template // instead of value
}

func parse(p *tcpv3.TcpProxy) (*config, error) {
	if err := refuse(p); err != nil {
		return nil, err
	}
	c := &config{
		prefix: p.GetStatPrefix(), idle: defaultIdle, attempts: 1, early: p.GetMaxEarlyDataBytes() != nil,
		longest: p.GetMaxDownstreamConnectionDuration().AsDuration(), draining: p.GetCheckDrainClose().GetValue(),
		jitter: p.GetMaxDownstreamConnectionDurationJitterPercentage().GetValue() / 100,
		onData: p.GetUpstreamConnectMode() == tcpv3.UpstreamConnectMode_ON_DOWNSTREAM_DATA, merge: p.GetProxyProtocolTlvMergePolicy(),
	}
	if v := p.GetIdleTimeout(); v != nil {
		c.idle = v.AsDuration()
	}
	if v := p.GetMaxConnectAttempts(); v != nil {
		c.attempts = v.GetValue()
	}
	if b := p.GetBackoffOptions(); b != nil {
		c.base, c.ceiling = b.GetBaseInterval().AsDuration(), 10*b.GetBaseInterval().AsDuration()
		if m := b.GetMaxInterval(); m != nil {
			c.ceiling = m.AsDuration()
		}
		if c.ceiling < c.base {
			return nil, errors.New("backoff_options.max_interval: max_interval must be greater than or equal to base_interval")
		}
	}
	if err := c.parseTargets(p); err != nil {
		return nil, err
	}
	if err := c.parseHash(p.GetHashPolicy()); err != nil {
		return nil, err
	}
	c.parseLogOptions(p)
	return c, c.parseTLVs(p.GetProxyProtocolTlvs())
}

// refuse names what is asked for and not there.
func refuse(p *tcpv3.TcpProxy) error {
	for _, r := range []struct {
		asked         bool
		field, reason string
	}{
		{p.GetTunnelingConfig() != nil, "tunneling_config", "tunnels over HTTP are not supported"},
		{
			p.GetAccessLogOptions() != nil && p.GetAccessLogFlushInterval() != nil, "access_log_options",
			"only one of access_log_flush_interval or access_log_options can be specified",
		},
		{
			p.GetAccessLogOptions() != nil && p.GetFlushAccessLogOnConnected(), "access_log_options",
			"only one of flush_access_log_on_connected or access_log_options can be specified",
		},
		{p.GetOnDemand().GetOdcdsConfig() != nil, "on_demand.odcds_config", "on-demand discovery of clusters is not supported"},
		{
			p.GetUpstreamConnectMode() != tcpv3.UpstreamConnectMode_IMMEDIATE && p.GetMaxEarlyDataBytes() == nil, "max_early_data_bytes",
			"is required when upstream_connect_mode is not IMMEDIATE",
		},
	} {
		if r.asked {
			return fmt.Errorf("%s: %s", r.field, r.reason)
		}
	}
	return nil
}

func (c *config) parseTargets(p *tcpv3.TcpProxy) error {
	common := criteria(p.GetMetadataMatch())
	if w := p.GetWeightedClusters(); w != nil {
		for _, t := range w.GetClusters() {
			c.targets = append(c.targets, newTarget(t.GetName(), t.GetWeight(), lb.Merge(common, criteria(t.GetMetadataMatch()))))
			c.weights += uint64(t.GetWeight())
		}
		return nil
	}
	if _, one := p.GetClusterSpecifier().(*tcpv3.TcpProxy_Cluster); !one { // an empty name waits for filter state to say another
		return errors.New("cluster_specifier: cluster or weighted_clusters is required")
	}
	c.targets, c.weights = []target{newTarget(p.GetCluster(), 1, common)}, 1
	return nil
}

func newTarget(cluster string, weight uint32, match []lb.Criterion) target {
	return target{cluster, uint64(weight), match, lb.Fallbacks(match)}
}

// criteria are the keys of namespace envoy.lb.
func criteria(m *corev3.Metadata) []lb.Criterion {
	if f := m.GetFilterMetadata()["envoy.lb"]; len(f.GetFields()) > 0 {
		return lb.Criteria(f.AsMap())
	}
	return nil
}

// pick chooses a target by weight; draw is random.
func (c *config) pick(draw uint64) *target {
	draw %= c.weights
	for i := range c.targets {
		t := &c.targets[i]
		if draw < t.weight {
			return t
		}
		draw -= t.weight
	}
	return &c.targets[0]
}

func (c *config) parseHash(policies []*typev3.HashPolicy) error {
	for _, p := range policies { // the rules of the message allow one
		switch s := p.GetPolicySpecifier().(type) {
		case *typev3.HashPolicy_SourceIp_:
			c.sourceIP = true
		case *typev3.HashPolicy_FilterState_:
			c.stateKey = s.FilterState.GetKey()
		default:
			return fmt.Errorf("hash_policy[0]: %T is not supported", s)
		}
	}
	return nil
}

// parseLogOptions reads the options in their new place or in the old ones.
func (c *config) parseLogOptions(p *tcpv3.TcpProxy) {
	c.logEvery, c.logOnConnected = p.GetAccessLogFlushInterval().AsDuration(), p.GetFlushAccessLogOnConnected()
	if o := p.GetAccessLogOptions(); o != nil {
		c.logOnStart, c.logOnConnected, c.logEvery = o.GetFlushAccessLogOnStart(), o.GetFlushAccessLogOnConnected(), o.GetAccessLogFlushInterval().AsDuration()
	}
}

func (c *config) parseTLVs(list []*corev3.TlvEntry) error {
	for i, e := range list {
		if e.GetType() > 255 {
			return fmt.Errorf("proxy_protocol_tlvs[%d].type: %d is more than 255", i, e.GetType())
		}
		t := tlv{kind: byte(e.GetType()), value: e.GetValue()}
		if e.GetFormatString() != nil {
			if len(t.value) > 0 {
				return fmt.Errorf("proxy_protocol_tlvs[%d]: only one of value or format_string may be set", i)
			}
			f, err := format.CompileSource(e.GetFormatString())
			if err != nil {
				return fmt.Errorf("proxy_protocol_tlvs[%d].format_string: %w", i, err)
			}
			t.format = f
		} else if len(t.value) == 0 {
			return fmt.Errorf("proxy_protocol_tlvs[%d]: one of value or format_string must be set", i)
		}
		c.tlvs = append(c.tlvs, t)
	}
	return nil
}
