package health

import (
	"bytes"
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datacorev3 "github.com/envoyproxy/go-control-plane/envoy/data/core/v3"
	redisv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/health_checkers/redis/v3"
	thriftv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/health_checkers/thrift/v3"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
)

// custom is a check of another protocol: a request, and what its answer means.
type custom struct {
	kind    datacorev3.HealthCheckerType
	request []byte
	// read says whether the answer is whole, and what it says.
	read func(b []byte) (whole, ok bool)
}

func parseCustom(p *corev3.HealthCheck_CustomHealthCheck) (*custom, error) {
	m, _, err := protofile.Unpack(p.GetTypedConfig())
	if err == nil {
		switch c := m.(type) {
		case *redisv3.Redis:
			return parseRedis(c)
		case *thriftv3.Thrift:
			return parseThrift(c)
		}
	}
	return nil, fmt.Errorf("typed_config: Didn't find a registered implementation for '%s' with type URL: '%s'", p.GetName(), p.GetTypedConfig().GetTypeUrl())
}

type customProbe struct {
	*custom
	wire
}

func (p *customProbe) ask(s *Session, to pool.Target) verdict {
	if _, err := p.connect(s, to); err != nil {
		return network(err)
	}
	_, err := p.net.Write(p.request)
	whole, ok := false, false
	for err == nil && !whole {
		if err = p.more(); err == nil {
			whole, ok = p.read(p.got)
		}
	}
	p.rest(s, err == nil)
	if err != nil {
		return network(err)
	}
	return verdict{failed: !ok, failure: datacorev3.HealthCheckFailureType_ACTIVE}
}

// parseRedis makes a check by PING, or by EXISTS of a key that must not be there (envoy.health_checkers.redis).
func parseRedis(p *redisv3.Redis) (*custom, error) {
	if p.GetAwsIam() != nil {
		return nil, errors.New("typed_config.aws_iam: is not supported")
	}
	words, want := []string{"PING"}, "+PONG"
	if k := p.GetKey(); k != "" {
		words, want = []string{"EXISTS", k}, ":0"
	}
	request := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, w := range words {
		request = fmt.Appendf(request, "$%d\r\n%s\r\n", len(w), w)
	}
	return &custom{kind: datacorev3.HealthCheckerType_REDIS, request: request, read: func(b []byte) (whole, ok bool) {
		line, _, whole := bytes.Cut(b, []byte("\r\n"))
		// a host of a Redis cluster that sends us elsewhere is well
		ok = string(line) == want || bytes.HasPrefix(line, []byte("-MOVED ")) || bytes.HasPrefix(line, []byte("-ASK "))
		return whole, whole && ok
	}}, nil
}
