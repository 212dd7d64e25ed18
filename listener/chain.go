package listener

import (
	"errors"
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/drain"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// chain is a compiled filter chain. It outlives the version of the listener that brought it if the next one has the same.
type chain struct {
	// set at construction
	name      string
	metadata  stream.Metadata
	key       string // canonical form: the same key means the same chain
	steps     []step
	terminal  filter.Terminal // nil: no filters, connections are closed at once
	transport filter.DownstreamTransport
	connect   time.Duration // transport_socket_connect_timeout; 0: none
	drain     *drain.Drain
}

// step is a network filter before the terminal one; one of the two is set.
type step struct {
	network filter.Network
	wrapper filter.Wrapper
}

// waits says whether a connection needs a fiber before the terminal filter has it.
func (c *chain) waits() bool { return len(c.steps) > 0 || c.transport != nil }

func buildChain(p *listenerv3.FilterChain, env filter.Env) (*chain, error) {
	own := *env.Listener
	own.Drain = drain.New(env.Listener.Drain)
	env.Listener = &own
	c := &chain{name: p.GetName(), metadata: metadata(p.GetMetadata()), drain: own.Drain, connect: p.GetTransportSocketConnectTimeout().AsDuration()}
	var err error
	if c.transport, err = buildTransport(p.GetTransportSocket(), env); err != nil {
		return nil, fmt.Errorf("transport_socket: %w", err)
	}
	for i, f := range p.GetFilters() {
		v, err := buildFilter(f, env)
		if err != nil {
			c.close()
			c.end()
			return nil, fmt.Errorf("filters[%d]: %w", i, err)
		}
		if err := c.append(v, f, i == len(p.GetFilters())-1); err != nil {
			c.close()
			c.end()
			return nil, fmt.Errorf("filters[%d]: %w", i, err)
		}
	}
	return c, nil
}

// close ends what the transport socket follows, such as its certificates. Connections that there are go on.
func (c *chain) close() {
	if t, ok := c.transport.(interface{ Close() }); ok {
		t.Close()
	}
}

// end ends what the filters follow, such as their routes. No connection is left.
func (c *chain) end() {
	for _, s := range c.steps {
		closeFilter(s.network)
		closeFilter(s.wrapper)
	}
	closeFilter(c.terminal)
}

func closeFilter(f any) {
	if f, ok := f.(interface{ Close() }); ok {
		f.Close()
	}
}

func buildFilter(f *listenerv3.Filter, env filter.Env) (any, error) {
	if f.GetConfigDiscovery() != nil {
		return nil, errors.New("config_discovery: is not supported")
	}
	if f.GetTypedConfig() == nil {
		return nil, fmt.Errorf("didn't find a registered implementation for '%s' with type URL: ''", f.GetName())
	}
	env.Name = f.GetName()
	v, err := env.Extensions.Network.Build(f.GetTypedConfig(), env)
	if err != nil {
		return nil, fmt.Errorf("typed_config: %w", err)
	}
	return v, nil
}

// append sorts a filter in; Envoy insists on a terminal filter at the end and nowhere else.
func (c *chain) append(v any, f *listenerv3.Filter, last bool) error {
	kind := f.GetTypedConfig().MessageName()
	t, terminal := v.(filter.Terminal)
	switch {
	case terminal && !last:
		return fmt.Errorf("terminal filter named %s of type %s must be the last filter in a network filter chain", f.GetName(), kind)
	case terminal:
		c.terminal = t
		return nil
	case last:
		return fmt.Errorf("non-terminal filter named %s of type %s is the last filter in a network filter chain", f.GetName(), kind)
	}
	s := step{}
	s.network, _ = v.(filter.Network)
	s.wrapper, _ = v.(filter.Wrapper)
	if s.network == nil && s.wrapper == nil {
		return fmt.Errorf("%s is not a network filter", kind)
	}
	c.steps = append(c.steps, s)
	return nil
}

// buildTransport returns nil for plain TCP.
func buildTransport(p *corev3.TransportSocket, env filter.Env) (filter.DownstreamTransport, error) {
	if p == nil || p.GetTypedConfig().MessageIs((*rawv3.RawBuffer)(nil)) {
		return nil, nil
	}
	env.Name = p.GetName()
	t, err := env.Extensions.Transport.Build(p.GetTypedConfig(), env)
	if err != nil {
		return nil, fmt.Errorf("typed_config: %w", err)
	}
	return t, nil
}
