package examples

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/test/harness"
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

// certificates makes a folder with a certificate, its key, and the authority.
func certificates(t *testing.T) string {
	t.Helper()
	ca := pkitest.Authority(t, "ca")
	c := ca.Issue(t, pkitest.Leaf{DNS: []string{"example.org"}})
	dir := t.TempDir()
	for name, text := range map[string]string{"cert.pem": c.Chain(), "key.pem": c.KeyPEM(t), "ca.pem": pkitest.PEM(ca.Cert)} {
		harness.Put(t, filepath.Join(dir, name), text)
	}
	return dir
}

// validate loads a bootstrap without running it.
func validate(t *testing.T, text string) {
	t.Helper()
	if strings.Contains(text, certs) {
		text = strings.ReplaceAll(text, certs, certificates(t))
	}
	if err := harness.Check(text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	envoy := os.Getenv("ENVOY_BIN")
	if envoy == "" || strings.Contains(text, "outrigger.extensions.") { // which Envoy does not have
		return
	}
	if err := harness.Refusal(t, envoy, text); err != nil {
		t.Errorf("Envoy: %v\n%s", err, text)
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
