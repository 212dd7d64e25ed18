package examples

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"

	"github.com/outrigger-proxy/outrigger/filter/all"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/proxy"
	"github.com/outrigger-proxy/outrigger/proxy/bootstrap"
)

// A fragment of a README begins with the key that says where in a bootstrap it stands.
const (
	routes  = "route_config: {virtual_hosts: [{name: all, domains: ['*'], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}]}\n"
	router  = "- name: router\n  typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}\n"
	routing = "http_filters:\n" + router
	echo    = "- name: echo\n  typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}\n"
)

// bootstrapOf makes a bootstrap of a fragment; empty: its key is not known.
func bootstrapOf(fragment string) string {
	key, _, _ := strings.Cut(fragment, ":")
	switch key {
	case "clusters":
		return "static_resources:\n" + indent(2, fragment)
	case "load_balancing_policy":
		return "static_resources:\n  clusters:\n  - name: c\n    connect_timeout: 1s\n" + indent(4, fragment)
	case "name": // an extension of a filter
		if strings.HasPrefix(fragment, "name: envoy.http.stateful_session.") {
			return managerOf(routes + "http_filters:\n- name: session\n  typed_config:\n    \"@type\": " +
				"type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession\n    session_state:\n" + indent(6, fragment) + router)
		}
	case "listener_filters":
		return listenerOf(fragment + "filter_chains:\n- filters:\n" + indent(2, echo))
	case "transport_socket":
		return listenerOf("filter_chains:\n- filters:\n" + indent(2, echo) + indent(2, fragment))
	case "filters":
		if !strings.Contains(fragment, "tcp_proxy") && !strings.Contains(fragment, "http_connection_manager") && !strings.Contains(fragment, "direct_response") &&
			!strings.Contains(fragment, "echo") {
			fragment += indent(0, echo)
		}
		return listenerOf("filter_chains:\n-\n" + indent(2, fragment))
	case "http_filters":
		if !strings.Contains(fragment, "router.v3.Router") {
			fragment += router
		}
		return managerOf(routes + fragment)
	case "route_config":
		return managerOf(fragment + routing)
	case "access_log", "early_header_mutation_extensions", "original_ip_detection_extensions":
		return managerOf(fragment + routes + routing)
	}
	return ""
}

func indent(n int, text string) string {
	return strings.Repeat(" ", n) + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+strings.Repeat(" ", n)) + "\n"
}

func listenerOf(fields string) string {
	var clusters strings.Builder
	for _, name := range []string{"db", "reviews", "cart-beta", "v1", "v2"} {
		clusters.WriteString("  - {name: " + name + ", connect_timeout: 1s}\n")
	}
	return "static_resources:\n  listeners:\n  - name: in\n    address: {socket_address: {address: 127.0.0.1, port_value: 0}}\n" + indent(4, fields) +
		"  clusters:\n" + clusters.String()
}

func managerOf(fields string) string {
	return listenerOf("filter_chains:\n- filters:\n  - name: hcm\n    typed_config:\n      \"@type\": " +
		"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n      stat_prefix: in\n" + indent(6, fields))
}

var fragments = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestReadmes loads the example of every README into the proxy, and, with ENVOY_BIN set, into that binary. The folder of an extension has
// a README with an example, and in it stand its status, security posture, statistics and differences.
func TestReadmes(t *testing.T) {
	err := filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		if e != nil && e.IsDir() && strings.HasPrefix(e.Name(), ".") && len(e.Name()) > 2 {
			return fs.SkipDir
		}
		switch {
		case err != nil:
			return err
		case e.Name() == "README.md":
			t.Run(path[len("../../"):], func(t *testing.T) { readme(t, path) })
		case e.Name() == "fields.golden" && strings.Count(path, "/filter/") == 1 && strings.Count(path, "/") > 4:
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), "README.md")); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func readme(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := fragments.FindAllSubmatch(text, -1)
	if strings.HasPrefix(path, "../../filter/") {
		for _, word := range []string{"Status: ", "Security posture: ", "Statistics", "Differences from Envoy"} {
			if !strings.Contains(string(text), word) {
				t.Errorf("it does not say %q", word)
			}
		}
		if len(found) == 0 {
			t.Error("it has no example")
		}
	}
	for _, m := range found {
		b := bootstrapOf(string(m[1]))
		if b == "" {
			t.Errorf("nobody can tell where this stands:\n%s", m[1])
			continue
		}
		validate(t, b)
	}
}

// certs is where the certificates of examples are.
const certs = "/etc/certs"

// certificates makes a folder with a certificate, its key, and the authority, which is the same.
func certificates(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"example.org"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "ca.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// validate loads a bootstrap without running it.
func validate(t *testing.T, text string) {
	t.Helper()
	if strings.Contains(text, certs) {
		text = strings.ReplaceAll(text, certs, certificates(t))
	}
	r, err := bootstrap.Load(bootstrap.Source{YAML: text})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	p, err := proxy.New(r.Bootstrap, proxy.Options{
		Flags:      &adminv3.CommandLineOptions{Concurrency: 1, Mode: adminv3.CommandLineOptions_Validate},
		Extensions: all.Extensions(), Logs: log.Discard(), Engine: fiber.New,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	p.Close()
	envoy := os.Getenv("ENVOY_BIN")
	if envoy == "" || strings.Contains(text, "outrigger.extensions.") { // which Envoy does not have
		return
	}
	out, err := exec.CommandContext(t.Context(), envoy, "--mode", "validate", "--disable-hot-restart", "--config-yaml", text).CombinedOutput()
	if err != nil {
		t.Errorf("Envoy: %v\n%s\n%s", err, out, text)
	}
}

// TestExamplesAreEnvoys: each file of examples/ is one that real Envoy takes as well.
func TestExamplesAreEnvoys(t *testing.T) {
	paths, err := filepath.Glob("../../examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			validate(t, string(text))
		})
	}
}
