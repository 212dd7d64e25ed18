// Package mtls holds the proxy to what Envoy does with certificates of every kind: a handshake for each case, its outcome, what is counted
// and the reason in words. testdata/matrix.golden is recorded from Envoy: ENVOY_BIN=/path/to/envoy go test ./test/mtls -rewrite.
package mtls

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/test/harness"
)

var rewrite = flag.Bool("rewrite", false, "record the golden file from ENVOY_BIN")

const golden = "testdata/matrix.golden"

func TestMatrix(t *testing.T) {
	if *rewrite {
		if err := os.WriteFile(golden, []byte(run(t, startEnvoy)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(b)), "\n")
	for name, engine := range fibertest.Engines() {
		t.Run(name, func(t *testing.T) {
			got := strings.Split(strings.TrimSpace(run(t, func(t *testing.T, config string) harness.Pages {
				return harness.Start(t, config, harness.On(engine)).Pages
			})), "\n")
			if len(got) != len(want) {
				t.Fatalf("%d results, %d recorded", len(got), len(want))
			}
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("got  %s\nwant %s", got[i], want[i])
				}
			}
		})
	}
}

func startEnvoy(t *testing.T, config string) harness.Pages {
	t.Helper()
	e, err := harness.Exec(t, os.Getenv("ENVOY_BIN"), config)
	if err != nil {
		t.Fatal(err)
	}
	return e.Pages
}

// run plays all cases and returns a line for each.
func run(t *testing.T, start func(t *testing.T, config string) harness.Pages) string {
	t.Helper()
	dir := harness.Dir(t)
	m := &matrix{t: t, dir: dir}
	down, up := m.downstreams(), m.upstreams()
	config := m.config(down, up)
	for i := range up {
		up[i].serve(t, filepath.Join(dir, fmt.Sprintf("s%d", i)))
	}
	m.pages = start(t, config)
	var out strings.Builder
	for i := range down {
		result := down[i].play(t, filepath.Join(dir, fmt.Sprintf("d%d", i)))
		m.report(&out, "downstream: "+down[i].name, result, fmt.Sprintf("listener.d%d.ssl.", i), fmt.Sprintf("d%d", i))
	}
	for i := range up {
		text, err := harness.Fetch(harness.Client(filepath.Join(dir, "http")), fmt.Sprintf("http://x/u%d", i))
		result := "refused"
		if err == nil && text == "200 ok" {
			result = "accepted"
		}
		m.report(&out, "upstream: "+up[i].name, result, fmt.Sprintf("cluster.u%d.ssl.", i), fmt.Sprintf("/u%d", i))
	}
	return out.String()
}

func (m *matrix) report(out *strings.Builder, name, result, scope, logged string) {
	reason := m.reason(logged)
	if result == "accepted" {
		reason = "-" // Envoy tells how the client went
	}
	fmt.Fprintf(out, "%s: %s; %s; %s\n", name, result, m.counted(scope), reason)
}

// reason waits for the line of a log.
func (m *matrix) reason(key string) string {
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		b, _ := os.ReadFile(filepath.Join(m.dir, "log"))
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, key+" "); ok && strings.HasSuffix(rest, "\n") {
				return strings.TrimSpace(rest)
			}
		}
	}
	return "nothing logged"
}

// counted lists what is not zero of the counters that a failed handshake may change.
func (m *matrix) counted(scope string) string {
	var l []string
	for line := range strings.Lines(m.pages.Page("/stats?filter=" + strings.ReplaceAll(scope, ".", "[.]"))) {
		name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, scope)), ": ")
		switch name {
		case "connection_error", "handshake", "no_certificate", "fail_verify_no_cert", "fail_verify_error", "fail_verify_san", "fail_verify_cert_hash":
			if value != "0" {
				l = append(l, name+"="+value)
			}
		}
	}
	return strings.Join(l, " ")
}

// play shakes hands and asks once.
func (d *downstream) play(t *testing.T, socket string) string {
	t.Helper()
	raw := harness.Dial(t, socket)
	defer func() { _ = raw.Close() }()
	config := &tls.Config{InsecureSkipVerify: true, MaxVersion: d.version, MinVersion: tls.VersionTLS10, NextProtos: d.alpn}
	if d.cert != nil {
		c := d.cert.TLS()
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
	}
	c := tls.Client(raw, config)
	if harness.Send(c, "/") != nil {
		return "refused"
	}
	if a, err := harness.Receive(c); err != nil || a.Body != "ok" {
		return "refused"
	}
	return "accepted"
}

