package admin

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
	"github.com/outrigger-proxy/outrigger/internal/transport"
	"github.com/outrigger-proxy/outrigger/listener"
)

func configDump(s *Server, w *response, r *http.Request) {
	q := r.URL.Query()
	name, err := regexp.Compile(q.Get("name_regex"))
	if err != nil {
		w.failf(http.StatusBadRequest, "Error while parsing name_regex from %s", q.Get("name_regex"))
		return
	}
	parts, err := s.dump(name, q.Has("include_eds"))
	if err == nil && q.Get("resource") != "" {
		parts, err = pickResource(parts, q.Get("resource"))
	}
	if err == nil && q.Get("mask") != "" {
		parts, err = maskAll(parts, q.Get("mask"))
	}
	if err != nil {
		status := http.StatusBadRequest
		if nf := (*notFoundError)(nil); errors.As(err, &nf) {
			status = http.StatusNotFound
		}
		w.failf(status, "%v", err)
		return
	}
	dump := &adminv3.ConfigDump{}
	for _, p := range parts {
		redact(p.ProtoReflect())
		a, err := anypb.New(p)
		if err != nil {
			w.failf(http.StatusInternalServerError, "%v", err)
			return
		}
		dump.Configs = append(dump.Configs, a)
	}
	w.proto(dump, false)
}

// dump returns the parts of the configuration, restricted to resources whose name matches.
func (s *Server) dump(name *regexp.Regexp, endpoints bool) (parts []proto.Message, err error) {
	bootstrap := proto.CloneOf(s.Bootstrap)
	bootstrap.Node = s.Node
	clusters, assigned := &adminv3.ClustersConfigDump{}, &adminv3.EndpointsConfigDump{}
	var all known
	s.Control.Do(func() {
		all = s.known()
		clusters.VersionInfo = s.Dynamic.Version(CDS)
		s.Clusters.EachVersion(func(c *cluster.Cluster, warming bool) {
			if name.MatchString(c.Name) {
				err = dumpCluster(clusters, c, warming, err)
				err = all.dumpEndpoints(assigned, c, warming, err)
			}
		})
		all.clusterFailures(clusters, name)
	})
	listeners, routes := &adminv3.ListenersConfigDump{}, &adminv3.RoutesConfigDump{}
	s.eachListener(func(v listener.View) {
		if name.MatchString(v.Name) {
			err = dumpListener(listeners, v, err)
		}
		err = dumpRoutes(routes, v, name, err)
	})
	s.Control.Do(func() {
		listeners.VersionInfo = s.Dynamic.Version(LDS)
		all.listenerFailures(listeners, name)
		if s.Routes != nil {
			s.Routes.Each(func(v filter.RouteView) {
				if name.MatchString(v.Name) {
					err = all.dumpRoute(routes, v, err)
				}
			})
		}
	})
	parts = []proto.Message{&adminv3.BootstrapConfigDump{Bootstrap: bootstrap, LastUpdated: timestamppb.New(s.Started)}, clusters}
	if endpoints {
		parts = append(parts, assigned)
	}
	secrets := &adminv3.SecretsConfigDump{}
	s.Control.Do(func() { err = all.dumpSecrets(secrets, s.Secrets, name, s.Started, err) })
	return append(parts, listeners, &adminv3.ScopedRoutesConfigDump{}, routes, secrets), err
}

// dumpSecrets shows secrets without their keys.
func (k known) dumpSecrets(d *adminv3.SecretsConfigDump, all *transport.Secrets, name *regexp.Regexp, started time.Time, failed error) error {
	for _, p := range all.Static() {
		if !name.MatchString(p.GetName()) {
			continue
		}
		a, err := anypb.New(transport.Redacted(p))
		failed = errors.Join(failed, err)
		d.StaticSecrets = append(d.StaticSecrets, &adminv3.SecretsConfigDump_StaticSecret{Name: p.GetName(), LastUpdated: timestamppb.New(started), Secret: a})
	}
	for _, p := range all.Dynamic() {
		if !name.MatchString(p.Name) {
			continue
		}
		s := &adminv3.SecretsConfigDump_DynamicSecret{
			Name: p.Name, VersionInfo: p.Version, LastUpdated: timestamppb.New(p.Updated), ErrorState: k.failure(subscription.Secrets(), p.Name),
		}
		if p.Secret == nil {
			a, err := anypb.New(&tlsv3.Secret{Name: p.Name})
			failed = errors.Join(failed, err)
			s.VersionInfo, s.Secret = "uninitialized", a
			d.DynamicWarmingSecrets = append(d.DynamicWarmingSecrets, s)
			continue
		}
		a, err := anypb.New(transport.Redacted(p.Secret))
		failed = errors.Join(failed, err)
		s.Secret = a
		d.DynamicActiveSecrets = append(d.DynamicActiveSecrets, s)
	}
	return failed
}

// Each of the functions below adds to a dump, unless something has failed before.

