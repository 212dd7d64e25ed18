package failover

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// inNetwork runs f in a network of its own, where it may drop what it likes: the test runs itself once more.
func inNetwork(t *testing.T, f func()) {
	t.Helper()
	if os.Getenv("FAILOVER_NETWORK") != "" {
		command(t, "ip", "link", "set", "lo", "up")
		f()
		return
	}
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("there is no iptables to drop packets with")
	}
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), "FAILOVER_NETWORK=1")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := c.CombinedOutput()
	if len(out) == 0 && err != nil {
		t.Skipf("no network of our own can be had here: %v", err)
	}
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// drop lets nothing through to a host.
func drop(t *testing.T, h *host) { iptables(t, "-I", h) }

// heal ends that.
func heal(t *testing.T, h *host) { iptables(t, "-D", h) }

func iptables(t *testing.T, action string, h *host) {
	t.Helper()
	address, _, err := net.SplitHostPort(h.at)
	if err != nil {
		t.Fatal(err)
	}
	command(t, "iptables", "-w", action, "INPUT", "-d", address, "-j", "DROP")
}
