package sockopt

import (
	"errors"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func socket(t *testing.T, family int) int {
	t.Helper()
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no socket of family %d on this machine: %v", family, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func get(t *testing.T, fd, level, name int) int {
	t.Helper()
	v, err := unix.GetsockoptInt(fd, level, name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func intOption(level, name, value int64, state corev3.SocketOption_SocketState) *corev3.SocketOption {
	return &corev3.SocketOption{Level: level, Name: name, Value: &corev3.SocketOption_IntValue{IntValue: value}, State: state}
}

func TestOptionsAreAppliedInTheirState(t *testing.T) {
	fd := socket(t, unix.AF_INET)
	l, err := Parse([]*corev3.SocketOption{
		intOption(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, corev3.SocketOption_STATE_PREBIND),
		{Level: unix.IPPROTO_TCP, Name: unix.TCP_KEEPIDLE, Value: &corev3.SocketOption_BufValue{BufValue: nativeInt(77)}, State: corev3.SocketOption_STATE_LISTENING},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Apply(fd, Prebind); err != nil {
		t.Fatal(err)
	}
	if get(t, fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 1 {
		t.Error("the option of PREBIND was not set")
	}
	if get(t, fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE) == 77 {
		t.Error("the option of LISTENING was set too early")
	}
	if err := l.Apply(fd, Listening); err != nil {
		t.Fatal(err)
	}
	if get(t, fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE) != 77 {
		t.Error("the option of LISTENING was not set")
	}
	if l.Has(Bound) {
		t.Error("nothing is to be set after bind")
	}
}

func TestIPVersionAndTypeChooseTheSocket(t *testing.T) {
	o := intOption(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, corev3.SocketOption_STATE_PREBIND)
	o.IpVersion = corev3.SocketOption_SOCKET_IP_VERSION_IPV6
	l, err := Parse([]*corev3.SocketOption{o})
	if err != nil {
		t.Fatal(err)
	}
	v4, v6 := socket(t, unix.AF_INET), socket(t, unix.AF_INET6)
	for _, fd := range []int{v4, v6} {
		if err := l.Apply(fd, Prebind); err != nil {
			t.Fatal(err)
		}
	}
	if get(t, v4, unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0 || get(t, v6, unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 1 {
		t.Error("the option is for IPv6 alone")
	}
	o.Type = &corev3.SocketOption_SocketType{Datagram: &corev3.SocketOption_SocketType_Datagram{}}
	if l, _ := Parse([]*corev3.SocketOption{o}); len(l) != 0 {
		t.Error("an option for datagrams is not for us")
	}
}

func TestRefusals(t *testing.T) {
	_, err := Parse([]*corev3.SocketOption{intOption(1, 1, 1, 0), intOption(1, 1, 1<<40, 0)})
	if err == nil || !strings.HasPrefix(err.Error(), "[1].int_value: ") {
		t.Errorf("got %v", err)
	}
	if _, err := Parse([]*corev3.SocketOption{{Level: 1}}); err == nil {
		t.Error("an option needs a value")
	}
	l, err := Parse([]*corev3.SocketOption{intOption(12345, 6789, 1, corev3.SocketOption_STATE_BOUND)})
	if err != nil {
		t.Fatal(err)
	}
	var refused *Error
	if err := l.Apply(socket(t, unix.AF_INET), Bound); !errors.As(err, &refused) || !strings.Contains(err.Error(), "level 12345, name 6789") {
		t.Errorf("got %v", err)
	}
}

func TestKeepalive(t *testing.T) {
	if Keepalive(nil) != nil {
		t.Error("no message, no option")
	}
	fd := socket(t, unix.AF_INET)
	on := Keepalive(&corev3.TcpKeepalive{KeepaliveTime: wrapperspb.UInt32(33)})
	if err := on.Apply(fd, Prebind); err != nil {
		t.Fatal(err)
	}
	if get(t, fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 1 || get(t, fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE) != 33 {
		t.Error("keep-alive is not on")
	}
	off := Keepalive(&corev3.TcpKeepalive{KeepaliveTime: wrapperspb.UInt32(33), KeepaliveProbes: wrapperspb.UInt32(0)})
	if err := off.Apply(fd, Prebind); err != nil {
		t.Fatal(err)
	}
	if get(t, fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0 {
		t.Error("a field of 0 turns keep-alive off")
	}
}

func TestOriginalDstOfAnOrdinarySocket(t *testing.T) {
	for v6, family := range map[bool]int{false: unix.AF_INET, true: unix.AF_INET6} {
		fd := socket(t, family)
		if _, _, ok := OriginalDst(fd, v6); ok {
			t.Errorf("v6=%v: a socket that was not redirected has no original destination", v6)
		}
		if IsTransparent(fd, v6) {
			t.Errorf("v6=%v: the socket is not transparent", v6)
		}
	}
}