// serve answers on a socket until the test ends.
func (u *upstream) serve(t *testing.T, socket string) {
	t.Helper()
	config := &tls.Config{MinVersion: u.min}
	if u.cert != nil {
		config.Certificates = []tls.Certificate{u.cert.TLS()}
	}
	if u.wants != nil {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		config.ClientCAs.AddCert(u.wants.Cert)
	}
	harness.Serve(t, harness.Listen(t, socket), func(c net.Conn) { u.answer(c, config) })
}

func (u *upstream) answer(c net.Conn, config *tls.Config) {
	_ = c.SetDeadline(time.Now().Add(harness.Patience))
	switch {
	case u.shy:
		_, _ = c.Read(make([]byte, 16<<10)) // the whole hello: what is not read would make it a reset
		return
	case u.plain:
		_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		_, _ = io.Copy(io.Discard, c)
		return
	}
	s := tls.Server(c, config)
	if _, err := http.ReadRequest(bufio.NewReader(s)); err != nil {
		return
	}
	_, _ = s.Write([]byte("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"))
	_ = s.Close()
}

const fileLog = "{name: log, typed_config: {'@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: %q, " +
	"log_format: {text_format_source: {inline_string: \"%s %s\\n\"}}}}"

// config is the bootstrap for all cases: a listener for each downstream one, a cluster and a route for each upstream one.
func (m *matrix) config(down []downstream, up []upstream) string {
	server := pkitest.Authority(m.t, "front").Issue(m.t, pkitest.Leaf{DNS: []string{"front.test"}})
	identity := "tls_certificates: [" + harness.Identity(m.t, server) + "]"
	logPath := filepath.Join(m.dir, "log")
	var b strings.Builder
	b.WriteString(harness.Admin + "static_resources:\n  listeners:\n")
	for i, d := range down {
		fmt.Fprintf(&b, "  - name: d%d\n    stat_prefix: d%d\n    address: {pipe: {path: %s}}\n", i, i, filepath.Join(m.dir, fmt.Sprintf("d%d", i)))
		fmt.Fprintf(&b, "    access_log: ["+fileLog+"]\n", logPath, fmt.Sprintf("d%d", i), "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%")
		fmt.Fprintf(&b, "    filter_chains:\n    - filters:\n%s", manager(6, "", "direct_response: {status: 200, body: {inline_string: ok}}"))
		fmt.Fprintf(&b, "      transport_socket:\n        name: tls\n        typed_config:\n          '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n")
		fmt.Fprintf(&b, "          require_client_certificate: %v\n          common_tls_context:\n            %s\n            alpn_protocols: [http/1.1]\n            tls_params: {%s}\n", d.require, identity, d.params)
		if d.validation != "" {
			fmt.Fprintf(&b, "            validation_context:\n%s", indent(14, d.validation))
		}
	}
	fmt.Fprintf(&b, "  - name: http\n    address: {pipe: {path: %s}}\n    filter_chains:\n    - filters:\n%s", filepath.Join(m.dir, "http"),
		manager(6, "access_log: ["+fmt.Sprintf(fileLog, logPath, "%REQ(:path)%", "%RESPONSE_FLAGS% %UPSTREAM_TRANSPORT_FAILURE_REASON%")+"]", ""))
	for i := range up {
		fmt.Fprintf(&b, "              - {match: {path: /u%d}, route: {cluster: u%d}}\n", i, i)
	}
	b.WriteString("  clusters:\n")
	for i, u := range up {
		fmt.Fprintf(&b, "  - name: u%d\n    connect_timeout: 2s\n    load_assignment: {cluster_name: u, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: %s}}}}]}]}\n", i, filepath.Join(m.dir, fmt.Sprintf("s%d", i)))
		fields := "common_tls_context: {" + u.common + "}"
		if u.context != "" {
			fields += ", " + u.context
		}
		fmt.Fprintf(&b, "    transport_socket: {name: tls, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, %s}}\n", fields)
	}
	return b.String()
}

// manager is a connection manager with one route, or with a list of routes to be written behind it.
func manager(n int, more, route string) string {
	text := "- name: hcm\n  typed_config:\n    '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n" +
		"    stat_prefix: in\n"
	if more != "" {
		text += "    " + more + "\n"
	}
	text += "    http_filters: [{name: r, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]\n" +
		"    route_config:\n      virtual_hosts:\n      - name: v\n        domains: ['*']\n        routes:\n"
	if route != "" {
		text += "        - {match: {prefix: /}, " + route + "}\n"
	}
	return indent(n, text)
}

func indent(n int, text string) string {
	pad := strings.Repeat(" ", n)
	return pad + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+pad) + "\n"
}
