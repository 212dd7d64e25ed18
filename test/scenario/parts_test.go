package scenario

import (
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"
)

// parts is the input of `proxy`: only what the scenario is about. Whatever it does not say is as in testdata/get.txt: one listener
// on a free port with a connection manager (that waits 50 ms for a client to close rather than a second), one virtual host for all domains, and a cluster for each upstream, of its name.
//
// In every list an element {NAME: {...}} with a name of types below is the extension of that name.
type parts struct {
	server `yaml:",inline"`

	Listeners map[string]server `yaml:"listeners"` // further listeners
	Clusters  map[string]object `yaml:"clusters"`  // fields of clusters, beside those of an upstream's cluster
	Bootstrap object            `yaml:"bootstrap"` // fields of the bootstrap
}

// server is one listener.
type server struct {
	Routes      []any  `yaml:"routes"`       // of the virtual host
	Host        object `yaml:"host"`         // fields of the virtual host
	RouteConfig object `yaml:"route_config"` // fields of the route configuration, perhaps other virtual hosts
	HCM         object `yaml:"hcm"`          // fields of the connection manager
	HTTPFilters []any  `yaml:"http_filters"` // stand before the router
	Filters     []any  `yaml:"filters"`      // network filters, instead of the connection manager
	Listener    object `yaml:"listener"`     // fields of the listener
}

type object = map[string]any

var types = map[string]string{
	"access_log":                "access_loggers.file.v3.FileAccessLog",
	"connection_limit":          "filters.network.connection_limit.v3.ConnectionLimit",
	"custom_header":             "http.original_ip_detection.custom_header.v3.CustomHeaderConfig",
	"dynamic_forward_proxy":     "filters.http.dynamic_forward_proxy.v3.FilterConfig",
	"sni_dynamic_forward_proxy": "filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
	"early_header_mutation":     "http.early_header_mutation.header_mutation.v3.HeaderMutation",
	"echo":                      "filters.network.echo.v3.Echo",
	"health_check":              "filters.http.health_check.v3.HealthCheck",
	"http_connection_manager":   "filters.network.http_connection_manager.v3.HttpConnectionManager",
	"http_inspector":            "filters.listener.http_inspector.v3.HttpInspector",
	"network_direct_response":   "filters.network.direct_response.v3.Config",
	"previous_hosts":            "retry.host.previous_hosts.v3.PreviousHostsPredicate",
	"previous_priorities":       "retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
	"proxy_protocol":            "filters.listener.proxy_protocol.v3.ProxyProtocol",
	"router":                    "filters.http.router.v3.Router",
	"set_metadata":              "filters.http.set_metadata.v3.Config",
	"tcp_proxy":                 "filters.network.tcp_proxy.v3.TcpProxy",
	"xff":                       "http.original_ip_detection.xff.v3.XffConfig",
}

// parts makes a bootstrap of its parts.
func (s *scenario) parts(text string) (string, error) {
	var p parts
	if err := yaml.Unmarshal([]byte(text), &p); err != nil {
		return "", err
	}
	listeners := []any{p.listener("in")}
	for _, name := range slices.Sorted(maps.Keys(p.Listeners)) {
		listeners = append(listeners, p.Listeners[name].listener(name))
	}
	var clusters []any
	for _, name := range slices.Sorted(maps.Keys(s.upstreams)) {
		clusters = append(clusters, merge(cluster(name), p.Clusters[name]))
		delete(p.Clusters, name)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Clusters)) {
		clusters = append(clusters, merge(object{"name": name}, p.Clusters[name]))
	}
	out, err := yaml.Marshal(expand(merge(object{"static_resources": object{"listeners": listeners, "clusters": clusters}}, p.Bootstrap)))
	return string(out), err
}

func (p server) listener(name string) object {
	filters := p.Filters
	if filters == nil {
		hcm := object{"stat_prefix": name, "delayed_close_timeout": "0.05s", "http_filters": append(p.HTTPFilters, object{"router": object{}})}
		if p.HCM["scoped_routes"] == nil {
			host := merge(object{"name": "all", "domains": []any{"*"}, "routes": p.Routes}, p.Host)
			hcm["route_config"] = merge(object{"virtual_hosts": []any{host}}, p.RouteConfig)
		}
		filters = []any{object{"http_connection_manager": merge(hcm, p.HCM)}}
	}
	return merge(object{"name": name, "address": endpoint(0), "filter_chains": []any{object{"filters": filters}}}, p.Listener)
}

func endpoint(port any) object {
	return object{"socket_address": object{"address": "127.0.0.1", "port_value": port}}
}

// cluster is that of an upstream.
func cluster(name string) object {
	host := object{"endpoint": object{"address": endpoint("{{" + name + "}}")}}
	return object{"name": name, "load_assignment": object{"cluster_name": name, "endpoints": []any{object{"lb_endpoints": []any{host}}}}}
}

// merge lays the fields of over upon those of o; lists are replaced, and null takes a field away.
func merge(o, over object) object {
	out := maps.Clone(o)
	for k, v := range over {
		below, ok := out[k].(object)
		if m, same := v.(object); ok && same {
			v = merge(below, m)
		}
		if out[k] = v; v == nil {
			delete(out, k)
		}
	}
	return out
}

// expand writes out short names of extensions, of addresses (`port: NAME`) and of endpoints (`endpoint: NAME`).
func expand(v any) any {
	switch v := v.(type) {
	case object:
		for k, e := range v {
			v[k] = expand(e)
		}
		if name, ok := v["port"].(string); ok && len(v) == 1 {
			return endpoint("{{" + name + "}}")
		}
	case []any:
		for i, e := range v {
			v[i] = expand(extension(e))
		}
	}
	return v
}

func extension(e any) any {
	m, ok := e.(object)
	if !ok || len(m) != 1 {
		return e
	}
	for name, config := range m {
		fields, isObject := config.(object)
		if t := types[name]; t != "" && isObject {
			typed := merge(object{"@type": "type.googleapis.com/envoy.extensions." + t}, fields)
			return object{"name": fmt.Sprint("envoy.", name), "typed_config": typed}
		}
	}
	return e
}
