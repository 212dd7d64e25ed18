package route

import (
	"errors"
	"fmt"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	omitcanaryv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/omit_canary_hosts/v3"
	omitmetadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/omit_host_metadata/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
)

const (
	defaultBase     = 25 * time.Millisecond
	defaultResetMax = 5 * time.Minute
)

func retryOn(name string) (Condition, bool) {
	switch name {
	case "5xx":
		return On5xx, true
	case "gateway-error":
		return OnGatewayError, true
	case "reset":
		return OnReset, true
	case "reset-before-request":
		return OnResetBeforeRequest, true
	case "connect-failure":
		return OnConnectFailure, true
	case "envoy-ratelimited":
		return OnEnvoyRateLimited, true
	case "retriable-4xx":
		return OnRetriable4xx, true
	case "refused-stream":
		return OnRefusedStream, true
	case "retriable-status-codes":
		return OnRetriableStatusCodes, true
	case "retriable-headers":
		return OnRetriableHeaders, true
	case "http3-post-connect-failure":
		return OnHTTP3PostConnectFailure, true
	}
	return 0, false
}

func retryGrpcOn(name string) (Condition, bool) {
	switch name {
	case "cancelled":
		return OnGrpcCancelled, true
	case "deadline-exceeded":
		return OnGrpcDeadlineExceeded, true
	case "internal":
		return OnGrpcInternal, true
	case "resource-exhausted":
		return OnGrpcResourceExhausted, true
	case "unavailable":
		return OnGrpcUnavailable, true
	}
	return 0, false
}

func parseConditions(list string, known func(string) (Condition, bool)) (c Condition, ok bool) {
	ok = true
	for list != "" {
		var name string
		name, list, _ = strings.Cut(list, ",")
		n, is := known(strings.Trim(name, " \t"))
		c |= n
		ok = ok && is
	}
	return c, ok
}

// compileRetry compiles a policy; retry_on takes names of both kinds and, as Envoy does, ignores others.
func compileRetry(p *routev3.RetryPolicy) (*Retry, error) {
	if p == nil {
		return nil, nil
	}
	plain, _ := ParseRetryOn(p.GetRetryOn())
	grpc, _ := ParseRetryGrpcOn(p.GetRetryOn())
	r := &Retry{On: plain | grpc, NumRetries: 1, PerTry: duration(p.GetPerTryTimeout(), Unset), PerTryIdle: duration(p.GetPerTryIdleTimeout(), Unset), HostAttempts: 1}
	if n := p.GetNumRetries(); n != nil {
		r.NumRetries = int(n.GetValue())
	}
	if n := p.GetHostSelectionRetryMaxAttempts(); n != 0 {
		r.HostAttempts = int(n)
	}
	for _, c := range p.GetRetriableStatusCodes() {
		r.StatusCodes = append(r.StatusCodes, int(c))
	}
	var err error
	if r.Headers, err = match.CompileHeaders(p.GetRetriableHeaders()); err != nil {
		return nil, fmt.Errorf("retriable_headers%w", err)
	}
	if r.RequestHeaders, err = match.CompileHeaders(p.GetRetriableRequestHeaders()); err != nil {
		return nil, fmt.Errorf("retriable_request_headers%w", err)
	}
	if len(p.GetRetryOptionsPredicates()) > 0 {
		return nil, fmt.Errorf("retry_options_predicates[0]: %w", unregistered(p.GetRetryOptionsPredicates()[0]))
	}
	if err := r.backOff(p); err != nil {
		return nil, err
	}
	return r, r.hosts(p)
}

func (r *Retry) backOff(p *routev3.RetryPolicy) error {
	r.Base, r.ResetMax = defaultBase, defaultResetMax
	if b := p.GetRetryBackOff(); b != nil {
		if r.Base = b.GetBaseInterval().AsDuration(); r.Base < time.Millisecond {
			r.Base = time.Millisecond
		}
		r.Max = b.GetMaxInterval().AsDuration()
		if b.GetMaxInterval() != nil && max(r.Max, time.Millisecond) < r.Base.Truncate(time.Millisecond) { // Envoy counts in milliseconds
			return errors.New("retry_back_off.max_interval: retry_policy.max_interval must greater than or equal the base_interval")
		}
	}
	if r.Max == 0 {
		r.Max = 10 * r.Base
	}
	l := p.GetRateLimitedRetryBackOff()
	if l.GetMaxInterval() != nil {
		r.ResetMax = l.GetMaxInterval().AsDuration()
	}
	for _, h := range l.GetResetHeaders() {
		r.ResetHeaders = append(r.ResetHeaders, ResetHeader{strings.ToLower(h.GetName()), h.GetFormat() == routev3.RetryPolicy_UNIX_TIMESTAMP})
	}
	return nil
}

func (r *Retry) hosts(p *routev3.RetryPolicy) error {
	for i, h := range p.GetRetryHostPredicate() {
		if err := r.predicate(h.GetName(), h.GetTypedConfig()); err != nil {
			return fmt.Errorf("retry_host_predicate[%d]: %w", i, err)
		}
	}
	if q := p.GetRetryPriority(); q != nil {
		m, _, err := protofile.Unpack(q.GetTypedConfig())
		c, ok := m.(*previousprioritiesv3.PreviousPrioritiesConfig)
		if err != nil || !ok {
			return fmt.Errorf("retry_priority: %w", &extension.NotFoundError{Name: q.GetName(), URL: q.GetTypedConfig().GetTypeUrl()})
		}
		r.PreviousPriors = int(c.GetUpdateFrequency())
	}
	return nil
}

func (r *Retry) predicate(name string, a *anypb.Any) error {
	m, _, err := protofile.Unpack(a)
	if err != nil {
		return &extension.NotFoundError{Name: name, URL: a.GetTypeUrl()}
	}
	switch c := m.(type) {
	case *previoushostsv3.PreviousHostsPredicate:
		r.PreviousHosts = true
	case *omitcanaryv3.OmitCanaryHostsPredicate:
		r.OmitCanary = true
	case *omitmetadatav3.OmitHostMetadataConfig:
		md, err := metadata(c.GetMetadataMatch())
		if err != nil {
			return err
		}
		r.OmitHosts = append(r.OmitHosts, md)
	default:
		return &extension.NotFoundError{Name: name, URL: a.GetTypeUrl()}
	}
	return nil
}
