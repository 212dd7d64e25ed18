package discovery

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

const (
	// DefaultOverprovisioning is the overprovisioning_factor of assignments without one, in percent.
	DefaultOverprovisioning = 140
	maxWeight               = 1<<32 - 1
)

// Million is the whole in parts of a million.
const Million = 1_000_000

var millionths = map[typev3.FractionalPercent_DenominatorType]uint64{
	typev3.FractionalPercent_HUNDRED: 10_000, typev3.FractionalPercent_TEN_THOUSAND: 100, typev3.FractionalPercent_MILLION: 1,
}

// Parse reads an assignment. With names set, endpoints may be DNS names; otherwise they are refused as Envoy refuses them.
// Its errors begin with the path below load_assignment.
func Parse(p *endpointv3.ClusterLoadAssignment, names bool) (*Assignment, error) {
	a := &Assignment{Overprovisioning: DefaultOverprovisioning}
	if err := a.policy(p.GetPolicy()); err != nil {
		return nil, fmt.Errorf("policy.%w", err)
	}
	named, err := namedEndpoints(p, names)
	if err != nil {
		return nil, err
	}
	for i, l := range p.GetEndpoints() {
		g, err := group(l, named, names)
		if err != nil {
			return nil, fmt.Errorf("endpoints[%d]%w", i, err)
		}
		a.Groups = append(a.Groups, g)
	}
	return a, nil
}

func (a *Assignment) policy(p *endpointv3.ClusterLoadAssignment_Policy) error {
	if n := len(p.GetDropOverloads()); n > 1 {
		return fmt.Errorf("drop_overloads: %d categories, and only one is supported", n)
	}
	for _, d := range p.GetDropOverloads() {
		share := d.GetDropPercentage()
		a.Drop = uint64(share.GetNumerator()) * millionths[share.GetDenominator()]
		if a.Drop > Million {
			return fmt.Errorf("drop_overloads[0].drop_percentage: %d is more than everything", share.GetNumerator())
		}
	}
	a.Stale = p.GetEndpointStaleAfter().AsDuration()
	if f := p.GetOverprovisioningFactor(); f != nil {
		a.Overprovisioning = f.GetValue()
	}
	a.WeightedHealth = p.GetWeightedPriorityHealth()
	return nil
}

func namedEndpoints(p *endpointv3.ClusterLoadAssignment, names bool) (map[string]Endpoint, error) {
	if len(p.GetNamedEndpoints()) == 0 {
		return nil, nil
	}
	named := map[string]Endpoint{}
	for name, e := range p.GetNamedEndpoints() {
		parsed, err := endpoint(e, names)
		if err != nil {
			return nil, fmt.Errorf("named_endpoints[%s]%w", name, err)
		}
		named[name] = parsed
	}
	return named, nil
}

func group(l *endpointv3.LocalityLbEndpoints, named map[string]Endpoint, names bool) (Group, error) {
	loc := l.GetLocality()
	g := Group{
		Locality: Locality{loc.GetRegion(), loc.GetZone(), loc.GetSubZone()}, Priority: l.GetPriority(), Weight: l.GetLoadBalancingWeight().GetValue(),
		Metadata: Metadata(l.GetMetadata()),
	}
	list := l.GetLbEndpoints()
	switch c := l.GetLbConfig().(type) {
	case *endpointv3.LocalityLbEndpoints_LoadBalancerEndpoints:
		list = c.LoadBalancerEndpoints.GetLbEndpoints()
	case *endpointv3.LocalityLbEndpoints_LedsClusterLocalityConfig:
		return g, errors.New(".leds_cluster_locality_config: endpoint discovery by locality is not supported yet")
	}
	for i, p := range list {
		e, err := lbEndpoint(p, named, names)
		if err != nil {
			return g, fmt.Errorf(".lb_endpoints[%d]%w", i, err)
		}
		g.Endpoints = append(g.Endpoints, e)
	}
	return g, nil
}

func lbEndpoint(p *endpointv3.LbEndpoint, named map[string]Endpoint, names bool) (Endpoint, error) {
	e, err := Endpoint{}, error(nil)
	switch id := p.GetHostIdentifier().(type) {
	case *endpointv3.LbEndpoint_EndpointName:
		found, ok := named[id.EndpointName]
		if !ok {
			return e, fmt.Errorf(".endpoint_name: %q is not among named_endpoints", id.EndpointName)
		}
		e = found
	default:
		e, err = endpoint(p.GetEndpoint(), names)
	}
	if err != nil {
		return e, fmt.Errorf(".endpoint%w", err)
	}
	e.Weight = 1
	if w := p.GetLoadBalancingWeight(); w != nil {
		e.Weight = max(w.GetValue(), 1)
	}
	e.Metadata, e.Typed = Metadata(p.GetMetadata()), p.GetMetadata().GetTypedFilterMetadata()
	e.Health = health(p.GetHealthStatus())
	return e, nil
}

// health reads a status; one that only later versions know is taken for a good one.
func health(s corev3.HealthStatus) Health {
	switch s {
	case corev3.HealthStatus_DEGRADED:
		return Degraded
	case corev3.HealthStatus_UNHEALTHY:
		return Unhealthy
	case corev3.HealthStatus_DRAINING:
		return Draining
	case corev3.HealthStatus_TIMEOUT:
		return Timeout
	}
	return Healthy
}

