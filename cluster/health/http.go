package health

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datacorev3 "github.com/envoyproxy/go-control-plane/envoy/data/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/mutation"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// httpConfig is an HttpHealthCheck: a request, and what its response must be like.
type httpConfig struct {
	host, path, method  string
	send                []byte
	receive             [][]byte
	most                int // of the body that is looked at; 0: all
	edits               *mutation.List
	expected, retriable []match.Range
	service             *match.String
}

const defaultResponseBuffer = 1024

func parseHTTP(p *corev3.HealthCheck_HttpHealthCheck) (c *httpConfig, err error) {
	c = &httpConfig{host: p.GetHost(), path: p.GetPath(), method: "GET", most: defaultResponseBuffer}
	if m := p.GetMethod(); m != corev3.RequestMethod_METHOD_UNSPECIFIED {
		c.method = m.String()
	}
	if b := p.GetResponseBufferSize(); b != nil {
		c.most = int(min(b.GetValue(), 1<<30))
	}
	switch {
	case p.GetCodecClientType() == typev3.CodecClientType_HTTP2:
		return nil, errors.New("codec_client_type: HTTP/2 health checks are not supported yet")
	case p.GetCodecClientType() == typev3.CodecClientType_HTTP3:
		return nil, errors.New("codec_client_type: HTTP/3 health checks are not supported yet")
	case p.GetUseAlpnProtocol():
		return nil, errors.New("use_alpn_protocol: HTTP/2 health checks are not supported yet")
	}
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
		if c.send, err = payload(p.GetSend()); err != nil {
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

	reuse bool
	// owned by the worker
	net    fiber.Conn
	secure bool
	h1     http1.Conn
	send   http1.Sender
	s      stream.Stream
	got    []byte
}

func (p *httpProbe) close() {
	if p.net != nil {
		p.net.Abort()
		p.net = nil
	}
}

func (p *httpProbe) ask(s *Session, to pool.Target) verdict {
	if err := p.connect(s, to); err != nil {
		p.close()
		return network(err)
	}
	err := p.exchange(s)
	v := network(err)
	if err == nil {
		v = p.judge(s)
	}
	keep := err == nil && p.reuse && !p.h1.Close && p.h1.Drained() && !p.h1.Buffered()
	p.h1.Release()
	if !keep {
		p.close()
		return v
	}
	p.net.OnIdle(0, func(bool) { p.close() })
	return v
}

// connect takes the connection of the last check, or makes one.
func (p *httpProbe) connect(s *Session, to pool.Target) (err error) {
	if p.net != nil {
		p.net.OnIdle(0, nil)
		if !p.net.Readable() {
			return nil
		}
		p.close()
	}
	i := &pool.Info{Transport: pool.Transport{ALPN: s.c.config.alpn}}
	if p.net, err = s.c.env.Dial(s.worker, to, i); err != nil {
		p.net = nil
		return err
	}
	p.secure = i.TLS != nil
	p.h1.Reset(s.worker, p.net)
	p.h1.Options = s.c.env.HTTP1
	return nil
}

// exchange sends the request and reads the response.
func (p *httpProbe) exchange(s *Session) error {
	q, r := p.request(s), &p.s.Response
	p.send.Request(s.worker, p.net, q, p.h1.Options)
	if _, err := p.send.Run(true); err != nil {
		return err
	}
	kind := http1.KindOf(q)
	for {
		if err := p.h1.ReadResponse(r, kind); err != nil {
			return err
		}
		if r.Status >= 200 {
			break
		}
	}
	p.got = p.got[:0]
	for b := r.Body; b != nil; {
		piece, err := b.Next(true)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		p.keep(piece)
	}
	return nil
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
	q := &t.Request
	q.Method, q.Path, q.Scheme, q.Body = p.method, p.path, "http", nil
	if p.secure {
		q.Scheme = "https"
	}
	q.Authority = cmp.Or(h.Hostname, p.host, s.c.env.Cluster)
	q.Header.Reset()
	q.Header.Set("user-agent", "Envoy/HC")
	if p.edits != nil {
		p.edits.Apply(&q.Header, t)
	}
	if len(p.httpConfig.send) > 0 {
		q.Header.Set("content-length", strconv.Itoa(len(p.httpConfig.send)))
		q.Body = &stream.Bytes{B: p.httpConfig.send}
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
