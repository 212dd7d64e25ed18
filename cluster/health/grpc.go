package health

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datacorev3 "github.com/envoyproxy/go-control-plane/envoy/data/core/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/mutation"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// grpcConfig is a GrpcHealthCheck: a call of grpc.health.v1.Health/Check.
type grpcConfig struct {
	message   []byte // the request with its frame
	authority string
	edits     *mutation.List
	timeout   string // grpc-timeout
}

func parseGRPC(p *corev3.HealthCheck_GrpcHealthCheck, timeout time.Duration) (*grpcConfig, error) {
	edits, err := mutation.Compile(p.GetInitialMetadata(), nil)
	if err != nil {
		return nil, fmt.Errorf("initial_metadata: %w", err)
	}
	var m []byte
	if n := p.GetServiceName(); n != "" {
		m = protowire.AppendString(protowire.AppendTag(m, 1, protowire.BytesType), n)
	}
	return &grpcConfig{
		message: append(grpc.AppendHead(nil, 0, len(m)), m...), authority: p.GetAuthority(), edits: edits,
		timeout: string(grpc.AppendTimeout(nil, timeout)),
	}, nil
}

type grpcProbe struct {
	// set at construction
	*grpcConfig

	// owned by the worker
	client

	s   stream.Stream
	got []byte
}

func (p *grpcProbe) ask(s *Session, to pool.Target) verdict {
	if err := p.connect(s, to); err != nil {
		return network(err)
	}
	r := &p.s.Response
	err := p.do(s.worker, p.request(s), r)
	p.got = p.got[:0]
	if err == nil && r.Status == 200 && grpc.IsResponse(r) {
		err = each(r, p.keep)
	}
	v := network(err)
	if err == nil {
		v = verdict{failed: !p.serving(), failure: datacorev3.HealthCheckFailureType_ACTIVE}
	}
	p.done(err == nil)
	return v
}

// mostMessage bounds what is kept of an answer: a HealthCheckResponse is a few bytes.
const mostMessage = 64 << 10

func (p *grpcProbe) keep(b []byte) { p.got = append(p.got, b[:min(len(b), mostMessage-len(p.got))]...) }

func (p *grpcProbe) request(s *Session) *stream.Request {
	t := &p.s
	t.Reset(s.worker, &loopback)
	t.Info.Protocol, t.Info.Upstream.Host, t.Info.Upstream.HostMetadata = stream.HTTP2, s.host.Address, s.host.Metadata
	q := &t.Request
	q.Method, q.Path, q.Scheme = "POST", "/grpc.health.v1.Health/Check", "http"
	if p.secure {
		q.Scheme = "https"
	}
	q.Authority = cmp.Or(s.host.Hostname, p.authority, s.c.env.Cluster)
	h := &q.Header
	h.Reset()
	h.Set("te", "trailers")
	h.Set("content-type", grpc.ContentType)
	h.Set("user-agent", userAgent)
	if p.edits != nil {
		p.edits.Apply(h, t)
	}
	h.Set("grpc-timeout", p.timeout)
	q.Body = &stream.Bytes{B: p.message}
	return q
}

// serving says whether the call has succeeded, and its one answer is SERVING.
func (p *grpcProbe) serving() bool {
	r := &p.s.Response
	status, ok := grpc.StatusOf(&r.Trailer)
	if !ok {
		status, ok = grpc.StatusOf(&r.Header)
	}
	if !ok || status != grpc.OK || r.Status != 200 || len(p.got) < grpc.HeadSize {
		return false
	}
	m := p.got[grpc.HeadSize:]
	if p.got[0] != 0 || binary.BigEndian.Uint32(p.got[1:]) != uint32(len(m)) {
		return false // compressed, or more than one message
	}
	return servingStatus(m) == 1
}

// servingStatus reads the field status of a grpc.health.v1.HealthCheckResponse; 0: unknown, or no such message.
func servingStatus(m []byte) (status uint64) {
	for len(m) > 0 {
		n, t, k := protowire.ConsumeTag(m)
		if k < 0 {
			return 0
		}
		m = m[k:]
		if n == 1 && t == protowire.VarintType {
			if status, k = protowire.ConsumeVarint(m); k < 0 {
				return 0
			}
		} else if k = protowire.ConsumeFieldValue(n, t, m); k < 0 {
			return 0
		}
		m = m[k:]
	}
	return status
}