func endpoint(p *endpointv3.Endpoint, names bool) (Endpoint, error) {
	e := Endpoint{Hostname: p.GetHostname()}
	if p.GetAddress() == nil {
		return e, errors.New(".address: is required")
	}
	var err error
	if e.Address, e.Name, e.Port, err = Address(p.GetAddress(), names); err != nil {
		return e, fmt.Errorf(".address.%w", err)
	}
	if e.Hostname == "" {
		e.Hostname = e.Name
	}
	if e.Check, err = check(p.GetHealthCheckConfig()); err == nil && e.Check.Port != 0 && e.Address.Path != "" {
		err = errors.New("port_value: non-zero port for non-IP address")
	}
	if err != nil {
		return e, fmt.Errorf(".health_check_config.%w", err)
	}
	for i, more := range p.GetAdditionalAddresses() {
		if e.Name != "" {
			return e, fmt.Errorf(".additional_addresses[%d]: a name that is to be resolved takes no additional addresses", i)
		}
		a, _, _, err := Address(more.GetAddress(), false)
		if err != nil {
			return e, fmt.Errorf(".additional_addresses[%d].address.%w", i, err)
		}
		e.Additional = append(e.Additional, a)
	}
	return e, nil
}

// check reads a health_check_config.
func check(p *endpointv3.Endpoint_HealthCheckConfig) (c Check, err error) {
	c = Check{Port: uint16(p.GetPortValue()), Hostname: p.GetHostname(), Disabled: p.GetDisableActiveHealthCheck()}
	switch {
	case p.GetPortValue() > 65535:
		return c, fmt.Errorf("port_value: port %d is out of range", p.GetPortValue())
	case p.GetAddress() != nil:
		if c.Address, _, _, err = Address(p.GetAddress(), false); err != nil {
			return c, fmt.Errorf("address.%w", err)
		}
	}
	return c, nil
}

// maxUnixPath is the size of sockaddr_un.sun_path.
const maxUnixPath = 108

// Address reads an address: of an IP socket, a unix socket or, where names is set, a name with its port.
func Address(p *corev3.Address, names bool) (a stream.Address, name string, port uint16, err error) {
	switch k := p.GetAddress().(type) {
	case *corev3.Address_Pipe:
		a.Path = k.Pipe.GetPath()
		switch {
		case strings.HasPrefix(a.Path, "@") && k.Pipe.GetMode() != 0:
			err = errors.New("pipe.mode: Cannot set mode for Abstract AF_UNIX sockets")
		case len(a.Path) >= maxUnixPath:
			err = fmt.Errorf("pipe.path: Path %q exceeds maximum UNIX domain socket path size of %d", a.Path, maxUnixPath)
		}
		return a, "", 0, err
	case *corev3.Address_SocketAddress:
		return socketAddress(k.SocketAddress, names)
	case *corev3.Address_EnvoyInternalAddress:
		return a, "", 0, errors.New("envoy_internal_address: internal listeners are not supported yet")
	}
	return a, "", 0, errors.New("address: is required")
}

func namedPort(s *corev3.SocketAddress) bool {
	_, named := s.GetPortSpecifier().(*corev3.SocketAddress_NamedPort)
	return named
}

func socketAddress(s *corev3.SocketAddress, names bool) (a stream.Address, name string, port uint16, err error) {
	switch {
	case s.GetProtocol() == corev3.SocketAddress_UDP:
		err = errors.New("socket_address.protocol: UDP upstreams are not supported yet")
	case s.GetNetworkNamespaceFilepath() != "":
		err = errors.New("socket_address.network_namespace_filepath: is for listeners only")
	case namedPort(s):
		err = errors.New("socket_address.named_port: there is no resolver that knows named ports")
	case s.GetPortValue() > 65535:
		err = fmt.Errorf("socket_address.port_value: port %d is out of range", s.GetPortValue())
	case s.GetResolverName() != "" && names:
		err = errors.New("socket_address.resolver_name: STRICT_DNS and LOGICAL_DNS clusters must NOT have a custom resolver name set")
	case s.GetResolverName() != "" && s.GetResolverName() != "envoy.ip":
		err = fmt.Errorf("socket_address.resolver_name: Unknown address resolver: %s", s.GetResolverName())
	}
	if err != nil {
		return a, "", 0, err
	}
	port = uint16(s.GetPortValue())
	if ip, perr := netip.ParseAddr(s.GetAddress()); perr == nil {
		a.AddrPort = netip.AddrPortFrom(ip, port)
		return a, "", port, nil
	}
	if !names {
		return a, "", 0, fmt.Errorf("socket_address.address: malformed IP address: %s. Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'", s.GetAddress())
	}
	return a, s.GetAddress(), port, nil
}

// Metadata reads filter_metadata.
func Metadata(p *corev3.Metadata) stream.Metadata {
	if len(p.GetFilterMetadata()) == 0 {
		return nil
	}
	m := stream.Metadata{}
	for ns, s := range p.GetFilterMetadata() {
		m[ns] = s.AsMap()
	}
	return m
}
