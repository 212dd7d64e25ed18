package cluster

import (
	"fmt"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	selectorv3 "github.com/envoyproxy/go-control-plane/envoy/config/upstream/local_address_selector/v3"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	"github.com/outrigger-proxy/outrigger/internal/sockopt"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// bindOptions say where connections come from (envoy.config.core.v3.BindConfig). Of several sources the first of the IP version of
// the host is taken; a host of another version is connected to without a source.
type bindOptions struct {
	sources []source
	options sockopt.List // where no source fits
}

type source struct {
	address stream.Address
	options sockopt.List
}

func (o *config) parseConnections(c *clusterv3.Cluster) error {
	u := c.GetUpstreamConnectionOptions()
	o.keepalive = u.GetTcpKeepalive()
	if h := u.GetHappyEyeballsConfig(); h != nil {
		o.first = firstFamily{h.GetFirstAddressFamilyVersion() != clusterv3.UpstreamConnectionOptions_DEFAULT, h.GetFirstAddressFamilyVersion() == clusterv3.UpstreamConnectionOptions_V6, 1}
		if n := h.GetFirstAddressFamilyCount(); n != nil {
			o.first.set, o.first.count = true, int(n.GetValue())
		}
	}
	o.preconnect = 1
	if r := c.GetPreconnectPolicy().GetPerUpstreamPreconnectRatio(); r != nil {
		o.preconnect = r.GetValue()
	}
	var err error
	if o.bind, err = parseBind(c.GetUpstreamBindConfig()); err != nil {
		return fmt.Errorf("upstream_bind_config.%w", err)
	}
	return nil
}

func parseBind(b *corev3.BindConfig) (o bindOptions, err error) {
	if b == nil {
		return o, nil
	}
	if t := b.GetLocalAddressSelector(); t != nil && !t.GetTypedConfig().MessageIs(&selectorv3.DefaultLocalAddressSelector{}) {
		return o, refused("local_address_selector", fmt.Sprintf("didn't find a registered implementation for '%s' with type URL: '%s'", t.GetName(), t.GetTypedConfig().GetTypeUrl()))
	}
	if b.GetSourceAddress() == nil && (len(b.GetExtraSourceAddresses()) > 0 || len(b.GetAdditionalSourceAddresses()) > 0) {
		return o, refused("source_address", "is required where there are extra or additional source addresses")
	}
	if len(b.GetExtraSourceAddresses()) > 0 && len(b.GetAdditionalSourceAddresses()) > 0 {
		return o, refused("extra_source_addresses", "cannot be combined with additional_source_addresses")
	}
	if len(b.GetExtraSourceAddresses())+len(b.GetAdditionalSourceAddresses()) > 1 {
		return o, refused("extra_source_addresses", "only one extra or additional source address is supported")
	}
	if b.GetFreebind().GetValue() {
		o.options = append(o.options, sockopt.Freebind()...)
	}
	own, err := sockopt.Parse(b.GetSocketOptions())
	if err != nil {
		return o, fmt.Errorf("socket_options%w", err)
	}
	free := o.options
	o.options = append(slices.Clip(free), own...)
	if b.GetSourceAddress() == nil {
		return o, nil
	}
	if err := o.add("source_address", b.GetSourceAddress(), o.options); err != nil {
		return o, err
	}
	for i, e := range b.GetExtraSourceAddresses() {
		options := o.options
		if e.GetSocketOptions() != nil {
			l, err := sockopt.Parse(e.GetSocketOptions().GetSocketOptions())
			if err != nil {
				return o, fmt.Errorf("extra_source_addresses[%d].socket_options.socket_options%w", i, err)
			}
			options = append(slices.Clip(free), l...)
		}
		if err := o.add(fmt.Sprintf("extra_source_addresses[%d].address", i), e.GetAddress(), options); err != nil {
			return o, err
		}
	}
	for i, a := range b.GetAdditionalSourceAddresses() {
		if err := o.add(fmt.Sprintf("additional_source_addresses[%d]", i), a, o.options); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o *bindOptions) add(path string, s *corev3.SocketAddress, options sockopt.List) error {
	a, _, _, err := discovery.Address(&corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: s}}, false)
	if err != nil {
		return fmt.Errorf("%s.%w", path, err)
	}
	for _, s := range o.sources {
		if s.address.Addr().Is4() == a.Addr().Is4() {
			return fmt.Errorf("%s: two source addresses of the same IP version", path)
		}
	}
	o.sources = append(o.sources, source{a, options})
	return nil
}

// choose returns the source of a connection to a host.
func (o *bindOptions) choose(to stream.Address) (stream.Address, sockopt.List) {
	if to.Path != "" {
		return stream.Address{}, nil
	}
	for _, s := range o.sources {
		if s.address.Addr().Unmap().Is4() == to.Addr().Unmap().Is4() {
			return s.address, s.options
		}
	}
	return stream.Address{}, o.options
}
