// Package secure looks at TLS through a whole proxy: what is pooled and resumed, which certificate is shown, how certificates change, and
// what an idle connection costs. test/mtls has who is let in.
package secure

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/filter/all"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/proxy"
	"github.com/outrigger-proxy/outrigger/proxy/bootstrap"
)

// stage is a proxy whose sockets and files are in a folder of its own.
type stage struct {
	t   *testing.T
	dir string
	ca  *pkitest.Certificate
}

// each runs f on both engines. config makes the listeners and the clusters, in YAML.
func each(t *testing.T, config func(s *stage) string, f func(t *testing.T, s *stage)) {
	t.Helper()
	for name, engine := range fibertest.Engines() {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "s") // the paths of sockets are short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			s := &stage{t, dir, pkitest.Authority(t, "all")}
			s.start(engine, config(s))
			f(t, s)
		})
	}
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

func (s *stage) start(engine proxy.Engine, config string) {
	s.t.Helper()
	r, err := bootstrap.Load(bootstrap.Source{YAML: "admin: {address: {pipe: {path: " + s.path("admin") + "}}}\nstatic_resources:\n" + config})
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := proxy.New(r.Bootstrap, proxy.Options{
		Flags:      &adminv3.CommandLineOptions{Concurrency: 1, DrainTime: durationpb.New(time.Second)},
		Extensions: all.Extensions(), Logs: log.Discard(), Engine: engine,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { p.Run(); close(ended) }() // ends with Quit
	s.t.Cleanup(func() { p.Quit(); <-ended })
	<-p.Live()
}

// put moves a file into its place.
func (s *stage) put(name, text string) string {
	s.t.Helper()
	path := s.path(name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
	return path
}

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

// cert is a certificate inline.
func (s *stage) cert(c *pkitest.Certificate) string {
	return fmt.Sprintf("{certificate_chain: {inline_string: %q}, private_key: {inline_string: %q}}", c.Chain(), c.KeyPEM(s.t))
}

// dial shakes hands with a listener.
func (s *stage) dial(t *testing.T, name string, config *tls.Config) (*tls.Conn, error) {
	t.Helper()
	raw, err := net.Dial("unix", s.path(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	config.InsecureSkipVerify = true
	c := tls.Client(raw, config)
	return c, c.Handshake()
}

// ask sends a request over c and returns the body of the response.
func ask(c net.Conn, path string) (string, error) {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nhost: x\r\n\r\n", path); err != nil {
		return "", err
	}
	return answer(c)
}

// answer reads a response and returns its body.
func answer(c net.Conn) (string, error) {
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

// get asks a server on a unix socket.
func (s *stage) get(name, path string) string {
	s.t.Helper()
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.path(name))
	}}}
	r, err := c.Get("http://x" + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return strconv.Itoa(r.StatusCode) + " " + string(b)
}

// stat reads a counter or a gauge.
func (s *stage) stat(name string) int {
	s.t.Helper()
	for line := range strings.Lines(s.get("admin", "/stats?filter=^"+strings.ReplaceAll(name, ".", "[.]")+"$")) {
		if _, v, ok := strings.Cut(strings.TrimSpace(line), name+": "); ok {
			n, _ := strconv.Atoi(v)
			return n
		}
	}
	return 0
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
	l, err := net.Listen("unix", s.path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go b.serve(raw) // ends with the connection
		}
	}()
	return b
}

func (b *backend) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
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
