// Package secure looks at TLS through a whole proxy: what is pooled and resumed, which certificate is shown, how certificates change, and
// what an idle connection costs. test/mtls has who is let in.
package secure

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/test/harness"
)

// stage is a proxy whose sockets and files are in a folder of its own.
type stage struct {
	*harness.Proxy

	t   *testing.T
	dir string
	ca  *pkitest.Certificate
}

// each runs f on both engines. config makes the listeners and the clusters, in YAML.
func each(t *testing.T, config func(s *stage) string, f func(t *testing.T, s *stage)) {
	t.Helper()
	for name, engine := range fibertest.Engines() {
		t.Run(name, func(t *testing.T) {
			s := &stage{t: t, dir: harness.Dir(t), ca: pkitest.Authority(t, "all")}
			s.Proxy = harness.Start(t, harness.Admin+"static_resources:\n"+config(s), harness.On(engine))
			f(t, s)
		})
	}
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

const types = "type.googleapis.com/envoy.extensions."

// listener is a listener on a socket, with the fields of its DownstreamTlsContext, if there are any, and the routes.
func (s *stage) listener(name, context, routes string) string {
	socket := ""
	if context != "" {
		socket = "      transport_socket: {name: tls, typed_config: {'@type': " + types + "transport_sockets.tls.v3.DownstreamTlsContext, " + context + "}}\n"
	}
	return "  - name: " + name + "\n    address: {pipe: {path: " + s.path(name) + "}}\n    filter_chains:\n    - name: c\n" + socket +
		"      filters:\n      - name: hcm\n        typed_config:\n          '@type': " + types + "filters.network.http_connection_manager.v3.HttpConnectionManager\n" +
		"          stat_prefix: in\n          http_filters: [{name: r, typed_config: {'@type': " + types + "filters.http.router.v3.Router}}]\n" +
		"          route_config: {virtual_hosts: [{name: v, domains: ['*'], routes: [" + routes + "]}]}\n"
}

const hello = "{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: ok}}}"

func endpoint(path, more string) string {
	return "{endpoint: {address: {pipe: {path: " + path + "}}}" + more + "}"
}

// dial shakes hands with a listener.
func (s *stage) dial(t *testing.T, name string, config *tls.Config) (*tls.Conn, error) {
	t.Helper()
	config.InsecureSkipVerify = true
	c := tls.Client(harness.Dial(t, s.path(name)), config)
	return c, c.Handshake()
}

// backend answers with its name, over TLS if it has a certificate. A request for /close is the last one of its connection.
type backend struct {
	name       string
	config     *tls.Config
	handshakes atomic.Int64
	resumed    atomic.Int64
}

func (s *stage) backend(name string, c *pkitest.Certificate) *backend {
	s.t.Helper()
	b := &backend{name: name}
	if c != nil {
		b.config = &tls.Config{Certificates: []tls.Certificate{c.TLS()}}
	}
	harness.Serve(s.t, harness.Listen(s.t, s.path(name)), b.serve)
	return b
}

func (b *backend) serve(c net.Conn) {
	if b.config != nil {
		secure := tls.Server(c, b.config)
		if secure.Handshake() != nil {
			return
		}
		b.handshakes.Add(1)
		if secure.ConnectionState().DidResume {
			b.resumed.Add(1)
		}
		c = secure
	}
	r := bufio.NewReader(c)
	for {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			return
		}
		more := ""
		if q.URL.Path == "/close" {
			more = "connection: close\r\n"
		}
		if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%s\r\n%s", len(b.name), more, b.name); err != nil || more != "" {
			return
		}
	}
}
