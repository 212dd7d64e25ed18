package proxyprotocol

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

const signature = "\r\n\r\n\x00\r\nQUIT\n"

// header1 is a line of version 1 (section 2.1 of the PROXY protocol).
func header1(from, to netip.AddrPort) []byte {
	if !from.IsValid() || !to.IsValid() {
		return []byte("PROXY UNKNOWN\r\n")
	}
	family, a, b := "TCP4", from.Addr().Unmap(), to.Addr().Unmap()
	if !a.Is4() || !b.Is4() {
		family = "TCP6"
		a, b = six(a), six(b)
	}
	return fmt.Appendf(nil, "PROXY %s %s %s %d %d\r\n", family, a, b, from.Port(), to.Port())
}

func six(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }

// local2 is a header of version 2 for what the proxy does on its own account, such as health checks.
func local2() []byte { return append([]byte(signature), 0x20, 0, 0, 0) }

// header2 is a header of version 2 (section 2.2).
func header2(from, to netip.AddrPort, tlvs string) []byte {
	if !from.IsValid() || !to.IsValid() {
		return local2()
	}
	a, b := from.Addr().Unmap(), to.Addr().Unmap()
	var addresses []byte
	family := byte(0x11)
	if a.Is4() && b.Is4() {
		addresses = append(a.AsSlice(), b.AsSlice()...)
	} else {
		x, y := a.As16(), b.As16()
		family, addresses = 0x21, append(x[:], y[:]...)
	}
	addresses = binary.BigEndian.AppendUint16(addresses, from.Port())
	addresses = binary.BigEndian.AppendUint16(addresses, to.Port())
	h := append([]byte(signature), 0x21, family)
	h = binary.BigEndian.AppendUint16(h, uint16(len(addresses)+len(tlvs)))
	return append(append(h, addresses...), tlvs...)
}

// maxTLVs is what there is room for beside two IPv6 addresses.
const maxTLVs = 1<<16 - 1 - 36

// extensions are the TLVs as they are written; those that are configured stand in the place of those of the client.
func (c *config) extensions(passed []stream.TLV) string {
	var b []byte
	for _, t := range c.added {
		b = appendTLV(b, t)
	}
	for _, t := range passed {
		if c.pass[t.Type] && !slices.ContainsFunc(c.added, func(o stream.TLV) bool { return o.Type == t.Type }) {
			b = appendTLV(b, t)
		}
	}
	return string(b)
}

// appendTLV writes t to b if there is room. (Envoy sends no header at all if there is none.)
func appendTLV(b []byte, t stream.TLV) []byte {
	if len(b)+3+len(t.Value) > maxTLVs {
		return b
	}
	b = append(b, t.Type)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.Value)))
	return append(b, t.Value...)
}

// overlay puts the TLVs of a host before the others and in the place of those of the same type.
func overlay(own, others string) string {
	if own == "" {
		return others
	}
	var has [256]bool
	for t := range each(own) {
		has[t[0]] = true
	}
	b := own
	for t := range each(others) {
		if !has[t[0]] && len(b)+len(t) <= maxTLVs {
			b += t
		}
	}
	return b
}

// each goes through TLVs as they are written.
func each(tlvs string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for len(tlvs) >= 3 {
			n := 3 + (int(tlvs[1])<<8 | int(tlvs[2]))
			if !yield(tlvs[:n]) {
				return
			}
			tlvs = tlvs[n:]
		}
	}
}
