package xdsclient

import (
	"context"
	"io"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// transport opens streams to a server.
type transport interface {
	// open begins a stream of a method, on a connection of its own, which lives until the context ends.
	open(ctx context.Context, method string) (conn, error)
}

// conn is a stream.
type conn interface {
	Send(m proto.Message) error
	Recv(m proto.Message) error
	// Close gives the connection back.
	Close()
}

// stream is a source: a gRPC stream that is opened again whenever it ends.
type stream struct {
	// set at construction
	c         *Client
	delta     bool
	method    string
	transport transport
	limits    *corev3.RateLimitSettings
	backoff   *backoff
	cancel    context.CancelFunc
}

// stream reads an ApiConfigSource for gRPC. The error begins with its field.
func (c *Client) stream(p *corev3.ApiConfigSource, t subscription.Type) (*stream, error) {
	s := &stream{c: c, limits: p.GetRateLimitSettings()}
	switch p.GetApiType() {
	case corev3.ApiConfigSource_GRPC:
		s.method = "/" + t.Service + "/Stream" + t.Method
	case corev3.ApiConfigSource_DELTA_GRPC:
		s.method, s.delta = "/"+t.Service+"/Delta"+t.Method, true
	default:
		return nil, &fieldError{"api_type", "DEPRECATED_AND_UNAVAILABLE_DO_NOT_USE, and REST where a stream is needed, are refused: " + p.GetApiType().String()}
	}
	if err := checkAPI(p); err != nil {
		return nil, err
	}
	var retry *corev3.RetryPolicy
	var err error
	if s.transport, retry, err = c.service(p.GetGrpcServices()); err != nil {
		return nil, err
	}
	s.backoff = newBackoff(retry.GetRetryBackOff())
	return s, nil
}

// checkAPI refuses what has no meaning here.
func checkAPI(p *corev3.ApiConfigSource) error {
	switch {
	case p.GetTransportApiVersion() == corev3.ApiVersion_V2:
		return &fieldError{"transport_api_version", "V2 xDS transport protocol version is deprecated"}
	case len(p.GetConfigValidators()) > 0:
		return &fieldError{"config_validators", "are not supported"}
	}
	return nil
}

// fieldError is an error about a field.
type fieldError struct{ field, why string }

func (e *fieldError) Error() string { return e.field + ": " + e.why }

func (s *stream) start(x *mux) error {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.c.running.Go(func() { s.run(ctx, x) }) // ends with close
	return nil
}

func (s *stream) close() {
	if s.cancel != nil {
		s.cancel()
	}
}

// run opens one stream after the other.
func (s *stream) run(ctx context.Context, x *mux) {
	for ctx.Err() == nil {
		err := s.serve(ctx, x)
		if ctx.Err() != nil {
			return
		}
		s.c.Post(func() {
			if !x.closed {
				x.failed()
			}
		})
		wait := s.backoff.delay()
		s.c.log.Warn("gRPC config stream closed", zap.String("method", s.method), zap.Duration("retry_in", wait), zap.Error(err))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// serve is the life of one stream; its error says why it ended.
func (s *stream) serve(ctx context.Context, x *mux) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := s.transport.open(ctx, s.method)
	if err != nil {
		return err
	}
	defer c.Close()
	out := newOutbox(x.stats)
	s.c.Post(func() {
		if !x.closed {
			x.opened(out)
		}
	})
	sent := make(chan struct{})
	go func() { // ends with ctx, or when sending fails, which ends receiving too
		defer close(sent)
		out.run(ctx, newLimiter(s.limits), c.Send)
	}()
	defer func() { <-sent }()
	defer cancel()
	for {
		r := s.response()
		if err := c.Recv(r); err != nil {
			return err
		}
		s.backoff.reset()
		if !s.take(ctx, x, r) {
			return io.EOF
		}
	}
}

// take has a response taken in and waits for that: nothing more is read from a server that is faster than this proxy.
func (s *stream) take(ctx context.Context, x *mux, r proto.Message) bool {
	taken := make(chan struct{})
	if !s.c.Post(func() { defer close(taken); _ = x.received(r) }) {
		return false
	}
	select {
	case <-taken:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *stream) response() proto.Message {
	if s.delta {
		return &discoveryv3.DeltaDiscoveryResponse{}
	}
	return &discoveryv3.DiscoveryResponse{}
}
