// Package http2 holds the proxy to HTTP/2 as others see it: the conformance suite h2spec, floods, and all ways between HTTP/1 and HTTP/2.
package http2

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	h2http2 "github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// h2specCases is how many cases the suite has. All must pass; one that is skipped has not.
const h2specCases = 146

// TestH2spec runs the suite in clear and over TLS, in front of hosts of both versions of HTTP.
func TestH2spec(t *testing.T) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the server takes trailers that cross its RST_STREAM for a fault of the connection
		_, _ = w.Write([]byte(strings.Repeat("0123456789", 100)))
	})
	each(t, answer, func(t *testing.T, s *stage) {
		for _, v := range []struct{ name, address, path string }{
			{"h2c to HTTP1", s.h2c, "/1"}, {"h2c to HTTP2", s.h2c, "/"}, {"TLS to HTTP1", s.tls, "/1"}, {"TLS to HTTP2", s.tls, "/"},
		} {
			t.Run(v.name, func(t *testing.T) {
				host, port, _ := net.SplitHostPort(v.address)
				n, _ := strconv.Atoi(port)
				c := &config.Config{
					Host: host, Port: n, Path: v.path, Timeout: 4 * time.Second, MaxHeaderLen: 4000, Strict: true,
					TLS: strings.HasPrefix(v.name, "TLS"), Insecure: true,
				}
				var passed atomic.Int32
				t.Run("cases", func(t *testing.T) {
					for _, g := range []*spec.TestGroup{generic.Spec(), h2http2.Spec(), hpack.Spec()} {
						play(t, c, g, &passed)
					}
				})
				if passed.Load() != h2specCases {
					t.Errorf("%d of %d cases passed", passed.Load(), h2specCases)
				}
			})
		}
	})
}

// play runs the cases of a group side by side.
func play(t *testing.T, c *config.Config, g *spec.TestGroup, passed *atomic.Int32) {
	t.Helper()
	for i, k := range append(g.Tests, g.StrictTests...) {
		t.Run(g.ID()+"/"+strconv.Itoa(i+1), func(t *testing.T) {
			t.Parallel()
			conn, err := spec.Dial(c)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if err := k.Run(c, conn); err != nil {
				t.Errorf("%s: %s: %v", k.Desc, k.Requirement, err)
				return
			}
			passed.Add(1)
		})
	}
	for _, sub := range g.Groups {
		play(t, c, sub, passed)
	}
}
