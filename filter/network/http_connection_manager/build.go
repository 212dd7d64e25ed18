package hcm

import (
	"errors"
	"fmt"
	"os"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// config is what a stream looks up once, at its beginning. It is immutable.
type config struct {
	settings

	http1     http1.Options
	http2     http2.Options
	chain     *filter.Chain
	table     tables
	routes    *filter.Table // table is a part of it; nil: the table stands in the configuration
	logs      filter.Loggers
	byUpgrade []upgrade
	detectors []filter.IPDetection
	mutations []filter.EarlyMutation
	local     string // this machine's address, for x-forwarded-for of loopback peers
	userAgent string // service cluster, for add_user_agent
	node      string // service node
}

// upgrade is one of upgrade_configs.
type upgrade struct {
	name    string // lower case
	enabled bool
	chain   *filter.Chain
}

// build makes the runtime objects of p.
func build(p *hcmv3.HttpConnectionManager, env filter.Env) (*config, error) {
	s, err := parse(p)
	if err != nil {
		return nil, err
	}
	if s.request.certificate, err = parseCertificateRule(p, env); err != nil {
		return nil, err
	}
	c := &config{settings: *s, local: localAddress(), userAgent: env.Node.Cluster, node: env.Node.ID}
	c.response.status = newProxyStatus(p.GetProxyStatusConfig(), c.response.serverName, env.Node.ID)
	if c.http1, err = s.codec.options(stats.New[codecStats](env.Stats.Root().Sub("http1"))); err != nil {
		return nil, fmt.Errorf("http_protocol_options.%w", err)
	}
	if c.http2, err = s.codec.options2(stats.New[http2.Stats](env.Stats.Root().Sub("http2"))); err != nil {
		return nil, fmt.Errorf("http2_protocol_options.%w", err)
	}
	if c.logs, err = filter.NewLoggers(s.logs, env); err != nil {
		return nil, fmt.Errorf("access_log%w", err)
	}
	if err := c.buildChains(env); err != nil {
		return nil, err
	}
	if err := c.buildHead(env); err != nil {
		return nil, err
	}
	return c, c.buildRoutes(env)
}

// tables is where a stream finds its route table.
type tables interface{ Load() *route.Table }

// fixed is a table that stays.
type fixed struct{ *route.Table }

func (f fixed) Load() *route.Table { return f.Table }

// buildRoutes compiles the routes, or asks for them. It is the last step: nothing fails once they are asked for.
func (c *config) buildRoutes(env filter.Env) (err error) {
	if c.rds == nil {
		t, err := route.Compile(c.route, routeEnv(env))
		if err != nil {
			return fmt.Errorf("route_config: %w", err)
		}
		c.table = fixed{t}
		return nil
	}
	w := filter.RouteWish{Name: c.rds.GetRouteConfigName(), From: c.rds.GetConfigSource(), Scope: env.Scope}
	w.Compile = func(p *routev3.RouteConfiguration) (*route.Table, error) {
		e := routeEnv(env)
		e.Validate = false // Envoy: clusters may come later
		return route.Compile(p, e)
	}
	if env.Listener != nil {
		w.Warm = env.Listener.Warm
	}
	if c.routes, err = env.Routes.Subscribe(w); err != nil {
		return fmt.Errorf("rds.%w", err)
	}
	c.table = c.routes
	return nil
}

// buildChains builds the HTTP filters, for plain requests and for upgrades.
func (c *config) buildChains(env filter.Env) error {
	mapper, err := newMapper(c.replies, env)
	if err != nil {
		return fmt.Errorf("local_reply_config.%w", err)
	}
	if c.chain, err = newChain(c.filters, mapper, env); err != nil {
		return fmt.Errorf("http_filters%w", err)
	}
	for i, u := range c.upgrades {
		o := upgrade{name: strings.ToLower(u.GetUpgradeType()), enabled: boolean(u.GetEnabled(), true), chain: c.chain}
		if len(u.GetFilters()) > 0 {
			if o.chain, err = newChain(u.GetFilters(), mapper, env); err != nil {
				return fmt.Errorf("upgrade_configs[%d].filters%w", i, err)
			}
		}
		for _, have := range c.byUpgrade {
			if have.name == o.name {
				return fmt.Errorf("Error: multiple upgrade configs with the same name: '%s'", u.GetUpgradeType())
			}
		}
		c.byUpgrade = append(c.byUpgrade, o)
	}
	return nil
}

// newChain builds a list of HTTP filters; errors start with the index or a colon.
func newChain(list []*hcmv3.HttpFilter, mapper filter.Mapper, env filter.Env) (*filter.Chain, error) {
	slots := 0
	env.Slots = &slots
	var filters []filter.Named
	if len(list) == 0 {
		filters = []filter.Named{{Name: "nobody", Filter: nobody{}}}
	}
	for i, f := range list {
		env.Name = f.GetName()
		if f.GetConfigDiscovery() != nil {
			return nil, fmt.Errorf("[%d].config_discovery: is not supported: there is no xDS client", i)
		}
		b, err := env.Extensions.HTTP.Build(f.GetTypedConfig(), env)
		if err != nil && f.GetIsOptional() && errors.As(err, new(*extension.NotFoundError)) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		filters = append(filters, filter.Named{Name: f.GetName(), Filter: b, Disabled: f.GetDisabled()})
	}
	if n := len(filters) - 1; n >= 0 && filters[n].Disabled {
		return nil, fmt.Errorf(": the last (terminal) filter (%s) in the chain cannot be disabled by default", filters[n].Name)
	}
	c, err := filter.Compile(filters, slots)
	if err != nil {
		return nil, fmt.Errorf(": %w", err)
	}
	c.Mapper, c.LocalAddress, c.Clusters = mapper, localAddress(), env.Clusters
	return c, nil
}

// buildHead builds the extensions that look at the head of a request before a route is chosen.
func (c *config) buildHead(env filter.Env) error {
	for i, e := range c.detection {
		d, err := env.Extensions.IPDetection.Build(e.GetTypedConfig(), env)
		if err != nil {
			return fmt.Errorf("original_ip_detection_extensions[%d]: %w", i, err)
		}
		c.detectors = append(c.detectors, d)
	}
	for i, e := range c.settings.mutations {
		m, err := env.Extensions.EarlyMutation.Build(e.GetTypedConfig(), env)
		if err != nil {
			return fmt.Errorf("early_header_mutation_extensions[%d]: %w", i, err)
		}
		c.mutations = append(c.mutations, m)
	}
	return nil
}

// routeEnv is what the route table asks of the process.
func routeEnv(env filter.Env) route.Env {
	return route.Env{
		HasCluster: func(name string) bool { return env.Clusters.Get(name) != nil }, Validate: true,
		FilterConfig: func(name string, a *anypb.Any) (any, error) {
			env.Name = name
			return env.Extensions.PerRoute.Build(a, env)
		},
		Stats: func(kind, host, name string) any {
			return stats.New[filter.RouteStats](env.Stats.Root().Sub("vhost").Sub(host).Sub(kind).Sub(name))
		},
		Runtime: env.Runtime, ReadFile: os.ReadFile, Getenv: os.LookupEnv,
	}
}
