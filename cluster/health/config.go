package health

import (
	"errors"
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/health_check/event_sinks/file/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	datacorev3 "github.com/envoyproxy/go-control-plane/envoy/data/core/v3"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
)

// Config is a HealthCheck, parsed.
type Config struct {
	name                                           string
	timeout, interval, noTraffic, noTrafficHealthy time.Duration
	unhealthyInterval, unhealthyEdge, healthyEdge  time.Duration
	initialJitter, intervalJitter                  time.Duration
	intervalJitterPercent                          uint32
	healthy, unhealthy                             uint64 // checks in a row
	reuse, logFailures, logSuccesses               bool
	alpn                                           string // protocols, joined by commas; empty: those of the cluster
	// Sockets are the values by which transport_socket_matches are chosen; nil: those of the host.
	Sockets map[string]any
	// LogPaths are the files of the event log.
	LogPaths []string
	kind     datacorev3.HealthCheckerType
	http     *httpConfig
	grpc     *grpcConfig
	custom   *custom
	tcp      *tcpConfig
}

// Parse reads p.
func Parse(p *corev3.HealthCheck) (*Config, error) {
	c := &Config{
		name: p.GetName(), timeout: p.GetTimeout().AsDuration(), interval: p.GetInterval().AsDuration(),
		noTraffic:     length(p.GetNoTrafficInterval(), time.Minute),
		initialJitter: p.GetInitialJitter().AsDuration(), intervalJitter: p.GetIntervalJitter().AsDuration(), intervalJitterPercent: p.GetIntervalJitterPercent(),
		healthy: uint64(p.GetHealthyThreshold().GetValue()), unhealthy: uint64(p.GetUnhealthyThreshold().GetValue()),
		reuse: p.GetReuseConnection() == nil || p.GetReuseConnection().GetValue(), logFailures: p.GetAlwaysLogHealthCheckFailures(),
		logSuccesses: p.GetAlwaysLogHealthCheckSuccess(), alpn: strings.Join(p.GetTlsOptions().GetAlpnProtocols(), ","),
	}
	c.noTrafficHealthy = length(p.GetNoTrafficHealthyInterval(), c.noTraffic)
	c.unhealthyInterval = length(p.GetUnhealthyInterval(), c.interval)
	c.unhealthyEdge = length(p.GetUnhealthyEdgeInterval(), c.unhealthyInterval)
	c.healthyEdge = length(p.GetHealthyEdgeInterval(), c.interval)
	if m := p.GetTransportSocketMatchCriteria(); m != nil {
		c.Sockets = m.AsMap()
	}
	if path := p.GetEventLogPath(); path != "" {
		c.LogPaths = append(c.LogPaths, path)
	}
	for i, t := range p.GetEventLogger() {
		m, _, err := protofile.Unpack(t.GetTypedConfig())
		f, ok := m.(*filev3.HealthCheckEventFileSink)
		if err != nil || !ok {
			return nil, fmt.Errorf("event_logger[%d]: Didn't find a registered implementation for '%s' with type URL: '%s'", i, t.GetName(), t.GetTypedConfig().GetTypeUrl())
		}
		c.LogPaths = append(c.LogPaths, f.GetEventLogPath())
	}
	return c, c.parseChecker(p)
}

func (c *Config) parseChecker(p *corev3.HealthCheck) (err error) {
	var path string
	switch k := p.GetHealthChecker().(type) {
	case *corev3.HealthCheck_HttpHealthCheck_:
		path, c.kind = "http_health_check", datacorev3.HealthCheckerType_HTTP
		c.http, err = parseHTTP(k.HttpHealthCheck)
	case *corev3.HealthCheck_TcpHealthCheck_:
		path, c.kind = "tcp_health_check", datacorev3.HealthCheckerType_TCP
		c.tcp, err = parseTCP(k.TcpHealthCheck)
	case *corev3.HealthCheck_GrpcHealthCheck_:
		path, c.kind = "grpc_health_check", datacorev3.HealthCheckerType_GRPC
		c.grpc, err = parseGRPC(k.GrpcHealthCheck, c.timeout)
	case *corev3.HealthCheck_CustomHealthCheck_:
		path = "custom_health_check"
		if c.custom, err = parseCustom(k.CustomHealthCheck); err == nil {
			c.kind = c.custom.kind
		}
	default:
		return errors.New("health_checker: is required")
	}
	if err != nil {
		return fmt.Errorf("%s.%w", path, err)
	}
	return nil
}

// Multiplexed says whether the check needs a cluster that speaks HTTP/2.
func (c *Config) Multiplexed() bool { return c.grpc != nil }

// Negotiates says whether the check needs transport sockets that agree on a protocol (ALPN).
func (c *Config) Negotiates() bool { return c.http != nil && c.http.version.alpn }

// probe makes what asks a host.
func (c *Config) probe() probe {
	switch {
	case c.http != nil:
		return &httpProbe{httpConfig: c.http, client: client{version: c.http.version, reuse: c.reuse}}
	case c.grpc != nil:
		return &grpcProbe{grpcConfig: c.grpc, client: client{version: version{two: true}, reuse: c.reuse}}
	case c.custom != nil:
		return &customProbe{custom: c.custom, wire: wire{reuse: c.reuse}}
	default:
		return &tcpProbe{tcpConfig: c.tcp, wire: wire{reuse: c.reuse}}
	}
}

func length(d *durationpb.Duration, absent time.Duration) time.Duration {
	if d == nil {
		return absent
	}
	return d.AsDuration()
}
