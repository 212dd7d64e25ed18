package listener

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/outrigger-proxy/outrigger/internal/sockopt"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// config is a parsed listener, but for its filter chains.
type config struct {
	name       string
	statPrefix string // as it stands in statistics: stat_prefix, else the first address
	metadata   stream.Metadata
	direction  corev3.TrafficDirection
	endpoints  []endpoint
	bind       bool // bind_to_port
	handOff    bool // use_original_dst
	reusePort  bool
	exact      bool // connection_balance_config.exact_balance
	backlog    int
	perEvent   int // max_connections_to_accept_per_socket_event; 0: no limit
	bufferSize uint32

	filtersTimeout    time.Duration // 0: none
	continueOnTimeout bool
	ignoreGlobalLimit bool
	modifyOnly        bool // drain_type
}

// endpoint is one address that a listener listens on.
type endpoint struct {
	stream.Address

	v4Too     bool // ipv4_compat
	mode      fs.FileMode
	options   sockopt.List
	namespace string // network_namespace_filepath; empty: that of the process
}

const (
	defaultFiltersTimeout = 15 * time.Second
	defaultBufferLimit    = 1 << 20
	// Envoy listens with the kernel's own maximum unless told otherwise.
	defaultBacklog = 4096
	maxUnixPath    = 108
)

func parse(p *listenerv3.Listener) (*config, error) {
	if err := refuse(p); err != nil {
		return nil, err
	}
	c := &config{
		name: p.GetName(), metadata: metadata(p.GetMetadata()), direction: p.GetTrafficDirection(),
		bind: p.GetBindToPort() == nil || p.GetBindToPort().GetValue(), handOff: p.GetUseOriginalDst().GetValue(),
		reusePort: p.GetEnableReusePort() == nil || p.GetEnableReusePort().GetValue(),
		exact:     p.GetConnectionBalanceConfig().GetExactBalance() != nil,
		backlog:   defaultBacklog, perEvent: int(p.GetMaxConnectionsToAcceptPerSocketEvent().GetValue()),
		bufferSize: defaultBufferLimit, filtersTimeout: defaultFiltersTimeout,
		continueOnTimeout: p.GetContinueOnListenerFiltersTimeout(), ignoreGlobalLimit: p.GetIgnoreGlobalConnLimit(),
		modifyOnly: p.GetDrainType() == listenerv3.Listener_MODIFY_ONLY,
	}
	if v := p.GetDeprecatedV1().GetBindToPort(); v != nil && p.GetBindToPort() == nil {
		c.bind = v.GetValue()
	}
	if v := p.GetTcpBacklogSize(); v != nil {
		c.backlog = int(v.GetValue())
	}
	if v := p.GetPerConnectionBufferLimitBytes(); v != nil {
		c.bufferSize = v.GetValue()
	}
	if v := p.GetListenerFiltersTimeout(); v != nil {
		if c.filtersTimeout = v.AsDuration(); c.filtersTimeout < 0 {
			return nil, errors.New("listener_filters_timeout: is negative")
		}
	}
	if err := c.parseEndpoints(p); err != nil {
		return nil, err
	}
	if c.statPrefix = p.GetStatPrefix(); c.statPrefix == "" {
		c.statPrefix = c.endpoints[0].String()
	}
	return c, nil
}

// refuse names what is asked for and not there.
func refuse(p *listenerv3.Listener) error {
	balance := p.GetConnectionBalanceConfig()
	for _, r := range []struct {
		asked         bool
		field, reason string
	}{
		{p.GetUdpListenerConfig() != nil, "udp_listener_config", "UDP listeners are not supported"},
		{p.GetApiListener() != nil, "api_listener", "API listeners are not supported"},
		{p.GetInternalListener() != nil, "internal_listener", "internal listeners are not supported"},
		{p.GetFcdsConfig() != nil, "fcds_config", "filter chain discovery is not supported"},
		{p.GetStatsMatcher() != nil, "stats_matcher", "is not supported; use stats_config.stats_matcher of the bootstrap"},
		{p.GetPerConnectionBufferHighWatermarkTimeout().AsDuration() != 0, "per_connection_buffer_high_watermark_timeout", "there are no watermarks: a connection is read as fast as it is written"},
		{p.GetEnableMptcp(), "enable_mptcp", "multipath TCP is not supported"},
		{balance.GetExtendBalance() != nil, "connection_balance_config.extend_balance", "is not supported"},
		{balance.GetCpuLocalityBalance() != nil, "connection_balance_config.cpu_locality_balance", "is not supported"},
		{len(p.GetFilterChains()) == 0 && p.GetDefaultFilterChain() == nil, "filter_chains", "no filter chains specified"},
	} {
		if r.asked {
			return fmt.Errorf("%s: %s", r.field, r.reason)
		}
	}
	return nil
}

