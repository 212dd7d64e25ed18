package proxyprotocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// The parts of https://www.haproxy.org/download/2.1/doc/proxy-protocol.txt that matter here.
const (
	signature1 = "PROXY "
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"
	// longest1 is the longest line of version 1, its end included.
	longest1 = 108
	// fixed2 is the length of the fixed part of a version 2 header.
	fixed2 = 16
	// longest2 is the longest header of version 2 that is taken: what can be peeked at.
	longest2 = 64 << 10
)

var (
	errMalformed   = errors.New("malformed PROXY protocol header")
	errUnsupported = errors.New("unsupported PROXY protocol header")
)

// header is what a PROXY protocol header says.
type header struct {
	version      int
	local        bool // UNKNOWN or LOCAL: the addresses of the connection itself hold
	remote, dest netip.AddrPort
	tlvs         []stream.TLV // alias the input
}

// parse1 reads a line of version 1 without its CR LF. It is as lenient as Envoy: trailing spaces and leading zeros of ports pass.
func parse1(line []byte) (h header, err error) {
	h.version = 1
	f := strings.Split(strings.TrimRight(string(line), " \t\r\n\v\f"), " ")
	if len(f) < 2 || f[0] != "PROXY" {
		return h, errMalformed
	}
	if f[1] == "UNKNOWN" {
		h.local = true
		return h, nil
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return h, errMalformed
	}
	v4 := f[1] == "TCP4"
	if h.remote, err = endpoint(f[2], f[4], v4); err != nil {
		return h, err
	}
	h.dest, err = endpoint(f[3], f[5], v4)
	return h, err
}

func endpoint(address, port string, v4 bool) (netip.AddrPort, error) {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Is4() != v4 || ip.Zone() != "" || !unicast(ip) {
		return netip.AddrPort{}, errMalformed
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, errMalformed
	}
	return netip.AddrPortFrom(ip, uint16(n)), nil
}

func unicast(ip netip.Addr) bool {
	return !ip.IsUnspecified() && !ip.IsMulticast() && ip != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// length2 returns how many bytes follow the fixed part of a version 2 header.
func length2(fixed []byte) int { return int(binary.BigEndian.Uint16(fixed[14:16])) }

// parse2 reads a whole version 2 header.
func parse2(b []byte) (h header, err error) {
	h.version = 2
	command, family, rest := b[12], b[13], b[fixed2:]
	if command>>4 != 2 {
		return h, errUnsupported
	}
	switch command & 0xf {
	case 0: // LOCAL: by the proxy itself, such as a health check
		h.local = true
		return h, nil
	case 1: // PROXY
	default:
		return h, errUnsupported
	}
	var n int
	switch family {
	case 0x11, 0x12:
		n = 4
	case 0x21, 0x22:
		n = 16
	default:
		return h, errUnsupported // Envoy takes neither unspecified families nor unix sockets
	}
	if len(rest) < 2*n+4 {
		return h, errMalformed
	}
	from, _ := netip.AddrFromSlice(rest[:n])
	to, _ := netip.AddrFromSlice(rest[n : 2*n])
	if !unicast(from) || !unicast(to) {
		return h, errMalformed
	}
	ports := rest[2*n:]
	h.remote = netip.AddrPortFrom(from, binary.BigEndian.Uint16(ports))
	h.dest = netip.AddrPortFrom(to, binary.BigEndian.Uint16(ports[2:]))
	h.tlvs, err = parseTLVs(ports[4:])
	return h, err
}

func parseTLVs(b []byte) (l []stream.TLV, err error) {
	for len(b) > 0 {
		if len(b) < 3 {
			return nil, errMalformed
		}
		n := 3 + int(binary.BigEndian.Uint16(b[1:3]))
		if len(b) < n {
			return nil, errMalformed
		}
		l = append(l, stream.TLV{Type: b[0], Value: b[3:n]})
		b = b[n:]
	}
	return l, nil
}

// begins says whether b is, or may become, something that begins with signature.
func begins(b []byte, signature string) (is, maybe bool) {
	n := min(len(b), len(signature))
	if !bytes.Equal(b[:n], []byte(signature[:n])) {
		return false, false
	}
	return n == len(signature), true
}
