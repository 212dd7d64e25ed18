package dynamicforwardproxy

import (
	"time"

	forwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
)

type config struct {
	saveAddress bool
	fromState   bool          // allow_dynamic_host_from_filter_state
	patience    time.Duration // cluster_init_timeout
}

// rewrite is what a route says of the host.
type rewrite struct{ host, header string }

func parse(p *forwardv3.FilterConfig) *config {
	c := &config{saveAddress: p.GetSaveUpstreamAddress(), fromState: p.GetAllowDynamicHostFromFilterState(), patience: 5 * time.Second}
	if t := p.GetSubClusterConfig().GetClusterInitTimeout(); t != nil {
		c.patience = t.AsDuration()
	}
	return c
}
