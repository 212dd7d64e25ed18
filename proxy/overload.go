package proxy

import (
	"errors"
	"fmt"

	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
)

// parseOverload reads the one resource monitor that there is: that of downstream connections. No action can be triggered by it, so those
// that are configured never are, as in Envoy.
func (c *config) parseOverload(p *overloadv3.OverloadManager) error {
	for i, r := range p.GetResourceMonitors() {
		m, _, err := protofile.Unpack(r.GetTypedConfig())
		d, ok := m.(*connectionsv3.DownstreamConnectionsConfig)
		switch {
		case err != nil || !ok:
			return fmt.Errorf("resource_monitors[%d]: didn't find a registered implementation for '%s' with type URL '%s'", i, r.GetName(), r.GetTypedConfig().GetTypeUrl())
		case c.maxConnections > 0:
			return fmt.Errorf("resource_monitors[%d]: duplicate resource monitor %s", i, r.GetName())
		}
		if c.maxConnections = d.GetMaxActiveDownstreamConnections(); c.maxConnections <= 0 {
			return errors.New("resource_monitors: max_active_downstream_connections must be more than 0")
		}
	}
	return nil
}