func dumpCluster(d *adminv3.ClustersConfigDump, c *cluster.Cluster, warming bool, failed error) error {
	if failed != nil {
		return failed
	}
	a, err := anypb.New(c.Proto)
	if c.Static {
		d.StaticClusters = append(d.StaticClusters, &adminv3.ClustersConfigDump_StaticCluster{Cluster: a, LastUpdated: timestamppb.New(c.Updated)})
		return err
	}
	one := &adminv3.ClustersConfigDump_DynamicCluster{Cluster: a, LastUpdated: timestamppb.New(c.Updated), VersionInfo: c.Version}
	if warming {
		d.DynamicWarmingClusters = append(d.DynamicWarmingClusters, one)
	} else {
		d.DynamicActiveClusters = append(d.DynamicActiveClusters, one)
	}
	return err
}

func dumpListener(d *adminv3.ListenersConfigDump, v listener.View, failed error) error {
	if failed != nil {
		return failed
	}
	a, err := anypb.New(v.Proto)
	updated := timestamppb.New(v.Updated)
	if v.Static {
		d.StaticListeners = append(d.StaticListeners, &adminv3.ListenersConfigDump_StaticListener{Listener: a, LastUpdated: updated})
		return err
	}
	state := &adminv3.ListenersConfigDump_DynamicListenerState{Listener: a, LastUpdated: updated, VersionInfo: v.Version}
	l := dynamicListener(d, v.Name)
	switch v.State {
	case listener.Warming:
		l.WarmingState = state
	case listener.Active:
		l.ActiveState = state
	case listener.Draining:
		l.DrainingState = state
	}
	return err
}

// dynamicListener returns the entry that all states of a listener share.
func dynamicListener(d *adminv3.ListenersConfigDump, name string) *adminv3.ListenersConfigDump_DynamicListener {
	for _, l := range d.GetDynamicListeners() {
		if l.GetName() == name {
			return l
		}
	}
	l := &adminv3.ListenersConfigDump_DynamicListener{Name: name}
	d.DynamicListeners = append(d.DynamicListeners, l)
	return l
}

// dumpRoutes adds the route tables that stand in a listener's connection managers.
func dumpRoutes(d *adminv3.RoutesConfigDump, v listener.View, name *regexp.Regexp, failed error) error {
	if failed != nil {
		return failed
	}
	for _, table := range inlineRoutes(v.Proto) {
		if !name.MatchString(table.GetName()) {
			continue
		}
		a, err := anypb.New(table)
		if err != nil {
			return err
		}
		d.StaticRouteConfigs = append(d.StaticRouteConfigs, &adminv3.RoutesConfigDump_StaticRouteConfig{
			RouteConfig: a, LastUpdated: timestamppb.New(v.Updated),
		})
	}
	return nil
}

func inlineRoutes(l *listenerv3.Listener) (tables []*routev3.RouteConfiguration) {
	chains := l.GetFilterChains()
	if c := l.GetDefaultFilterChain(); c != nil {
		chains = append(slices.Clip(chains), c)
	}
	for _, c := range chains {
		for _, f := range c.GetFilters() {
			m := &hcmv3.HttpConnectionManager{}
			if f.GetTypedConfig().MessageIs(m) && f.GetTypedConfig().UnmarshalTo(m) == nil && m.GetRouteConfig() != nil {
				tables = append(tables, m.GetRouteConfig())
			}
		}
	}
	return tables
}

// notFoundError says that a dump has no such resource: 404.
type notFoundError struct{ resource string }

func (e *notFoundError) Error() string { return e.resource + " not found in config dump" }

// pickResource returns the elements of the repeated field of that name, of whichever part has it.
func pickResource(parts []proto.Message, resource string) ([]proto.Message, error) {
	for _, p := range parts {
		m := p.ProtoReflect()
		f := m.Descriptor().Fields().ByName(protoreflect.Name(resource))
		if f == nil {
			continue
		}
		if !f.IsList() {
			return nil, fmt.Errorf("%s is not a repeated field. Use ?mask=%s to get only this field", resource, resource)
		}
		list := m.Get(f).List()
		out := make([]proto.Message, 0, list.Len())
		for i := range list.Len() {
			out = append(out, list.Get(i).Message().Interface())
		}
		return out, nil
	}
	return nil, &notFoundError{resource}
}

// maskAll leaves the fields of a mask, such as "bootstrap.node.id,last_updated", of each part that has one of them.
func maskAll(parts []proto.Message, mask string) (out []proto.Message, err error) {
	for _, p := range parts {
		kept := p.ProtoReflect().New()
		applied := false
		for path := range strings.SplitSeq(mask, ",") {
			applied = keep(kept, p.ProtoReflect(), strings.Split(strings.TrimSpace(path), ".")) || applied
		}
		if applied {
			out = append(out, kept.Interface())
		}
	}
	if out == nil {
		return nil, fmt.Errorf("FieldMask %s could not be successfully applied to any configs", mask)
	}
	return out, nil
}
