package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed bootstrap.yaml
var bootstrap string

// stage is where the demo takes place.
type stage struct {
	ctx       context.Context
	binary    string // of the proxy
	self      string
	dir       string
	what      string // it is, for a person
	pod       string // network namespace of the application and its sidecar; empty: this one
	services  string // and of the services
	service   string // address that the application calls
	instances map[string]string
	running   map[string]*exec.Cmd
	undo      []func() error
}

// newStage makes namespaces if it may, and else finds free ports on the loopback interface.
func newStage(ctx context.Context, binary string) (*stage, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "outrigger-demo")
	if err != nil {
		return nil, err
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return nil, err
	}
	s := newEmptyStage(ctx, binary, self, dir)
	if os.Getuid() != 0 {
		return s, s.loopback("You are not root")
	}
	if err := s.namespaces(); err != nil {
		if err := s.clean(); err != nil {
			return nil, err
		}
		return s, s.loopback(fmt.Sprintf("No network namespaces here (%v)", err))
	}
	return s, nil
}

func newEmptyStage(ctx context.Context, binary, self, dir string) *stage {
	_ = os.Chmod(dir, 0o777) // the sidecar runs as another user
	return &stage{ctx: ctx, binary: binary, self: self, dir: dir, running: map[string]*exec.Cmd{}}
}

// loopback takes free ports: nothing is redirected, the application calls the listener.
func (s *stage) loopback(why string) error {
	s.instances, s.pod, s.services = map[string]string{}, "", ""
	for _, name := range []string{"service", "v1-a", "v1-b", "v2-a"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		s.instances[name] = l.Addr().String()
		defer func() { _ = l.Close() }()
	}
	s.service = s.instances["service"]
	delete(s.instances, "service")
	s.what = why + ": everything runs over the loopback interface, and the application calls Outrigger's listener itself."
	return nil
}

// namespaces makes a pod and a network of services, joined by a cable.
func (s *stage) namespaces() error {
	id := fmt.Sprintf("or%d", os.Getpid()%100000)
	s.pod, s.services = id+"-pod", id+"-svc"
	s.instances = map[string]string{"v1-a": "10.77.0.11:8080", "v1-b": "10.77.0.12:8080", "v2-a": "10.77.0.13:8080"}
	s.service = "10.77.1.1:80"
	for _, ns := range []string{s.pod, s.services} {
		if err := s.system("ip", "netns", "add", ns); err != nil {
			return err
		}
		s.undo = append(s.undo, func() error { return exec.Command("ip", "netns", "del", ns).Run() })
	}
	for _, c := range []string{
		"ip -n {svc} link set lo up", "ip -n {pod} link set lo up",
		"ip -n {pod} link add eth0 type veth peer name eth0 netns {svc}",
		"ip -n {pod} addr add 10.77.0.1/24 dev eth0", "ip -n {pod} link set eth0 up", "ip -n {svc} link set eth0 up",
		"ip -n {svc} addr add 10.77.0.11/24 dev eth0", "ip -n {svc} addr add 10.77.0.12/24 dev eth0", "ip -n {svc} addr add 10.77.0.13/24 dev eth0",
		"ip -n {pod} route add default via 10.77.0.11",
	} {
		if err := s.system(strings.Fields(strings.NewReplacer("{pod}", s.pod, "{svc}", s.services).Replace(c))...); err != nil {
			return err
		}
	}
	if err := s.system("ip", "netns", "exec", s.pod, s.binary, "iptables", "-i", "*", "-b", "*"); err != nil {
		return err
	}
	s.what = "An application in a network namespace of its own calls the service at " + s.service + ", an address that nobody has;\n" +
		"iptables redirects the call to Outrigger (as `outrigger iptables -i '*' -b '*'` set up)."
	return nil
}

