// Package subscription is the contract between those who want resources of a control plane and whoever brings them: managers of
// clusters, listeners, routes and secrets name what they want, package xdsclient brings it. Everything here belongs to the control loop.
package subscription

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// Type is a kind of resource, and how a server is asked for it.
type Type struct {
	// URL is the type URL of the message.
	URL string
	// NameField is the field of the message that holds a resource's name.
	NameField string
	// Service is the full name of the gRPC service for streams of this type alone; its methods are Stream, Delta and Method.
	Service, Method string
	// REST is what stands after /v3/discovery: in the path of the REST service.
	REST string
}

const (
	urls     = "type.googleapis.com/envoy."
	services = "envoy.service."
)

// Clusters are envoy.config.cluster.v3.Cluster (CDS).
func Clusters() Type {
	return Type{urls + "config.cluster.v3.Cluster", "name", services + "cluster.v3.ClusterDiscoveryService", "Clusters", "clusters"}
}

// Endpoints are envoy.config.endpoint.v3.ClusterLoadAssignment (EDS).
func Endpoints() Type {
	return Type{urls + "config.endpoint.v3.ClusterLoadAssignment", "cluster_name", services + "endpoint.v3.EndpointDiscoveryService", "Endpoints", "endpoints"}
}

// Listeners are envoy.config.listener.v3.Listener (LDS).
func Listeners() Type {
	return Type{urls + "config.listener.v3.Listener", "name", services + "listener.v3.ListenerDiscoveryService", "Listeners", "listeners"}
}

// Routes are envoy.config.route.v3.RouteConfiguration (RDS).
func Routes() Type {
	return Type{urls + "config.route.v3.RouteConfiguration", "name", services + "route.v3.RouteDiscoveryService", "Routes", "routes"}
}

// Secrets are envoy.extensions.transport_sockets.tls.v3.Secret (SDS).
func Secrets() Type {
	return Type{urls + "extensions.transport_sockets.tls.v3.Secret", "name", services + "secret.v3.SecretDiscoveryService", "Secrets", "secrets"}
}

// Runtimes are envoy.service.runtime.v3.Runtime (RTDS).
func Runtimes() Type {
	return Type{urls + "service.runtime.v3.Runtime", "name", services + "runtime.v3.RuntimeDiscoveryService", "Runtime", "runtime"}
}

// Extensions are envoy.config.core.v3.TypedExtensionConfig (ECDS).
func Extensions() Type {
	return Type{urls + "config.core.v3.TypedExtensionConfig", "name", services + "extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs", "extension_configs"}
}

// Resource is one resource of an update.
type Resource struct {
	Name string
	// Version is the resource's own where the protocol has one, else that of the response.
	Version string
	// Message is the resource; nil if Same. It may be kept, and is not to be changed.
	Message proto.Message
	// Same says that it means the same as the one that was accepted before.
	Same bool
}

// Update is what a response has for one watcher.
type Update struct {
	Version   string
	Resources []Resource
	// Removed are the names of resources that are not there (any more).
	Removed []string
	// Refused are resources that cannot be read, or do not keep the rules of their message: the answer names them anyway.
	Refused []ResourceError
	// Complete says that Resources are all that there are: what is not among them is gone.
	Complete bool
}

// Watcher is told what becomes of the resources that it wants. It is called on the control loop.
type Watcher interface {
	// Update takes an update in. Its error rejects the update as a whole, or, if it is a *RejectedError, the resources that it names.
	Update(u *Update) error
	// Failed says that nothing has come in the initial_fetch_timeout, or nothing that could be taken: nobody shall wait for it any longer.
	Failed()
}

// RejectedError is the error of an update of which some resources are not good; the others were taken.
type RejectedError struct {
	What      string // begins the text, such as "Error adding/updating cluster(s)"
	Resources []ResourceError
}

// ResourceError says what is wrong with a resource.
type ResourceError struct {
	Name string
	Err  error
}

// Error names every resource and its reason.
func (r *RejectedError) Error() string {
	var b strings.Builder
	b.WriteString(r.What)
	for i, e := range r.Resources {
		if i > 0 {
			b.WriteByte(',')
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		if e.Name != "" {
			b.WriteString(e.Name + ": ")
		}
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Add notes a resource that is not good.
func (r *RejectedError) Add(name string, err error) {
	r.Resources = append(r.Resources, ResourceError{name, err})
}

// Err is r, or nil if it names nothing.
func (r *RejectedError) Err() error {
	if len(r.Resources) == 0 {
		return nil
	}
	return r
}

// Wish is what a watcher wants.
type Wish struct {
	Type  Type
	Names []string // empty: all there are
	// Scope is where the subscription counts: Stats.
	Scope   stats.Scope
	Watcher Watcher
}

// Subscription is a wish that is being fulfilled.
type Subscription interface {
	// Start begins; the watcher may be called before it returns.
	Start()
	// Close ends it: the watcher is not called any more.
	Close()
}

// Source brings resources.
type Source interface {
	// Subscribe looks at where the configuration says that the resources come from. The error begins with the field of from.
	Subscribe(from *corev3.ConfigSource, w Wish) (Subscription, error)
}

// Stats are what every subscription counts.
type Stats struct {
	InitFetchTimeout stats.Counter   `stat:"init_fetch_timeout"`
	Attempt          stats.Counter   `stat:"update_attempt"`
	Failure          stats.Counter   `stat:"update_failure"`
	Rejected         stats.Counter   `stat:"update_rejected"`
	Success          stats.Counter   `stat:"update_success"`
	Duration         stats.Histogram `stat:"update_duration"`
	Time             stats.Gauge     `stat:"update_time"`
	Version          stats.Gauge     `stat:"version"`
	VersionText      stats.Text      `stat:"version_text"`
}
