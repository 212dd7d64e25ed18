package xdsclient

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &corev3.ConfigSource{}, &corev3.ApiConfigSource{}, &corev3.PathConfigSource{}, &corev3.WatchedDirectory{},
		&corev3.RateLimitSettings{}, &corev3.GrpcService{}, &corev3.RetryPolicy{}, &corev3.BackoffStrategy{})
}
