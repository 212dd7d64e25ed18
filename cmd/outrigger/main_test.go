package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outrigger-proxy/outrigger/filter/all"
	"github.com/outrigger-proxy/outrigger/proxy"
)

// command runs the program with arguments.
func command(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = proxy.Command(append([]string{"outrigger"}, args...), all.Extensions(), &out, &err)
	return code, out.String(), err.String()
}

// write writes a bootstrap to a file.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestValidate(t *testing.T) {
	good := write(t, "good.yaml", "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}\n")
	bad := write(t, "bad.yaml", "static_resources:\n  clusters:\n  - name: a\n    type: NOPE\n")
	for _, c := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"-c", good, "--mode", "validate"}, 0, "configuration '" + good + "' OK\n", ""},
		{[]string{"-c", good, "--mode", "init_only", "--admin-address-path", "/dev/null", "--config-yaml", "admin: {address: {socket_address: {port_value: 0}}}"}, 0, "", ""},
		{
			[]string{"-c", bad, "--mode", "validate", "--log-format", "%l %v"},
			1, "",
			"critical error initializing configuration '" + bad + "': static_resources.clusters[0].type: unknown enum value \"NOPE\" of envoy.config.cluster.v3.Cluster.DiscoveryType\n",
		},
		{
			[]string{"-c", good, "--log-format", "%v", "--config-yaml", "application_log_config: {log_format: {text_format: x}}"},
			1, "",
			"error initializing configuration '" + good + "': application_log_config.log_format: only one of it and the command line option --log-format can be specified\n",
		},
		{[]string{"-c", good, "--log-path", "/nowhere/x"}, 1, "", "error: failed to open log-file '/nowhere/x': open /nowhere/x: no such file or directory\n"},
		{[]string{"--mode", "sing"}, 1, "", "error: unknown mode 'sing'\n"},
		{[]string{"--version"}, 0, "\noutrigger  version: " + proxy.Version + "\n\n", ""},
		{[]string{"-c", good, "--restart-epoch", "1", "--log-format", "%v"}, 1, "", "error initializing configuration '" + good + "': --restart-epoch 1: hot restart is not supported\n"},
		{
			[]string{"-c", good, "--mode", "validate", "--disable-extensions", "envoy.filters.http/envoy.filters.http.router,x", "--log-format", "%v"},
			0,
			"configuration '" + good + "' OK\n", "failed to disable invalid extension name 'x'\n",
		},
	} {
		code, stdout, stderr := command(append([]string{"-l", "warn"}, c.args...)...)
		if code != c.code || stdout != c.stdout || stderr != c.stderr {
			t.Errorf("%q: %d\nstdout %q\nstderr %q", c.args, code, stdout, stderr)
		}
	}
}

func TestBaseIDPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "id")
	good := write(t, "good.yaml", "node: {id: a}\n")
	if code, _, stderr := command("-c", good, "--mode", "validate", "--base-id", "7", "--base-id-path", path); code != 0 {
		t.Fatal(stderr)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "7" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestPublicConfigurations: bootstraps from public repositories are taken or refused as Envoy does, as far as the extensions they use exist.
// With -v it tells why each is refused.
func TestPublicConfigurations(t *testing.T) {
	root := configurations(t)
	taken := 0
	valid := files(t, filepath.Join(root, "valid"))
	for _, path := range valid {
		switch code, why := validate(t, path); {
		case code == 0:
			taken++
		case notYet(why):
			t.Logf("not yet: %s: %s", filepath.Base(path), why)
		default:
			t.Errorf("%s is valid, but refused: %s", filepath.Base(path), why)
		}
	}
	t.Logf("%d of %d valid ones are taken", taken, len(valid))
	for _, path := range files(t, filepath.Join(root, "invalid")) {
		if code, why := validate(t, path); code != 1 || !strings.Contains(why, ": ") {
			t.Errorf("%s is invalid: got %d, %s", path, code, why)
		}
	}
}

// validate returns the exit code and the reason of a refusal, which is one line.
func validate(t *testing.T, path string) (code int, why string) {
	t.Helper()
	code, _, stderr := command("-c", path, "--mode", "validate", "-l", "critical")
	if lines := strings.Count(stderr, "\n"); lines != code {
		t.Errorf("%s: exit code %d and %d lines", path, code, lines)
	}
	_, why, _ = strings.Cut(strings.TrimSuffix(stderr, "\n"), "error initializing configuration '"+path+"': ")
	return code, why
}

// notYet says that a refusal is for want of an extension or a feature, and says so.
func notYet(stderr string) bool {
	for _, s := range []string{"didn't find a registered", "not supported"} {
		if strings.Contains(stderr, s) {
			return true
		}
	}
	return false
}

// configurations finds the folder beside the repository, which is not part of it.
func configurations(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dir != filepath.Dir(dir) {
		if s, err := os.Stat(filepath.Join(dir, "shared", "configs", "valid")); err == nil && s.IsDir() {
			return filepath.Join(dir, "shared", "configs")
		}
		dir = filepath.Dir(dir)
	}
	t.Skip("the folder shared/configs with public configurations is not beside the repository")
	return ""
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*.*"))
	if err != nil || len(list) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(list), err)
	}
	return list
}
