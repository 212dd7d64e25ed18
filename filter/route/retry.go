package route

import (
	"slices"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Retry is a retry policy (envoy.config.route.v3.RetryPolicy).
type Retry struct {
	On         Condition
	NumRetries int           // default 1
	PerTry     time.Duration // Unset or 0: none
	PerTryIdle time.Duration // Unset or 0: none

	StatusCodes    []int         // for retriable-status-codes
	Headers        match.Headers // of the response, for retriable-headers: any of them
	RequestHeaders match.Headers // a retry needs any of them; empty: no such need

	// Back off between attempts: Base doubles up to Max, fully jittered. Defaults 25 ms and ten times Base.
	Base, Max time.Duration
	// RateLimited: the response says when to come again.
	ResetHeaders []ResetHeader
	ResetMax     time.Duration // default 5 min

	// HostAttempts is how often another host is drawn when a predicate rejects one; default 1.
	HostAttempts   int
	PreviousHosts  bool              // predicate: not a host that was tried
	OmitCanary     bool              // predicate: not a canary
	OmitHosts      []stream.Metadata // predicate: not a host with this metadata
	PreviousPriors int               // previous_priorities.update_frequency; 0: none
}

// ResetHeader is a header that says how long to wait.
type ResetHeader struct {
	Name string // lower case
	Unix bool   // a point in time; else seconds
}

// Backoff returns how long to wait before retry n (from 0): fully jittered, exponential.
func (r *Retry) Backoff(n int, random uint64) time.Duration {
	d := r.Base
	for ; n > 0 && d < r.Max; n-- {
		d *= 2
	}
	if d = min(d, r.Max); d <= 0 {
		return 0
	}
	return time.Duration(random % uint64(d))
}

// RetriableStatus says whether a status is in StatusCodes.
func (r *Retry) RetriableStatus(status int) bool {
	return slices.Contains(r.StatusCodes, status)
}

// Condition is a set of reasons to retry.
type Condition uint32

// The reasons, by their names in retry_on, x-envoy-retry-on and x-envoy-retry-grpc-on.
const (
	On5xx Condition = 1 << iota
	OnGatewayError
	OnReset
	OnResetBeforeRequest
	OnConnectFailure
	OnEnvoyRateLimited
	OnRetriable4xx
	OnRefusedStream
	OnRetriableStatusCodes
	OnRetriableHeaders
	OnHTTP3PostConnectFailure
	OnGrpcCancelled
	OnGrpcDeadlineExceeded
	OnGrpcInternal
	OnGrpcResourceExhausted
	OnGrpcUnavailable
)

// OnGrpc are the reasons that look at grpc-status.
const OnGrpc = OnGrpcCancelled | OnGrpcDeadlineExceeded | OnGrpcInternal | OnGrpcResourceExhausted | OnGrpcUnavailable

// ParseRetryOn reads a list such as "5xx,reset" (retry_on or x-envoy-retry-on); ok is false if a name is unknown, which adds nothing,
// as in Envoy. It does not allocate.
func ParseRetryOn(list string) (c Condition, ok bool) { return parseConditions(list, retryOn) }

// ParseRetryGrpcOn reads a list such as "cancelled,unavailable" (x-envoy-retry-grpc-on).
func ParseRetryGrpcOn(list string) (c Condition, ok bool) { return parseConditions(list, retryGrpcOn) }
