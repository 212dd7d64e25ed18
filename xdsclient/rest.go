package xdsclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// poll is a source: a REST service that is asked again and again.
type poll struct {
	// set at construction
	c        *Client
	clusters []string
	path     string
	refresh  time.Duration
	client   *http.Client
	cancel   context.CancelFunc
	// owned by the goroutine
	turn int
}

// requestTimeout is Envoy's default.
const requestTimeout = time.Second

// poll reads an ApiConfigSource for REST. The error begins with its field.
func (c *Client) poll(p *corev3.ApiConfigSource, t subscription.Type) (*poll, error) {
	r := &poll{c: c, clusters: p.GetClusterNames(), path: "/v3/discovery:" + t.REST, refresh: p.GetRefreshDelay().AsDuration()}
	if err := checkAPI(p); err != nil {
		return nil, err
	}
	switch {
	case len(p.GetGrpcServices()) > 0:
		return nil, &fieldError{"grpc_services", "REST config sources must not have gRPC services"}
	case len(r.clusters) == 0:
		return nil, &fieldError{"cluster_names", "API configs must have either a gRPC service or a cluster name defined"}
	case r.refresh <= 0:
		return nil, &fieldError{"refresh_delay", "refresh_delay is required for REST API configuration sources"}
	case t.REST == "":
		return nil, &fieldError{"api_type", "there is no REST service for this type"}
	}
	for i, n := range r.clusters {
		if err := c.HasCluster(n); err != nil {
			return nil, fmt.Errorf("cluster_names[%d]: %w", i, err)
		}
	}
	timeout := requestTimeout
	if d := p.GetRequestTimeout(); d != nil {
		timeout = d.AsDuration()
	}
	r.client = &http.Client{Timeout: timeout, Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, address string) (net.Conn, error) { return c.Dial(ctx, hostOf(address)) },
		DisableKeepAlives: true,
	}}
	return r, nil
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

func (r *poll) start(x *mux) error {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.c.running.Go(func() { r.run(ctx, x) }) // ends with close
	return nil
}

func (r *poll) close() {
	if r.cancel != nil {
		r.cancel()
	}
}

// run asks, waits for the refresh delay and up to half as much again, and asks.
func (r *poll) run(ctx context.Context, x *mux) {
	for ctx.Err() == nil {
		r.ask(ctx, x)
		select {
		case <-time.After(r.refresh + rand.N(r.refresh/2+1)):
		case <-ctx.Done():
		}
	}
}

// ask is one round: the request is made, and its answer taken in, on the control loop.
func (r *poll) ask(ctx context.Context, x *mux) {
	var request proto.Message
	done := make(chan struct{})
	if !r.c.Post(func() { request = x.question(); close(done) }) {
		return
	}
	<-done
	if request == nil {
		return
	}
	response, err := r.fetch(ctx, request)
	if ctx.Err() != nil {
		return
	}
	r.c.Post(func() {
		switch {
		case x.closed:
		case err != nil:
			r.c.log.Warn("REST config update failed", zap.String("path", r.path), zap.Error(err))
			x.failed()
		default:
			_ = x.received(response)
		}
	})
}

// question is the request of a service that is polled: it says everything every time.
func (x *mux) question() proto.Message {
	if x.closed {
		return nil
	}
	x.m.connect()
	for _, r := range x.m.requests() {
		return r
	}
	return nil
}

func (r *poll) fetch(ctx context.Context, request proto.Message) (proto.Message, error) {
	body, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(request)
	if err != nil {
		return nil, err
	}
	cluster := r.clusters[r.turn%len(r.clusters)]
	r.turn++
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+cluster+r.path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	q.Host = cluster
	q.Header.Set("Content-Type", "application/json")
	a, err := r.client.Do(q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.Body.Close() }()
	if a.StatusCode != http.StatusOK {
		return nil, errors.New("the server answers " + a.Status)
	}
	raw, err := io.ReadAll(a.Body)
	if err != nil {
		return nil, err
	}
	p := &discoveryv3.DiscoveryResponse{}
	unknown, err := protofile.Parse(raw, protofile.JSON, p)
	if err == nil {
		err = protofile.Refuse(unknown)
	}
	return p, err
}
