package examples

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/test/harness"
)

// TestFilter builds examples/filter as somebody else's module does, so with what this one exports, and runs it.
func TestFilter(t *testing.T) {
	if os.Getenv("OUTRIGGER_ENGINE") == "goroutine" {
		t.Skip("what it builds does not depend on the engine")
	}
	dir := t.TempDir()
	program := outside(t, dir)
	socket := filepath.Join(dir, "listener.sock")
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	c := exec.CommandContext(ctx, program, "--concurrency", "1", "--disable-hot-restart", "--drain-time-s", "0", "--config-yaml", `
static_resources:
  listeners:
  - address: {pipe: {path: "`+socket+`"}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: in}}}]}
          http_filters:
          - name: example.api_key
            typed_config: {"@type": type.googleapis.com/google.protobuf.StringValue, value: secret}
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`)
	log, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	for lines.Scan() && !strings.Contains(lines.Text(), "listeners are up") {
	}
	for key, want := range map[string]string{"secret": "200 in", "guess": "403 wrong or missing x-api-key\n"} {
		if got := ask(t, socket, key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	_ = c.Process.Signal(os.Interrupt)
	_, _ = io.Copy(io.Discard, log)
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// outside makes a module of its own in dir out of examples/filter and the examples of package filter, without the network, and
// returns the program that it builds.
func outside(t *testing.T, dir string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"go.mod": "go.mod", "go.sum": "go.sum", "examples/filter/main.go": "main.go", "filter/example_test.go": "kinds/example_test.go"} {
		text, err := os.ReadFile(filepath.Join(root, from))
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(dir, to)), 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const module = "github.com/outrigger-proxy/outrigger"
	for _, args := range [][]string{
		{"mod", "edit", "-module", "example.com/sidecar", "-require", module + "@v0.0.0", "-replace", module + "=" + root},
		{"build", "-o", "sidecar", "."},
		{"test", "./kinds"},
	} {
		c := exec.CommandContext(t.Context(), "go", args...)
		c.Dir = dir
		c.Env = append(os.Environ(), "GOFLAGS=-mod=mod -buildvcs=false", "GOPROXY=off", "GOWORK=off")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	return filepath.Join(dir, "sidecar")
}

// ask sends a request with a key and returns the status and the body.
func ask(t *testing.T, socket, key string) string {
	t.Helper()
	h := harness.Client(socket)
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://sidecar/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("X-Api-Key", key)
	res, err := h.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.Status[:3] + " " + string(body)
}
