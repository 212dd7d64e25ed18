package match

import (
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/types/known/wrapperspb"
)

// CIDRs is a set of address ranges, as two binary tries over the bits of an address.
type CIDRs struct{ v4, v6 *bit }

type bit struct {
	child [2]*bit
	all   bool // everything below belongs to the set
}

type cidrRange interface {
	GetAddressPrefix() string
	GetPrefixLen() *wrapperspb.UInt32Value
}

// CompileCIDRs compiles a list of envoy.config.core.v3.CidrRange or xds.core.v3.CidrRange. A range without a length is one address
// of length 0, as protobuf has it: everything.
func CompileCIDRs[R cidrRange](list []R) (*CIDRs, error) { return compileCIDRs(list) }

func compileCIDRs[R cidrRange](list []R) (*CIDRs, error) {
	c := &CIDRs{}
	for i, r := range list {
		a, err := netip.ParseAddr(r.GetAddressPrefix())
		if err != nil {
			return nil, fmt.Errorf("[%d].address_prefix: malformed IP address: %s", i, r.GetAddressPrefix())
		}
		p := netip.PrefixFrom(a, int(r.GetPrefixLen().GetValue()))
		if !p.IsValid() {
			return nil, fmt.Errorf("[%d].prefix_len: %d is too long for %s", i, r.GetPrefixLen().GetValue(), a)
		}
		c.Add(p)
	}
	return c, nil
}

// Add puts a range into the set, which must not be in use yet.
func (c *CIDRs) Add(p netip.Prefix) {
	root := &c.v6
	if p.Addr().Is4() {
		root = &c.v4
	}
	bytes := p.Addr().AsSlice()
	for i := range p.Bits() {
		if *root == nil {
			*root = &bit{}
		}
		root = &(*root).child[bytes[i/8]>>(7-i%8)&1]
	}
	if *root == nil {
		*root = &bit{}
	}
	(*root).all = true
}

// Misses is the opposite of Contains.
func (c *CIDRs) Misses(a netip.Addr) bool { return !c.Contains(a) }

// Contains says whether the set has a. An IPv4 address in IPv6 clothes counts as IPv4.
func (c *CIDRs) Contains(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		return c.v4.contains(b[:])
	}
	b := a.As16()
	return c.v6.contains(b[:])
}

func (n *bit) contains(address []byte) bool {
	for i := 0; n != nil; i++ {
		if n.all {
			return true
		}
		if i == 8*len(address) {
			return false
		}
		n = n.child[address[i/8]>>(7-i%8)&1]
	}
	return false
}
