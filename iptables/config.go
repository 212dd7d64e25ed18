// Package iptables redirects the traffic of a network namespace to a sidecar: a Config becomes a plan (pure), the plan becomes the
// text of iptables-restore or nft (golden), and the text is applied, once however often it is run. Options, defaults, chains and
// rules are those of Istio's init container, so that it may stand in its place.
package iptables

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Mode is how inbound connections reach the proxy.
type Mode string

// The modes.
const (
	Redirect Mode = "REDIRECT" // the destination is rewritten; the proxy asks the kernel for the original one
	TProxy   Mode = "TPROXY"   // nothing is rewritten; the proxy's socket is transparent
)

// Config says what is redirected where. Lists may hold "*" where noted. The zero value redirects nothing; Defaults is the start.
type Config struct {
	ProxyPort   uint16 // of outbound connections
	InboundPort uint16 // of inbound connections
	TunnelPort  uint16 // never redirected: the proxy's own tunnel listener
	DNSPort     uint16 // of the DNS proxy
	ProxyUIDs   []string
	ProxyGIDs   []string

	Mode  Mode
	Mark  uint32 // of packets to the proxy, for TProxy; Mark+1 marks those between its sides
	Table uint32 // routing table, for TProxy

	InboundPorts        []string // that are redirected; "*": all
	InboundExclude      []string // ports, if all are redirected
	OutboundPorts       []string // redirected whatever their address
	OutboundExclude     []string // ports
	OutboundCIDRs       []string // destinations that are redirected; "*": all
	OutboundExcludeCIDR []string
	ExcludeInterfaces   []string // whose traffic is left alone
	VirtualInterfaces   []string // whose inbound traffic is taken for outbound (of virtual machines)
	OwnerGroups         []string // whose outbound traffic is redirected; "*": all
	OwnerGroupsExclude  []string

	RedirectDNS   bool
	CaptureAllDNS bool     // to any server, not only Nameservers
	Nameservers   []string // of resolv.conf
	DropInvalid   bool     // packets outside of their connection's window
	IPv6          bool
}

// Defaults returns what holds where no option says otherwise.
func Defaults() Config {
	return Config{
		ProxyPort: 15001, InboundPort: 15006, TunnelPort: 15008, DNSPort: 15053, ProxyUIDs: []string{"1337"},
		Mode: Redirect, Mark: 1337, Table: 133, OwnerGroups: []string{"*"},
	}
}

// validate names the first option that cannot be honoured.
func (c *Config) validate() error {
	if c.Mode != Redirect && c.Mode != TProxy {
		return fmt.Errorf("istio-inbound-interception-mode: want REDIRECT or TPROXY, not %q", c.Mode)
	}
	for _, l := range []struct {
		option string
		ports  []string
	}{
		{"istio-inbound-ports", c.InboundPorts},
		{"istio-local-exclude-ports", c.InboundExclude},
		{"istio-outbound-ports", c.OutboundPorts},
		{"istio-local-outbound-ports-exclude", c.OutboundExclude},
	} {
		for _, p := range l.ports {
			if _, err := strconv.ParseUint(p, 10, 16); err != nil && (p != "*" || l.option != "istio-inbound-ports") {
				return fmt.Errorf("%s: %q is not a port", l.option, p)
			}
		}
	}
	for option, list := range map[string][]string{"istio-service-cidr": c.OutboundCIDRs, "istio-service-exclude-cidr": c.OutboundExcludeCIDR} {
		for _, s := range list {
			if _, err := prefix(s); err != nil && (s != "*" || option != "istio-service-cidr") {
				return fmt.Errorf("%s: %q is not a CIDR range", option, s)
			}
		}
	}
	if len(c.ProxyUIDs) == 0 {
		return errors.New("proxy-uid: empty: the proxy's own traffic would be redirected to itself")
	}
	return nil
}

// prefix reads an address range, or an address as a range of one.
func prefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// all says whether a list is "*".
func all(list []string) bool { return len(list) == 1 && list[0] == "*" }

// split reads a list of options: empty entries are left out.
func split(s string) (list []string) {
	for e := range strings.SplitSeq(s, ",") {
		if e = strings.TrimSpace(e); e != "" {
			list = append(list, e)
		}
	}
	return list
}