func (c *config) parseEndpoints(p *listenerv3.Listener) error {
	own, err := sockopt.Parse(p.GetSocketOptions())
	if err != nil {
		return fmt.Errorf("socket_options%w", err)
	}
	var common sockopt.List
	if p.GetTransparent().GetValue() {
		common = append(common, sockopt.Transparent()...)
	}
	if p.GetFreebind().GetValue() {
		common = append(common, sockopt.Freebind()...)
	}
	if q := p.GetTcpFastOpenQueueLength(); q != nil {
		common = append(common, sockopt.FastOpen(q.GetValue())...)
	}
	first, err := parseAddress(p.GetAddress())
	if err != nil {
		return fmt.Errorf("address.%w", err)
	}
	first.options = options(common, sockopt.Keepalive(p.GetTcpKeepalive()), own)
	c.endpoints = []endpoint{first}
	for i, a := range p.GetAdditionalAddresses() {
		e, err := parseAddress(a.GetAddress())
		if err != nil {
			return fmt.Errorf("additional_addresses[%d].address.%w", i, err)
		}
		mine := own
		if o := a.GetSocketOptions(); o != nil {
			if mine, err = sockopt.Parse(o.GetSocketOptions()); err != nil {
				return fmt.Errorf("additional_addresses[%d].socket_options.socket_options%w", i, err)
			}
		}
		keepalive := p.GetTcpKeepalive()
		if a.GetTcpKeepalive() != nil {
			keepalive = a.GetTcpKeepalive()
		}
		e.options = options(common, sockopt.Keepalive(keepalive), mine)
		c.endpoints = append(c.endpoints, e)
	}
	return nil
}

func options(lists ...sockopt.List) sockopt.List {
	var all sockopt.List
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// Address reads where to listen, and the mode of a unix socket; 0: whatever the umask leaves.
func Address(p *corev3.Address) (stream.Address, fs.FileMode, error) {
	e, err := parseAddress(p)
	return e.Address, e.mode, err
}

func parseAddress(p *corev3.Address) (endpoint, error) {
	switch a := p.GetAddress().(type) {
	case *corev3.Address_SocketAddress:
		return parseSocketAddress(a.SocketAddress)
	case *corev3.Address_Pipe:
		return parsePipe(a.Pipe)
	case *corev3.Address_EnvoyInternalAddress:
		return endpoint{}, errors.New("envoy_internal_address: internal listeners are not supported")
	}
	return endpoint{}, errors.New("address: is required")
}

func namedPort(a *corev3.SocketAddress) bool {
	_, named := a.GetPortSpecifier().(*corev3.SocketAddress_NamedPort)
	return named
}

func parseSocketAddress(a *corev3.SocketAddress) (e endpoint, err error) {
	switch {
	case a.GetProtocol() == corev3.SocketAddress_UDP:
		return e, errors.New("socket_address.protocol: UDP listeners are not supported")
	case namedPort(a):
		return e, errors.New("socket_address.named_port: IP resolver can't handle named ports")
	case a.GetResolverName() != "" && a.GetResolverName() != "envoy.ip":
		return e, fmt.Errorf("socket_address.resolver_name: unknown address resolver: %s", a.GetResolverName())
	}
	ip, err := netip.ParseAddr(a.GetAddress())
	if err != nil {
		return e, fmt.Errorf("socket_address.address: malformed IP address: %s", a.GetAddress())
	}
	e.AddrPort = netip.AddrPortFrom(ip, uint16(a.GetPortValue()))
	if a.GetIpv4Compat() && ip != netip.IPv6Unspecified() && !ip.Is4In6() {
		return e, fmt.Errorf("socket_address.ipv4_compat: only IPv6 address '::' or valid IPv4-mapped IPv6 address can set ipv4_compat: %s", e.AddrPort)
	}
	e.v4Too, e.namespace = a.GetIpv4Compat(), a.GetNetworkNamespaceFilepath()
	return e, nil
}

func parsePipe(a *corev3.Pipe) (e endpoint, err error) {
	switch {
	case strings.HasPrefix(a.GetPath(), "@") && a.GetMode() != 0:
		return e, errors.New("pipe.mode: Cannot set mode for Abstract AF_UNIX sockets")
	case len(a.GetPath()) >= maxUnixPath:
		return e, fmt.Errorf("pipe.path: Path %q exceeds maximum UNIX domain socket path size of %d.", a.GetPath(), maxUnixPath)
	}
	e.Path, e.mode = a.GetPath(), fs.FileMode(a.GetMode())
	return e, nil
}

func metadata(p *corev3.Metadata) stream.Metadata {
	if len(p.GetFilterMetadata()) == 0 {
		return nil
	}
	m := stream.Metadata{}
	for ns, v := range p.GetFilterMetadata() {
		m[ns] = v.AsMap()
	}
	return m
}
