package fiber

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// family returns the address family of a socket for a.
func family(a Address) int {
	switch {
	case a.Path != "":
		return unix.AF_UNIX
	case a.Addr().Unmap().Is4():
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func toSockaddr(a Address) unix.Sockaddr {
	switch family(a) {
	case unix.AF_UNIX:
		return &unix.SockaddrUnix{Name: a.Path}
	case unix.AF_INET:
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func fromSockaddr(sa unix.Sockaddr) Address {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return Address{AddrPort: netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))}
	case *unix.SockaddrInet6:
		return Address{AddrPort: netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))}
	case *unix.SockaddrUnix:
		return Address{Path: a.Name}
	}
	return Address{}
}

func localAddress(fd int) Address {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return Address{}
	}
	return fromSockaddr(sa)
}

// rawSockaddr is a sockaddr as the system calls want it: accept and connect without an allocation.
type rawSockaddr [syscall.SizeofSockaddrUnix]byte

// set writes a and returns its length; 0 if a path is too long.
func (r *rawSockaddr) set(a Address) uintptr {
	binary.NativeEndian.PutUint16(r[:], uint16(family(a)))
	if a.Path != "" {
		return r.setPath(a.Path)
	}
	binary.BigEndian.PutUint16(r[2:], a.Port())
	if ip := a.Addr().Unmap(); ip.Is4() {
		b := ip.As4()
		copy(r[4:], b[:])
		return syscall.SizeofSockaddrInet4
	}
	b := a.Addr().As16()
	copy(r[8:], b[:])
	return syscall.SizeofSockaddrInet6
}

func (r *rawSockaddr) setPath(path string) uintptr {
	if len(path) >= len(r)-2 {
		return 0
	}
	n := copy(r[2:], path)
	if strings.HasPrefix(path, "@") {
		r[2] = 0
		return uintptr(2 + n)
	}
	return uintptr(2 + n + 1) // with its final zero
}

// get reads an IP address. The end of a unix socket that connects has no name; the other's is known from Bind.
func (r *rawSockaddr) get() Address {
	port := binary.BigEndian.Uint16(r[2:])
	switch binary.NativeEndian.Uint16(r[:]) {
	case syscall.AF_INET:
		return Address{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte(r[4:8])), port)}
	case syscall.AF_INET6:
		return Address{AddrPort: netip.AddrPortFrom(netip.AddrFrom16([16]byte(r[8:24])).Unmap(), port)}
	}
	return Address{}
}
