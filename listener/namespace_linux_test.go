package listener

import (
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespace makes a network namespace that lasts for the test, and a function that runs another one in it. Its path is that of the
// thread which lives there.
func inNamespace(t *testing.T) (path string, run func(func())) {
	t.Helper()
	work, ready := make(chan func()), make(chan error, 1)
	go func() { // ends with work; its thread ends with it, because it is never unlocked
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = loopbackUp()
		}
		path = fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		ready <- err
		for f := range work {
			f()
		}
	}()
	t.Cleanup(func() { close(work) })
	if err := <-ready; err != nil {
		t.Skip("needs the right to make network namespaces: ", err)
	}
	return path, func(f func()) {
		done := make(chan struct{})
		work <- func() { defer close(done); f() }
		<-done
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

func TestListensInAnotherNamespace(t *testing.T) {
	eachRig(t, 2, func(t *testing.T, r *rig) {
		path, run := inNamespace(t)
		r.add("name: l\naddress: {socket_address: {address: 127.0.0.1, port_value: 0, network_namespace_filepath: " + path + "}}\n" + chainOf("hi"))
		at := r.address("l", 0)
		if c, err := net.DialTimeout("tcp", at, time.Second); err == nil {
			_ = c.Close()
			t.Error("it listens in the namespace of the process")
		}
		run(func() {
			c, err := net.Dial("tcp", at)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			if got := r.all(c); got != "hi" {
				t.Errorf("got %q", got)
			}
		})
	})
}

func TestNoSuchNamespace(t *testing.T) {
	eachRig(t, 1, func(t *testing.T, r *rig) {
		p := read(t, "name: l\naddress: {socket_address: {address: 127.0.0.1, port_value: 0, network_namespace_filepath: /nowhere}}\n"+chainOf("hi"))
		r.do(func() {
			_, err := r.Update(p, "1")
			if err == nil || err.Error() != `listener "l": cannot bind '127.0.0.1:0': network namespace: open /nowhere: no such file or directory` {
				t.Error(err)
			}
		})
	})
}
