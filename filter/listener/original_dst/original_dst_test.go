package originaldst

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/sockopt"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) { fieldtest.Check(t, "fields.golden", &originaldstv3.OriginalDst{}) }

func build(t *testing.T) filter.ListenerFilter {
	t.Helper()
	var r extension.Registry[filter.ListenerFilter, filter.Env]
	extension.Add(&r, New)
	a, err := anypb.New(&originaldstv3.OriginalDst{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.Build(a, filter.Env{Process: &filter.Process{}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestPipesAndUnixSocketsAreLeftAlone(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		a, b := fiber.Pipe(w)
		for _, remote := range []stream.Address{{}, {AddrPort: netip.MustParseAddrPort("1.2.3.4:5")}} {
			acc := &filter.Accepted{Conn: a, Worker: w, Info: &stream.Conn{DirectRemote: remote}}
			if build(t).OnAccept(acc) != filter.Continue || acc.Info.LocalRestored || acc.Info.Local.IsValid() {
				t.Errorf("%+v", acc)
			}
		}
		_ = a.Close()
		_ = b.Close()
	})
}

// inNamespace makes the test run again, as the only one, in a network namespace of its own, where it may do as it pleases.
func inNamespace(t *testing.T) (inside bool) {
	t.Helper()
	if os.Getenv("OUTRIGGER_NAMESPACE") == t.Name() {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "OUTRIGGER_NAMESPACE="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, syscall.EPERM):
		t.Skipf("this machine makes no network namespace: %v", err)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("%s", out)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

func command(t *testing.T, line string) {
	t.Helper()
	f := strings.Fields(line)
	if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
		t.Skipf("%s: %v: %s", line, err, out)
	}
}

func TestRedirectedConnection(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	command(t, "ip link set lo up")
	command(t, "ip route add local 203.0.113.0/24 dev lo")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	port := l.Addr().(*net.TCPAddr).Port
	command(t, fmt.Sprintf("iptables -t nat -A OUTPUT -p tcp -d 203.0.113.9 --dport 80 -j REDIRECT --to-ports %d", port))
	c, err := net.Dial("tcp4", "203.0.113.9:80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	f, err := s.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	acc := &filter.Accepted{Conn: descriptor{fd: int(f.Fd())}, Info: &stream.Conn{DirectRemote: stream.Address{AddrPort: netip.MustParseAddrPort("127.0.0.1:1")}}}
	build(t).OnAccept(acc)
	if !acc.Info.LocalRestored || acc.Info.Local.String() != "203.0.113.9:80" {
		t.Errorf("%+v", acc.Info.Local)
	}
}

func TestTransparentConnection(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := sockopt.Transparent().Apply(fd, sockopt.Prebind); err != nil {
		t.Skipf("no CAP_NET_ADMIN: %v", err)
	}
	local := stream.Address{AddrPort: netip.MustParseAddrPort("203.0.113.9:80")}
	acc := &filter.Accepted{Conn: descriptor{fd: fd}, Info: &stream.Conn{DirectLocal: local, DirectRemote: stream.Address{AddrPort: netip.MustParseAddrPort("127.0.0.1:1")}}}
	build(t).OnAccept(acc)
	if !acc.Info.LocalRestored || acc.Info.Local != local {
		t.Errorf("%+v", acc.Info.Local)
	}
}

// descriptor is a connection of which only the descriptor matters.
type descriptor struct {
	fiber.Conn

	fd int
}

func (d descriptor) Control(f func(int) error) error { return f(d.fd) }
