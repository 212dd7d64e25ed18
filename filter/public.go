package filter

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// What follows are the names by which a filter outside of this module says what the contracts mention: a program of its own calls
// all.Extensions, adds its filters and hands the tables to proxy.Main, as examples/filter does.

// A message as a filter sees it.
type (
	// Request is what a client asks: method, path, authority, headers, body, trailers.
	Request = stream.Request
	// Response is what it gets.
	Response = stream.Response
	// Headers is an ordered header map; names are in lower case.
	Headers = header.Map
	// Field is one header line.
	Field = header.Field
	// Body is pulled, piece by piece; nil: the head ends the message.
	Body = stream.Body
	// Bytes is a body that is all there.
	Bytes = stream.Bytes
	// Joined is a body that begins with what a filter has looked at and goes on with what it has not.
	Joined = stream.Joined
	// Tap is a body that shows each piece as it passes.
	Tap = stream.Tap
)

// What is known of a stream.
type (
	// Record is a stream or a connection as access loggers see it.
	Record = stream.Stream
	// Info is what is known of a stream (Envoy: StreamInfo).
	Info = stream.Info
	// ConnInfo is what is known of its connection.
	ConnInfo = stream.Conn
	// UpstreamInfo is what is known of the last attempt.
	UpstreamInfo = stream.Upstream
	// Flags is a set of response flags.
	Flags = stream.Flags
	// GRPCStatus is a grpc-status: 0 to 16, or a service's own.
	GRPCStatus = grpc.Status
	// Metadata is dynamic or static metadata.
	Metadata = stream.Metadata
	// State holds objects that filters share (Envoy: FilterState).
	State = stream.FilterState
	// Address is one end of a connection.
	Address = stream.Address
)

// The response flags that filters set.
const (
	DelayInjected               = stream.DelayInjected
	FaultInjected               = stream.FaultInjected
	RateLimited                 = stream.RateLimited
	RateLimitServiceError       = stream.RateLimitServiceError
	UnauthorizedExternalService = stream.UnauthorizedExternalService
	ResponseFromCacheFilter     = stream.ResponseFromCacheFilter
)

// What a filter counts, in a struct whose fields are named by tags (`stat:"denied"`) and made by NewStats.
type (
	// Scope is a place in the tree of statistics.
	Scope = stats.Scope
	// Counter only grows.
	Counter = stats.Counter
	// Gauge goes up and down.
	Gauge = stats.Gauge
	// Histogram is a distribution.
	Histogram = stats.Histogram
)

// What a filter waits with. A filter must never block its thread: no channel, mutex under contention, time.Sleep, file, DNS or
// net.Conn; Await runs such work elsewhere.
type (
	// Worker is the event loop that a connection lives on. Its Go, Sleep and Now take the place of the language's.
	Worker = fiber.Worker
	// NetConn is a connection whose Read and Write wait without blocking the worker.
	NetConn = fiber.Conn
	// Task is a second fiber, which whoever starts it joins.
	Task = fiber.Task
	// Cond is how fibers of one worker wait for each other.
	Cond = fiber.Cond
	// Time is a point in the time of a worker, in nanoseconds; zero: never.
	Time = fiber.Time
)

// NewStats returns the statistics that the fields of T name, below s. Factories call it: a filter holds the result.
func NewStats[T any](s Scope) *T { return stats.New[T](s) }

// Buffer reads b to its end and returns a body that is all there; ok is false if it is longer than limit, and then what was read
// is in all, to be followed (Joined) by what b has left.
func Buffer(b Body, limit int) (all *Bytes, ok bool, err error) { return stream.Buffer(b, limit) }

// Await runs f, which may block and heeds ctx, on a goroutine, and waits for it without blocking the worker.
func Await[T any](w *Worker, f func(ctx context.Context) (T, error)) (T, error) {
	return fiber.Await(w, f)
}

// AddListener registers a listener filter by the message that configures it. Registering a message twice panics, here and below.
func AddListener[M proto.Message](e *Extensions, build func(M, Env) (ListenerFilter, error)) {
	extension.Add(&e.Listener, build)
}

// AddNetwork registers a network filter: build returns a Network, a Wrapper or a Terminal.
func AddNetwork[M proto.Message](e *Extensions, build func(M, Env) (any, error)) {
	extension.Add(&e.Network, build)
}

// AddHTTP registers an HTTP filter: build returns a value with any of the hooks, or an HTTPTerminal.
func AddHTTP[M proto.Message](e *Extensions, build func(M, Env) (any, error)) {
	extension.Add(&e.HTTP, build)
}

// AddPerRoute registers what typed_per_filter_config may hold for a filter, which finds what build returned with
// Stream.Route.FilterConfig and its own name.
func AddPerRoute[M proto.Message](e *Extensions, build func(M, Env) (any, error)) {
	extension.Add(&e.PerRoute, build)
}

// AddLog registers an access logger.
func AddLog[M proto.Message](e *Extensions, build func(M, Env) (AccessLog, error)) {
	extension.Add(&e.Log, build)
}

// AddLogFilter registers a filter of access logs.
func AddLogFilter[M proto.Message](e *Extensions, build func(M, Env) (LogFilter, error)) {
	extension.Add(&e.LogFilter, build)
}

// AddEarlyMutation registers a mutation of request heads before a route is chosen (envoy.http.early_header_mutation).
func AddEarlyMutation[M proto.Message](e *Extensions, build func(M, Env) (EarlyMutation, error)) {
	extension.Add(&e.EarlyMutation, build)
}

// AddIPDetection registers a way to find the address of the client (envoy.http.original_ip_detection).
func AddIPDetection[M proto.Message](e *Extensions, build func(M, Env) (IPDetection, error)) {
	extension.Add(&e.IPDetection, build)
}

// AddSessionState registers a way to tie clients to hosts (envoy.http.stateful_session).
func AddSessionState[M proto.Message](e *Extensions, build func(M, Env) (SessionState, error)) {
	extension.Add(&e.SessionState, build)
}

// AddTransport registers a downstream transport socket by its message type.
func AddTransport[M proto.Message](e *Extensions, build func(M, Env) (DownstreamTransport, error)) {
	extension.Add(&e.Transport, build)
}

// AddUpstream registers an upstream transport socket by its message type.
func AddUpstream[M proto.Message](e *Extensions, build func(M, cluster.TransportEnv) (cluster.TransportSocket, error)) {
	extension.Add(&e.Upstream, build)
}
