// Package filter holds the contracts of listener, network and HTTP filters and of access loggers: what an extension implements,
// what it is given, and nothing that knows a particular extension.
package filter

import (
	"net/netip"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/internal/drain"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/internal/logfile"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
	"github.com/outrigger-proxy/outrigger/internal/transport"
)

// Status is what a hook answers.
type Status uint8

// The statuses. There are no others: a filter that must wait, waits.
const (
	Continue Status = iota
	Stop
)

// Process is what all factories of one process share.
type Process struct {
	Workers    []*fiber.Worker
	Clusters   *cluster.Manager
	Stats      *stats.Store
	Runtime    *runtime.Loader
	Logs       *log.Set
	Files      *logfile.Set
	Secrets    *transport.Secrets
	Resources  subscription.Source // what a control plane sends; nil: there is none
	Routes     *Routes
	Extensions *Extensions
	Node       Node
}

// Node is the identity of this proxy (envoy.config.core.v3.Node), as far as filters speak of it.
type Node struct {
	ID, Cluster           string
	Region, Zone, Subzone string
	Metadata              stream.Metadata
}

// Env is the place that a factory builds for.
type Env struct {
	*Process

	// Listener is what the filter is a part of.
	Listener *Listener
	// Scope is where an HTTP filter counts: http.<stat_prefix>. of its connection manager.
	Scope stats.Scope
	// Slots counts the slots of the HTTP chain under construction; NewSlot takes the next one.
	Slots *int
	// Name is the configured name of the filter: per-route configuration is found by it.
	Name string
}

// ExtensionName is the name in errors about an extension that is not registered.
func (e Env) ExtensionName() string { return e.Name }

// Listener is what filters know of their listener.
type Listener struct {
	Name     string
	Address  stream.Address
	Inbound  bool // traffic_direction
	Outbound bool
	Metadata stream.Metadata
	Scope    stats.Scope // listener.<address>.
	Drain    *drain.Drain
	Workers  int
	// BufferLimit is per_connection_buffer_limit_bytes: what a filter that must have a whole body may keep of it.
	BufferLimit uint32
	// Warm is called by a factory that cannot serve yet, such as one that waits for its routes: the listener takes no connection
	// before ready is called, on the control loop. It may be called while building only.
	Warm func() (ready func())
}

// Extensions are the tables of one process: message type -> factory. filter/all fills them with ours, and the Add functions with anybody's.
type Extensions struct {
	Listener  extension.Registry[ListenerFilter, Env]
	Network   extension.Registry[any, Env] // builds a Network, a Wrapper or a Terminal
	Transport extension.Registry[DownstreamTransport, Env]
	Upstream  extension.Registry[cluster.TransportSocket, cluster.TransportEnv] // transport sockets of clusters
	HTTP      extension.Registry[any, Env]                                      // builds a value with any of the hooks, or an HTTPTerminal
	PerRoute  extension.Registry[any, Env]                                      // typed_per_filter_config
	Log       extension.Registry[AccessLog, Env]
	LogFilter extension.Registry[LogFilter, Env]
	// EarlyMutation and IPDetection are the extension points of the connection manager before a route is chosen.
	EarlyMutation extension.Registry[EarlyMutation, Env]
	IPDetection   extension.Registry[IPDetection, Env]
	// SessionState is the extension point of stateful_session.
	SessionState extension.Registry[SessionState, Env]
}

// EarlyMutation changes the head of a request before anything else looks at it; false: the mutations after it are left out.
type EarlyMutation interface{ Mutate(s *stream.Stream) bool }

// IPDetection finds the address of the client in the head of a request (envoy.http.original_ip_detection).
type IPDetection interface {
	Detect(q *stream.Request, remote netip.AddrPort) Detected
}

// Detected is what an IPDetection has found.
type Detected struct {
	Address       netip.Addr // not valid: nothing found
	Trusted       bool       // the address may make the request an internal one
	SkipXFFAppend bool       // the address of the peer is not appended to x-forwarded-for
	Reject        int        // status of the local reply that refuses the request; 0: go on
}

// SessionState ties the requests of a client to a host by what it tells the client (envoy.http.stateful_session).
type SessionState interface {
	// Read returns the address that the request carries, empty if it carries none; ok is false for requests that have no session.
	Read(s *Stream) (address string, ok bool)
	// Write tells the client in the response which host has served it, if it has to. asked is what Read has returned. moved says that
	// the session has another host now, for statistics.
	Write(s *Stream, asked, host string) (moved bool)
}

// AccessLog is told of a stream or of a connection when it has ended. It runs on the worker and must not wait.
type AccessLog interface{ Log(s *stream.Stream) }

// LogFilter says whether an access log wants to hear of s.
type LogFilter interface{ Keep(s *stream.Stream) bool }

// Any is a typed configuration.
type Any = anypb.Any