func (s *stage) system(args ...string) error {
	if out, err := exec.CommandContext(s.ctx, args[0], args[1:]...).CombinedOutput(); err != nil { // our own commands
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// start starts the instances and the sidecar, and waits until it is ready.
func (s *stage) start() error {
	for name, address := range s.instances {
		version, _, _ := strings.Cut(name, "-")
		if err := s.launch(name, s.services, 0, s.self, "app", "-version", version, "-name", name, "-listen", address); err != nil {
			return err
		}
	}
	config := filepath.Join(s.dir, "envoy.yaml")
	if err := os.WriteFile(config, []byte(s.bootstrap()), 0o644); err != nil { // the sidecar runs as another user
		return err
	}
	const user = 1337 // whom the rules leave alone
	if err := s.launch("outrigger", s.pod, user, s.binary, "-c", config, "--concurrency", "1", "-l", "error", "--drain-time-s", "1",
		"--file-flush-interval-msec", "100"); err != nil {
		return err
	}
	var err error
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err = s.admin("/ready"); err == nil {
			return nil
		}
	}
	return fmt.Errorf("outrigger is not ready: %w", err)
}

// bootstrap fills the addresses in.
func (s *stage) bootstrap() string {
	pairs := []string{"{{dir}}", s.dir}
	for name, address := range s.instances {
		host, port, _ := net.SplitHostPort(address)
		pairs = append(pairs, "{{"+name+".host}}", host, "{{"+name+".port}}", port)
	}
	host, port, _ := net.SplitHostPort(s.service)
	redirected := "true"
	if s.pod == "" {
		redirected = "false"
	}
	return strings.NewReplacer(append(pairs, "{{service.host}}", host, "{{service.port}}", port, "{{redirected}}", redirected,
		"{{direct}}", strconv.FormatBool(s.pod == ""))...).Replace(bootstrap)
}

// launch starts a process that clean ends, in a namespace if one is named.
func (s *stage) launch(name, namespace string, user uint32, args ...string) error {
	cmd := s.command(namespace, args...)
	cmd.Stderr = os.Stderr
	if user != 0 && s.pod != "" {
		cmd = s.command(namespace, append([]string{"setpriv", "--reuid", strconv.FormatUint(uint64(user), 10), "--regid", strconv.FormatUint(uint64(user), 10), "--clear-groups"}, args...)...)
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.running[name] = cmd
	return nil
}

func (s *stage) command(namespace string, args ...string) *exec.Cmd {
	if namespace != "" {
		args = append([]string{"ip", "netns", "exec", namespace}, args...)
	}
	cmd := exec.CommandContext(s.ctx, args[0], args[1:]...) // our own commands
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// end ends a process that launch started.
func (s *stage) end(name string, signal os.Signal) error {
	cmd := s.running[name]
	delete(s.running, name)
	_ = cmd.Process.Signal(signal)
	err := cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil
	}
	return err
}

// traffic runs the application, and kills an instance in the middle.
func (s *stage) traffic() (*result, error) {
	cmd := s.command(s.pod, s.self, "client", "-url", "http://"+s.service+"/", "-n", strconv.Itoa(requests), "-mark", strconv.Itoa(killAt))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r, lines := &result{}, bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for {
		if !lines.Scan() {
			return nil, errors.Join(errors.New("the client said nothing"), cmd.Wait())
		}
		if lines.Text() == "mark" {
			if err := s.end("v1-b", syscall.SIGKILL); err != nil {
				return nil, err
			}
			continue
		}
		if err := json.Unmarshal(lines.Bytes(), r); err != nil {
			return nil, err
		}
		return r, cmd.Wait()
	}
}

// admin asks the admin interface, which listens on a unix socket: that needs no namespace.
func (s *stage) admin(path string) (string, error) {
	c, err := net.Dial("unix", filepath.Join(s.dir, "admin.sock"))
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	return ask(c, path)
}

func (s *stage) accessLog() ([]string, error) {
	time.Sleep(150 * time.Millisecond) // the flush interval
	text, err := os.ReadFile(filepath.Join(s.dir, "access.log"))
	return strings.Split(strings.TrimSpace(string(text)), "\n"), err
}

// clean ends every process and removes everything, in the opposite order of its making.
func (s *stage) clean() error {
	var all []error
	for name := range s.running {
		all = append(all, s.end(name, syscall.SIGTERM))
	}
	for _, v := range slices.Backward(s.undo) {
		all = append(all, v())
	}
	s.undo = nil
	return errors.Join(all...)
}
