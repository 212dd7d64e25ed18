package fiber

import (
	"net/netip"
	"strings"
)

// Address is where one end of a connection is: an IP address and port, or the path of a unix socket.
type Address struct {
	netip.AddrPort

	Path string // of a unix socket; empty for IP. "@name" is one in the abstract namespace
}

// ParseAddress reads "127.0.0.1:80", "[::1]:80", "/path" or "@name".
func ParseAddress(s string) (Address, error) {
	if strings.HasPrefix(s, "/") || strings.HasPrefix(s, "@") {
		return Address{Path: s}, nil
	}
	ap, err := netip.ParseAddrPort(s)
	return Address{AddrPort: ap}, err
}

// String formats the address as Envoy does; empty for the zero Address.
func (a Address) String() string {
	switch {
	case a.Path != "":
		return a.Path
	case a.IsValid():
		return a.AddrPort.String()
	}
	return ""
}

// IsZero says that nothing is known: an unnamed unix socket, an in-memory pipe.
func (a Address) IsZero() bool { return a.Path == "" && !a.IsValid() }
