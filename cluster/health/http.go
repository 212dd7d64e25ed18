package health

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datacorev3 "github.com/envoyproxy/go-control-plane/envoy/data/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/mutation"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// httpConfig is an HttpHealthCheck: a request, and what its response must be like.
type httpConfig struct {
	host, path, method  string
	payload             []byte
	receive             [][]byte
	most                int // of the body that is looked at; 0: all
	edits               *mutation.List
	expected, retriable []match.Range
	service             *match.String
	version             version
}

const defaultResponseBuffer = 1024

// userAgent is what checks call themselves.
const userAgent = "Envoy/HC"

func parseHTTP(p *corev3.HealthCheck_HttpHealthCheck) (c *httpConfig, err error) {
	c = &httpConfig{host: p.GetHost(), path: p.GetPath(), method: "GET", most: defaultResponseBuffer}
	if m := p.GetMethod(); m != corev3.RequestMethod_METHOD_UNSPECIFIED {
		c.method = m.String()
	}
	if b := p.GetResponseBufferSize(); b != nil {
		c.most = int(min(b.GetValue(), 1<<30))
	}
	if p.GetCodecClientType() == typev3.CodecClientType_HTTP3 {
		return nil, errors.New("codec_client_type: HTTP/3 health checks are not supported yet")
	}
	c.version = version{two: p.GetCodecClientType() == typev3.CodecClientType_HTTP2, alpn: p.GetUseAlpnProtocol()}
	if err := c.parsePayloads(p); err != nil {
		return nil, err
	}
	if c.edits, err = mutation.Compile(p.GetRequestHeadersToAdd(), p.GetRequestHeadersToRemove()); err != nil {
		return nil, fmt.Errorf("request_%w", err)
	}
	if c.expected, err = statuses("expected", p.GetExpectedStatuses()); err != nil {
		return nil, err
	}
	if len(c.expected) == 0 {
		c.expected = []match.Range{match.CompileRange(&typev3.Int64Range{Start: 200, End: 201})}
	}
	if c.retriable, err = statuses("retriable", p.GetRetriableStatuses()); err != nil {
		return nil, err
	}
	if m := p.GetServiceNameMatcher(); m != nil {
		s, err := match.CompileString(m)
		if err != nil {
			return nil, fmt.Errorf("service_name_matcher.%w", err)
		}
		c.service = &s
	}
	return c, nil
}

func (c *httpConfig) parsePayloads(p *corev3.HealthCheck_HttpHealthCheck) (err error) {
	if p.GetSend() != nil {
		switch c.method {
		case "GET", "HEAD", "DELETE", "TRACE":
			return fmt.Errorf("send: HTTP health check cannot specify a request payload with method '%s'. Only methods that support a request body (POST, PUT, PATCH, OPTIONS) can be used with payload", c.method)
		}
		if c.payload, err = payload(p.GetSend()); err != nil {
			return fmt.Errorf("send.%w", err)
		}
	}
	if c.receive, err = payloads(p.GetReceive()); err != nil {
		return err
	}
	total := 0
	for _, b := range c.receive {
		total += len(b)
	}
	if c.most > 0 && total > c.most {
		return fmt.Errorf("receive: The expected response length '%d' is over than http health response buffer size '%d'", total, c.most)
	}
	return nil
}

func statuses(what string, l []*typev3.Int64Range) (ranges []match.Range, err error) {
	for i, r := range l {
		switch {
		case r.GetStart() >= r.GetEnd():
			err = fmt.Errorf("Invalid http %s status range: expecting start < end, but found start=%d and end=%d", what, r.GetStart(), r.GetEnd())
		case r.GetStart() < 100:
			err = fmt.Errorf("Invalid http %s status range: expecting start >= 100, but found start=%d", what, r.GetStart())
		case r.GetEnd() > 600:
			err = fmt.Errorf("Invalid http %s status range: expecting end <= 600, but found end=%d", what, r.GetEnd())
		}
		if err != nil {
			return nil, fmt.Errorf("%s_statuses[%d]: %w", what, i, err)
		}
		ranges = append(ranges, match.CompileRange(r))
	}
	return ranges, nil
}

func within(status int, l []match.Range) bool {
	for _, r := range l {
		if r.Match(int64(status)) {
			return true
		}
	}
	return false
}

// loopback is what stands in the place of a client's addresses.
var loopback = stream.Conn{
	Local:  stream.Address{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)},
	Remote: stream.Address{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)},
}

type httpProbe struct {
	// set at construction
	*httpConfig

	// owned by the worker
	client

	s   stream.Stream
	got []byte
}

func (p *httpProbe) ask(s *Session, to pool.Target) verdict {
	if err := p.connect(s, to); err != nil {
		return network(err)
	}
	r := &p.s.Response
	err := p.do(s.worker, p.request(s), r)
	p.got = p.got[:0]
	if err == nil {
		err = each(r, p.keep)
	}
	v := network(err)
	if err == nil {
		v = p.judge(s)
	}
	p.done(err == nil)
	return v
}

// keep remembers what of the body is to be looked at.
func (p *httpProbe) keep(b []byte) {
	if len(p.receive) == 0 {
		return
	}
	if p.most > 0 {
		b = b[:min(len(b), p.most-len(p.got))]
	}
	if len(p.got) < mostReceived {
		p.got = append(p.got, b...)
	}
}

func (p *httpProbe) request(s *Session) *stream.Request {
	h, t := s.host, &p.s
	t.Reset(s.worker, &loopback)
	u := &t.Info.Upstream
	u.Host, u.HostMetadata, t.Info.Protocol = h.Address, h.Metadata, stream.HTTP11 // all that Envoy's headers can name
	if p.h2 != nil {
		t.Info.Protocol = stream.HTTP2
	}
	q := &t.Request
	q.Method, q.Path, q.Scheme, q.Body = p.method, p.path, "http", nil
	if p.secure {
		q.Scheme = "https"
	}
	q.Authority = cmp.Or(h.Hostname, p.host, s.c.env.Cluster)
	q.Header.Reset()
	q.Header.Set("user-agent", userAgent)
	if p.edits != nil {
		p.edits.Apply(&q.Header, t)
	}
	if len(p.payload) > 0 {
		q.Header.Set("content-length", strconv.Itoa(len(p.payload)))
		q.Body = &stream.Bytes{B: p.payload}
	}
	return q
}

// judge says what a response means.
func (p *httpProbe) judge(s *Session) verdict {
	r := &p.s.Response
	v := verdict{failed: true, failure: datacorev3.HealthCheckFailureType_ACTIVE, status: r.Status}
	switch {
	case !contains(p.got, p.receive):
		v.excluded = r.Header.Has("x-envoy-immediate-health-check-fail")
	case !within(r.Status, p.expected):
		v.excluded = r.Header.Has("x-envoy-immediate-health-check-fail")
		v.retriable = within(r.Status, p.retriable)
	case !p.identified(s):
	default:
		v = verdict{degraded: r.Header.Has("x-envoy-degraded"), status: r.Status}
	}
	return v
}

// identified says whether it was the right service that has answered.
func (p *httpProbe) identified(s *Session) bool {
	if p.service == nil || !s.c.env.Runtime.Load().Fraction("health_check.verify_cluster", 100, s.c.env.Draw()) {
		return true
	}
	s.c.stats.VerifyCluster.Inc()
	name, _ := p.s.Response.Header.Get("x-envoy-upstream-healthchecked-cluster")
	return p.service.Match(name)
}
