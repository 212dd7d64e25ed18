// Package sockopt compiles socket options (envoy.config.core.v3.SocketOption, TcpKeepalive) and applies them to descriptors.
//
// A List is immutable and may be shared; applying it makes one setsockopt call per option and nothing else.
package sockopt

import (
	"encoding/binary"
	"fmt"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"golang.org/x/sys/unix"
)

// State is when an option is applied.
type State uint8

// The states: after socket(), after bind(), after listen(). An upstream socket knows Prebind and Bound (before connect) alone.
const (
	Prebind State = iota
	Bound
	Listening
)

var stateNames = [...]string{"pre-bind", "post-bind", "listening"}

// String names the state as Envoy's errors do.
func (s State) String() string { return stateNames[s] }

// Option is one call of setsockopt.
type Option struct {
	Level, Name int
	Value       []byte // the bytes handed to the kernel
	State       State
	V4, V6      bool // only for sockets of that IP version; neither: for all
}

// List is a sequence of options, in the order of their application.
type List []Option

// Int makes an option whose value is an int.
func Int(state State, level, name, value int) Option {
	return Option{Level: level, Name: name, Value: nativeInt(value), State: state}
}

func nativeInt(v int) []byte {
	return binary.NativeEndian.AppendUint32(nil, uint32(int32(v)))
}

// Parse compiles the options of a stream socket; those meant for datagram sockets alone are left out, as Envoy does.
// Its errors start with the index: "[1]: ...".
func Parse(options []*corev3.SocketOption) (List, error) {
	var l List
	for i, p := range options {
		if t := p.GetType(); t != nil && t.GetStream() == nil && t.GetDatagram() != nil {
			continue
		}
		o := Option{Level: int(p.GetLevel()), Name: int(p.GetName())}
		switch v := p.GetValue().(type) {
		case *corev3.SocketOption_IntValue:
			if int64(int32(v.IntValue)) != v.IntValue {
				return nil, fmt.Errorf("[%d].int_value: %d is out of range", i, v.IntValue)
			}
			o.Value = nativeInt(int(v.IntValue))
		case *corev3.SocketOption_BufValue:
			o.Value = slices.Clone(v.BufValue)
		default:
			return nil, fmt.Errorf("[%d].value: is required", i)
		}
		switch p.GetState() {
		case corev3.SocketOption_STATE_PREBIND:
			o.State = Prebind
		case corev3.SocketOption_STATE_BOUND:
			o.State = Bound
		case corev3.SocketOption_STATE_LISTENING:
			o.State = Listening
		}
		o.V4 = p.GetIpVersion() == corev3.SocketOption_SOCKET_IP_VERSION_IPV4
		o.V6 = p.GetIpVersion() == corev3.SocketOption_SOCKET_IP_VERSION_IPV6
		l = append(l, o)
	}
	return l, nil
}

// Keepalive compiles TCP keep-alive. Nil gives no option; any field that is set to 0 turns keep-alive off; what is absent stays as
// the kernel has it.
func Keepalive(k *corev3.TcpKeepalive) List {
	if k == nil {
		return nil
	}
	fields := []struct {
		set   bool
		value uint32
		name  int
	}{
		{k.GetKeepaliveProbes() != nil, k.GetKeepaliveProbes().GetValue(), unix.TCP_KEEPCNT},
		{k.GetKeepaliveTime() != nil, k.GetKeepaliveTime().GetValue(), unix.TCP_KEEPIDLE},
		{k.GetKeepaliveInterval() != nil, k.GetKeepaliveInterval().GetValue(), unix.TCP_KEEPINTVL},
	}
	l := List{Int(Prebind, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)}
	for _, f := range fields {
		if f.set && f.value == 0 {
			return List{Int(Prebind, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)}
		}
		if f.set {
			l = append(l, Int(Prebind, unix.IPPROTO_TCP, f.name, int(f.value)))
		}
	}
	return l
}

// Transparent lets a socket have an address that is not ours (IP_TRANSPARENT); it needs CAP_NET_ADMIN.
func Transparent() List {
	return List{version(Int(Prebind, unix.SOL_IP, unix.IP_TRANSPARENT, 1), false), version(Int(Prebind, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1), true)}
}

// Freebind lets a socket bind to an address that is not there yet (IP_FREEBIND).
func Freebind() List {
	return List{version(Int(Prebind, unix.SOL_IP, unix.IP_FREEBIND, 1), false), version(Int(Prebind, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1), true)}
}

func version(o Option, v6 bool) Option {
	o.V4, o.V6 = !v6, v6
	return o
}

// FastOpen sets the length of the queue of TCP fast open requests that have not completed their handshake; 0 turns it off.
func FastOpen(queue uint32) List {
	return List{Int(Listening, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, int(queue))}
}

// Has says whether an option is for state.
func (l List) Has(state State) bool {
	return slices.ContainsFunc(l, func(o Option) bool { return o.State == state })
}

// Apply sets the options of state on fd. The socket's family decides about options that are for one IP version only.
func (l List) Apply(fd int, state State) error {
	if !l.Has(state) {
		return nil
	}
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("getsockopt: %w", err)
	}
	for _, o := range l {
		if o.State != state || o.V4 && domain != unix.AF_INET || o.V6 && domain != unix.AF_INET6 {
			continue
		}
		if err := unix.SetsockoptString(fd, o.Level, o.Name, string(o.Value)); err != nil {
			return &Error{Option: o, Err: err}
		}
	}
	return nil
}

// Error is an option that the kernel refused.
type Error struct {
	Option Option
	Err    error
}

// Error says which option it is and why.
func (e *Error) Error() string {
	return fmt.Sprintf("cannot set %s socket option: level %d, name %d: %v", e.Option.State, e.Option.Level, e.Option.Name, e.Err)
}

// Unwrap returns the kernel's reason.
func (e *Error) Unwrap() error { return e.Err }

// OriginalDst asks the kernel where a redirected connection was going before the redirection (SO_ORIGINAL_DST); ok is false where
// it was not redirected.
func OriginalDst(fd int, v6 bool) (ip [16]byte, port uint16, ok bool) {
	if v6 {
		info, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, unix.SO_ORIGINAL_DST)
		if err != nil {
			return ip, 0, false
		}
		return info.Addr.Addr, ntohs(info.Addr.Port), true
	}
	// The kernel writes a struct sockaddr_in, of 16 bytes: struct ipv6_mreq has room for it, and is what x/sys can read.
	m, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, unix.SO_ORIGINAL_DST)
	if err != nil {
		return ip, 0, false
	}
	ip[10], ip[11] = 0xff, 0xff
	copy(ip[12:], m.Multiaddr[4:8])
	return ip, uint16(m.Multiaddr[2])<<8 | uint16(m.Multiaddr[3]), true
}

func ntohs(v uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, v))
}

// IsTransparent says whether the socket has an address that is not ours (it came by TPROXY).
func IsTransparent(fd int, v6 bool) bool {
	level, name := unix.SOL_IP, unix.IP_TRANSPARENT
	if v6 {
		level, name = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	v, err := unix.GetsockoptInt(fd, level, name)
	return err == nil && v != 0
}
