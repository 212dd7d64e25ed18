package cluster

import (
	"strings"
	"sync/atomic"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	overridev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/override_host/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"

	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// overrideOptions let a request name its hosts (envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost).
type overrideOptions struct {
	sources  []overrideSource
	selected []string // selected_host_key: namespace, then the path of keys; nil: none
}

// overrideSource is a header, or else metadata: namespace, then the path of keys.
type overrideSource struct {
	header   string
	metadata []string
}

func (o *config) overrideHost(p *overridev3.OverrideHost) error {
	if o.lb.override != nil {
		return refused("fallback_policy", "an override_host policy within another is not supported")
	}
	v := &overrideOptions{selected: metadataPath(p.GetSelectedHostKey())}
	for _, s := range p.GetOverrideHostSources() {
		switch {
		case s.GetHeader() == "" && s.GetMetadata() == nil:
			return refused("override_host_sources", "Empty override source")
		case s.GetHeader() != "" && s.GetMetadata() != nil:
			return refused("override_host_sources", "Only one override source must be set")
		}
		v.sources = append(v.sources, overrideSource{strings.ToLower(s.GetHeader()), metadataPath(s.GetMetadata())})
	}
	o.lb.override = v
	if err := o.typedLB(p.GetFallbackPolicy()); err != nil {
		return refused("fallback_policy", err.Error())
	}
	return nil
}

func metadataPath(k *metadatav3.MetadataKey) (path []string) {
	if k == nil {
		return nil
	}
	path = []string{k.GetKey()}
	for _, s := range k.GetPath() {
		path = append(path, s.GetKey())
	}
	return path
}

// parseStatuses reads which hosts may be wanted by filters (override_host_status).
func (o *config) parseStatuses(common *clusterv3.Cluster_CommonLbConfig) {
	list := []corev3.HealthStatus{corev3.HealthStatus_UNKNOWN, corev3.HealthStatus_HEALTHY, corev3.HealthStatus_DEGRADED}
	if p := common.GetOverrideHostStatus(); p != nil {
		list = p.GetStatuses()
	}
	for _, s := range list {
		switch s {
		case corev3.HealthStatus_UNKNOWN, corev3.HealthStatus_HEALTHY:
			o.lb.statuses[Healthy] = true
		case corev3.HealthStatus_DEGRADED:
			o.lb.statuses[Degraded] = true
		case corev3.HealthStatus_UNHEALTHY:
			o.lb.statuses[Unhealthy] = true
		case corev3.HealthStatus_DRAINING:
			o.lb.statuses[Draining] = true
		case corev3.HealthStatus_TIMEOUT:
			o.lb.statuses[Timeout] = true
		}
	}
}

// index finds hosts by address. It is made when somebody asks.
type index struct {
	// atomic
	hosts atomic.Pointer[map[string]*Host]
}

func (v *hosts) find(address string) *Host {
	m := v.index.hosts.Load()
	if m == nil {
		m = &map[string]*Host{}
		for _, h := range v.list {
			(*m)[h.Address.String()] = h
		}
		v.index.hosts.Store(m)
	}
	return (*m)[address]
}

// Wanted returns the host at an address that a filter wants a request to go to, such as a stateful session does: nil if it is not there,
// or (then found is set) if its health is none that common_lb_config.override_host_status allows.
func (c *Cluster) Wanted(address string) (h *Host, found bool) {
	if h = c.hosts.Load().find(address); h == nil {
		return nil, false
	}
	if !c.config.lb.statuses[h.status()] {
		return nil, true
	}
	return h, true
}

// Override returns the next host that the request names where the cluster has an override_host policy; nil: it names none, or the list
// is used up, and Pick has to choose. next is how much of the list was used; begin with 0. h is nil for TCP.
func (c *Cluster) Override(i *stream.Info, h *header.Map, next int) (host *Host, used int) {
	o := c.config.lb.override
	if o == nil {
		return nil, 0
	}
	v := c.hosts.Load()
	for s := range o.sources {
		for address := range strings.SplitSeq(o.sources[s].read(i, h), ",") {
			if address = strings.TrimSpace(address); address == "" {
				continue
			}
			if used++; used <= next {
				continue
			}
			if host = v.find(address); host != nil {
				return host, used
			}
		}
	}
	return nil, used
}

func (s *overrideSource) read(i *stream.Info, h *header.Map) string {
	if s.header != "" {
		if h == nil {
			return ""
		}
		v, _ := h.Get(s.header)
		return v
	}
	v, _ := find(i.Metadata, s.metadata)
	return v
}

// Selected writes down which host was chosen, where the cluster has an override_host policy with a selected_host_key.
func (c *Cluster) Selected(i *stream.Info, h *Host) {
	o := c.config.lb.override
	if o == nil || len(o.selected) < 2 {
		return
	}
	var v any = h.Address.String()
	for n := len(o.selected) - 1; n > 1; n-- {
		v = map[string]any{o.selected[n]: v}
	}
	i.Metadata.Set(o.selected[0], o.selected[1], v)
}
