package proxy

import (
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/filter"
)

// parseNode completes the node: the flags count more than the bootstrap, as in Envoy, and the build says who it is and what it can.
func parseNode(n *corev3.Node, flags *adminv3.CommandLineOptions, e *filter.Extensions) *corev3.Node {
	if n == nil {
		n = &corev3.Node{}
	}
	n = proto.CloneOf(n)
	if v := flags.GetServiceNode(); v != "" {
		n.Id = v
	}
	if v := flags.GetServiceCluster(); v != "" {
		n.Cluster = v
	}
	if z := flags.GetServiceZone(); z != "" {
		if n.Locality == nil {
			n.Locality = &corev3.Locality{}
		}
		n.Locality.Zone = z
	}
	n.UserAgentName = "envoy"
	n.UserAgentVersionType = &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{
		Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40},
	}}
	n.Extensions = nodeExtensions(e)
	return n
}

// nodeExtensions lists the extensions that there are, by category and name, as a control plane and /server_info see them.
func nodeExtensions(e *filter.Extensions) (all []*corev3.Extension) {
	if e == nil {
		return nil
	}
	for _, c := range []struct {
		category string
		types    []string
	}{
		{"envoy.access_loggers", e.Log.Types()},
		{"envoy.access_loggers.extension_filters", e.LogFilter.Types()},
		{"envoy.filters.http", e.HTTP.Types()},
		{"envoy.filters.listener", e.Listener.Types()},
		{"envoy.filters.network", e.Network.Types()},
		{"envoy.http.early_header_mutation", e.EarlyMutation.Types()},
		{"envoy.http.original_ip_detection", e.IPDetection.Types()},
		{"envoy.http.stateful_session", e.SessionState.Types()},
		{"envoy.transport_sockets.downstream", e.Transport.Types()},
		{"envoy.transport_sockets.upstream", e.Upstream.Types()},
	} {
		for _, t := range c.types {
			all = append(all, &corev3.Extension{Name: extensionName(t), Category: c.category, TypeUrls: []string{t}})
		}
	}
	return all
}

// oddNames are the extensions whose name does not follow from the package of their configuration.
var oddNames = map[string]string{
	"envoy.extensions.access_loggers.stream.v3.StderrAccessLog":                           "envoy.access_loggers.stderr",
	"envoy.extensions.access_loggers.stream.v3.StdoutAccessLog":                           "envoy.access_loggers.stdout",
	"envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport": "envoy.transport_sockets.upstream_proxy_protocol",
}

// extensionName is Envoy's name of the extension that a message type configures: envoy.extensions.filters.http.router.v3.Router belongs to
// envoy.filters.http.router. Of a type that is not Envoy's the package is the name.
func extensionName(messageType string) string {
	if n, odd := oddNames[messageType]; odd {
		return n
	}
	name := messageType[:strings.LastIndexByte(messageType, '.')]
	if rest, ok := strings.CutPrefix(name, "envoy.extensions."); ok {
		name = "envoy." + rest
	}
	if i := strings.LastIndex(name, ".v"); i >= 0 {
		name = name[:i]
	}
	return name
}
