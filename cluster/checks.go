package cluster

import (
	"fmt"
	"math/rand/v2"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/outrigger-proxy/outrigger/cluster/health"
	"github.com/outrigger-proxy/outrigger/cluster/outlier"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/logfile"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// parseHealth reads what makes a host healthy or not, beside what the control plane says.
func (o *config) parseHealth(c *clusterv3.Cluster) (err error) {
	o.warmHosts = c.GetCommonLbConfig().GetIgnoreNewHostsUntilFirstHc()
	o.ignoreHealthOnRemoval = c.GetIgnoreHealthOnHostRemoval()
	o.closeOnFailure = c.GetCloseConnectionsOnHostHealthFailure()
	if p := c.GetOutlierDetection(); p != nil {
		if o.outlier, err = outlier.Parse(p); err != nil {
			return fmt.Errorf("outlier_detection.%w", err)
		}
	}
	return o.parseChecks(c.GetHealthChecks())
}

func (o *config) parseChecks(l []*corev3.HealthCheck) error {
	names := map[string]bool{}
	for i, p := range l {
		at := fmt.Sprintf("health_checks[%d]", i)
		switch name := p.GetName(); {
		case len(l) > 1 && name == "":
			return refused(at+".name", fmt.Sprintf("health check at index %d is missing a name; all health checks must have a name when multiple health checks are configured", i))
		case names[name]:
			return refused(at+".name", fmt.Sprintf("duplicate health check name '%s'", name))
		default:
			names[name] = true
		}
		c, err := health.Parse(p)
		if err != nil {
			return fmt.Errorf("%s.%w", at, err)
		}
		o.checks = append(o.checks, c)
	}
	return nil
}

// buildHealth makes what checks and judges the hosts.
func (c *Cluster) buildHealth() error {
	o, m := c.config, c.m
	if o.outlier != nil {
		c.detector = outlier.New(o.outlier, outlier.Env{
			Cluster: c.Name, Stats: c.Codes, Runtime: m.env.Runtime, Now: m.now, Draw: rand.Uint64, Post: m.post, After: m.after, Log: m.outliers,
		})
	}
	if len(o.checks) > 1 {
		c.checkStats = stats.New[checkStats](c.Codes.Sub("health_check"))
	}
	for i, check := range o.checks {
		k, err := c.checker(check)
		if err != nil {
			return fmt.Errorf("health_checks[%d].%w", i, err)
		}
		c.checkers = append(c.checkers, k)
	}
	return nil
}

// checkStats are those of all checkers together, where there are several: how many hosts pass all of them.
type checkStats struct {
	Healthy  stats.Gauge `stat:"healthy"`
	Degraded stats.Gauge `stat:"degraded"`
}

func (c *Cluster) checker(check *health.Config) (*health.Checker, error) {
	m := c.m
	switch {
	case check.Multiplexed() && c.config.http.protocol == pool.HTTP1:
		return nil, refused("grpc_health_check", c.Name+" cluster must support HTTP/2 for gRPC healthchecking")
	case check.Negotiates() && !c.sockets.negotiates():
		return nil, refused("http_health_check.use_alpn_protocol", "needs transport sockets that agree on a protocol")
	}
	env := health.Env{
		Cluster: c.Name, Stats: c.Codes, Runtime: m.env.Runtime, Workers: m.env.Workers, HTTP1: &c.config.http.http1, HTTP2: &c.config.http.http2,
		Draw: rand.Uint64, Post: m.post, After: m.after, Dial: c.dial, Traffic: c.traffic,
	}
	for _, path := range check.LogPaths {
		f, err := m.env.Files.Open(path)
		if err != nil {
			return nil, fmt.Errorf("event_log_path: %w", err)
		}
		env.Logs = append(env.Logs, logfile.NewEvents(f))
	}
	return health.New(check, env), nil
}

// traffic says whether the cluster has ever had any.
func (c *Cluster) traffic() bool {
	return c.Stats.CxTotal.Used() || c.Stats.CxTxBytes.Used() || c.Stats.CxRxBytes.Used()
}

// startHealth begins to check and to judge.
func (c *Cluster) startHealth() {
	if c.detector != nil {
		c.detector.Start()
	}
	for _, k := range c.checkers {
		k.Start()
	}
	for _, m := range c.members {
		for i := range m.checks {
			m.checks[i].session.Start()
		}
	}
}

// closeHealth ends that.
func (c *Cluster) closeHealth() {
	if c.detector != nil {
		c.detector.Close()
	}
	for _, k := range c.checkers {
		k.Close()
	}
	if c.checkStats != nil {
		stats.Drop[checkStats](c.Codes.Sub("health_check"))
	}
}

// Errors says which responses are errors of their host, for outlier detection; nil: those with a status of 5xx.
func (c *Cluster) Errors() outlier.Errors { return c.config.errors }

// Detector returns the outlier detection of the cluster, nil: there is none.
func (c *Cluster) Detector() *outlier.Detector { return c.detector }
