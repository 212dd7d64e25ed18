package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/filter/all"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/log"
	outrigger "github.com/outrigger-proxy/outrigger/proxy"
	"github.com/outrigger-proxy/outrigger/proxy/bootstrap"
)

// inside is a proxy that runs in this process.
type inside struct {
	p     *outrigger.Proxy
	ended chan struct{}
}

func inProcess(engine string) starter {
	makeWorker := fiber.New
	if engine == "goroutine" {
		makeWorker = fiber.NewGoroutines
	}
	return func(_ *testing.T, text string, check bool) (proxy, error) {
		r, err := bootstrap.Load(bootstrap.Source{YAML: text})
		if err != nil {
			return nil, err
		}
		if _, err := log.CompileConfig(r.Bootstrap.GetApplicationLogConfig()); err != nil {
			return nil, err
		}
		flags := &adminv3.CommandLineOptions{
			Concurrency: 1, DrainTime: durationpb.New(2 * time.Second),
			FileFlushInterval: durationpb.New(20 * time.Millisecond),
		}
		if check {
			flags.Mode = adminv3.CommandLineOptions_Validate
		}
		p, err := outrigger.New(r.Bootstrap, outrigger.Options{
			Flags:      flags,
			Extensions: all.Extensions(), Logs: log.Discard(), Engine: makeWorker,
		})
		if err != nil {
			return nil, err
		}
		if check {
			p.Close()
			return nil, nil
		}
		in := &inside{p, make(chan struct{})}
		go func() { p.Run(); close(in.ended) }() // ends with shutdown
		return in, untilReady(in)
	}
}

func (i *inside) admin() string { return i.p.AdminAddress() }

func (i *inside) listener(name string) string { return listenerAddress(i.admin(), name) }

func (i *inside) shutdown() error {
	i.p.Shutdown()
	select {
	case <-i.ended:
		return nil
	case <-time.After(10 * time.Second):
		i.p.Quit()
		return errors.New("the proxy did not end")
	}
}

// outside is a proxy in a process of its own.
type outside struct {
	cmd     *exec.Cmd
	address string
	ended   chan error
}

func binary(path string) starter {
	return func(t *testing.T, text string, check bool) (proxy, error) {
		dir := t.TempDir()
		config, address := filepath.Join(dir, "envoy.yaml"), filepath.Join(dir, "admin")
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return nil, err
		}
		if check {
			return nil, exec.Command(path, "-c", config, "--mode", "validate", "-l", "error").Run()
		}
		cmd := exec.Command(path, "-c", config, "--concurrency", "1", "-l", "error", "--disable-hot-restart", "--use-dynamic-base-id",
			"--admin-address-path", address, "--file-flush-interval-msec", "20", "--drain-time-s", "2")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		o := &outside{cmd: cmd, ended: make(chan error, 1)}
		go func() { o.ended <- cmd.Wait() }() // ends with the process
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
			select {
			case <-o.ended:
				return nil, fmt.Errorf("refused: %s", stderr.String())
			default:
			}
			if b, err := os.ReadFile(address); err == nil && len(b) > 0 {
				o.address = string(b)
				return o, untilReady(o)
			}
		}
		return nil, errors.New("no admin address")
	}
}

func (o *outside) admin() string { return o.address }

func (o *outside) listener(name string) string { return listenerAddress(o.address, name) }

func (o *outside) shutdown() error {
	if err := o.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-o.ended
	return nil
}

func untilReady(p proxy) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		if body, err := get("http://" + p.admin() + "/ready"); err == nil && body == "LIVE\n" {
			return nil
		}
	}
	return errors.New("not ready in time")
}

// listenerAddress asks the admin interface where a listener is; an empty name means the first one.
func listenerAddress(admin, name string) string {
	body, err := get("http://" + admin + "/listeners?format=json")
	if err != nil {
		return err.Error()
	}
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
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		return err.Error()
	}
	for _, l := range list.Statuses {
		if name == "" || name == l.Name {
			return fmt.Sprintf("%s:%d", l.Local.Socket.Address, l.Local.Socket.Port)
		}
	}
	return "no listener " + name
}

func get(url string) (string, error) {
	q, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	q.Close = true
	res, err := http.DefaultTransport.RoundTrip(q)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

// noLeaks runs f and then end, and checks that no goroutine and no file descriptor is left behind.
func noLeaks(t *testing.T, inProcess bool, end, f func()) {
	before := descriptors(t)
	ignore := goleak.IgnoreCurrent()
	f()
	end()
	if !inProcess {
		return
	}
	if err := goleak.Find(ignore); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(time.Second); descriptors(t) > before; <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%d file descriptors before, %d after", before, descriptors(t))
			return
		}
	}
}

func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
