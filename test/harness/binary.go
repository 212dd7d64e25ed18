package harness

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Binary is a proxy in a process of its own: Envoy, or ours.
type Binary struct {
	Pages

	cmd   *exec.Cmd
	ended chan struct{}
}

// Exec runs a binary with a bootstrap, which has an admin interface, until the test ends, and waits until it is live. The error is that of
// a configuration that it refuses.
func Exec(tb testing.TB, path, config string) (*Binary, error) {
	tb.Helper()
	dir := tb.TempDir()
	file, admin := filepath.Join(dir, "envoy.yaml"), filepath.Join(dir, "admin")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	c := exec.Command(path, "-c", file, "--concurrency", "1", "-l", "error", "--disable-hot-restart", "--use-dynamic-base-id",
		"--admin-address-path", admin, "--file-flush-interval-msec", "5", "--drain-time-s", "2")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr strings.Builder
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		tb.Fatal(err)
	}
	b := &Binary{Pages{tb: tb}, c, make(chan struct{})}
	go func() { _ = c.Wait(); close(b.ended) }() // ends with the process
	tb.Cleanup(func() { _ = c.Process.Kill(); <-b.ended })
	live := Eventually(func() bool {
		select {
		case <-b.ended:
			return true
		default:
		}
		text, err := os.ReadFile(admin)
		if b.admin = string(text); err != nil || b.admin == "" {
			return false
		}
		a, err := call(Client(b.admin), http.MethodGet, "http://admin/ready")
		return err == nil && a.Status == http.StatusOK
	})
	select {
	case <-b.ended:
		return nil, errors.New(stderr.String())
	default:
	}
	if !live {
		return nil, fmt.Errorf("%s is not live", path)
	}
	return b, nil
}

// Refusal says what `--mode validate` of a binary says against a bootstrap.
func Refusal(tb testing.TB, path, config string) error {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), path, "--mode", "validate", "-l", "error", "--disable-hot-restart", "--config-yaml", config).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// Terminate asks it to end as an operator does, and waits for its end.
func (b *Binary) Terminate() error {
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	return await(b.ended)
}

func await(ended <-chan struct{}) error {
	select {
	case <-ended:
		return nil
	case <-time.After(Patience):
		return errors.New("the proxy does not end")
	}
}

// Address is where a listener listens; an empty name means the first one.
func (b *Binary) Address(name string) string {
	b.tb.Helper()
	var list struct {
		Statuses []struct {
			Name  string `json:"name"`
			Local struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	b.read("/listeners?format=json", &list)
	for _, l := range list.Statuses {
		if name == "" || name == l.Name {
			return fmt.Sprintf("%s:%d", l.Local.Socket.Address, l.Local.Socket.Port)
		}
	}
	b.tb.Fatalf("there is no listener %q", name)
	return ""
}
