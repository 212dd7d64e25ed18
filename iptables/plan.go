package iptables

import (
	"fmt"
	"slices"
	"strconv"
)

// table is a table of the packet filter, in the order of a listing.
type table string

// The tables that rules stand in.
const (
	raw    table = "raw"
	mangle table = "mangle"
	nat    table = "nat"
)

// rule is a line of a chain. Empty fields match everything; a match that begins with "!" is negated.
type rule struct {
	table       table
	chain       string
	source      string // address range
	destination string
	in, out     string // interface
	protocol    string
	sport       string
	dport       string
	dports      string // several, by commas
	mark        string
	connmark    string
	uid, gid    string
	groups      []string // further negated groups
	state       string   // of connection tracking
	target      string   // with its options
	v6, v4      bool     // only for this version; neither: for both
}

// plan is everything that is to stand in the packet filter.
type plan struct {
	config Config
	rules  []rule
}

// newPlan makes the plan of a configuration. It is pure.
func newPlan(c Config) *plan {
	p := &plan{config: c}
	p.interfaces()
	if c.DropInvalid {
		p.add(rule{table: mangle, chain: "PREROUTING", state: "INVALID", target: "DROP"})
	}
	p.add(rule{table: nat, chain: "ISTIO_INBOUND", protocol: "tcp", dport: port(c.TunnelPort), target: "RETURN"})
	p.add(rule{table: nat, chain: "ISTIO_REDIRECT", protocol: "tcp", target: redirect(c.ProxyPort)})
	p.add(rule{table: nat, chain: "ISTIO_IN_REDIRECT", protocol: "tcp", target: redirect(c.InboundPort)})
	p.inbound()
	p.outbound()
	if c.Mode == TProxy {
		p.marks()
	}
	if c.RedirectDNS {
		p.dns()
	}
	return p
}

func port(p uint16) string { return strconv.Itoa(int(p)) }

func redirect(p uint16) string { return "REDIRECT --to-ports " + port(p) }

func (p *plan) add(r rule) { p.rules = append(p.rules, r) }

// insert puts r before the other rules of its chain, from position at.
func (p *plan) insert(at int, r rule) {
	for i := range p.rules {
		if p.rules[i].table == r.table && p.rules[i].chain == r.chain {
			if at == 0 {
				p.rules = slices.Insert(p.rules, i, r)
				return
			}
			at--
		}
	}
	p.add(r)
}

// versioned adds a rule that names an address of the version.
func (p *plan) versioned(v4, v6 string, set func(address string) rule) {
	r := set(v4)
	r.v4 = true
	p.add(r)
	r = set(v6)
	r.v6 = true
	p.add(r)
}

// interfaces lets the traffic of excluded interfaces and of virtual machines pass.
func (p *plan) interfaces() {
	for _, i := range p.config.ExcludeInterfaces {
		p.add(rule{table: nat, chain: "PREROUTING", in: i, target: "RETURN"})
		p.add(rule{table: nat, chain: "OUTPUT", out: i, target: "RETURN"})
		if p.config.Mode == TProxy {
			p.add(rule{table: mangle, chain: "PREROUTING", in: i, target: "RETURN"})
			p.add(rule{table: mangle, chain: "OUTPUT", out: i, target: "RETURN"})
		}
	}
	for _, i := range p.config.VirtualInterfaces {
		p.add(rule{table: nat, chain: "PREROUTING", in: i, target: "RETURN"})
	}
}

// inbound takes connections from outside to the proxy.
func (p *plan) inbound() {
	c := &p.config
	if len(c.InboundPorts) == 0 {
		return
	}
	t, target := nat, "ISTIO_IN_REDIRECT"
	if c.Mode == TProxy {
		t, target = mangle, "ISTIO_TPROXY"
		p.add(rule{table: mangle, chain: "ISTIO_DIVERT", target: setMark(c.Mark)})
		p.add(rule{table: mangle, chain: "ISTIO_DIVERT", target: "ACCEPT"})
		p.versioned("!127.0.0.1/32", "!::1/128", func(local string) rule {
			anyIP := "0.0.0.0"
			if local == "!::1/128" {
				anyIP = "::"
			}
			return rule{
				table: mangle, chain: "ISTIO_TPROXY", destination: local, protocol: "tcp",
				target: fmt.Sprintf("TPROXY --on-port %d --on-ip %s --tproxy-mark %#x/0xffffffff", c.InboundPort, anyIP, c.Mark),
			}
		})
	}
	p.add(rule{table: t, chain: "PREROUTING", protocol: "tcp", target: "ISTIO_INBOUND"})
	ports := c.InboundPorts
	if all(ports) {
		ports = []string{""}
		for _, e := range c.InboundExclude {
			p.add(rule{table: t, chain: "ISTIO_INBOUND", protocol: "tcp", dport: e, target: "RETURN"})
		}
	}
	for _, d := range ports {
		if c.Mode == TProxy {
			p.add(rule{table: t, chain: "ISTIO_INBOUND", protocol: "tcp", dport: d, state: "RELATED,ESTABLISHED", target: "ISTIO_DIVERT"})
		}
		p.add(rule{table: t, chain: "ISTIO_INBOUND", protocol: "tcp", dport: d, target: target})
	}
}

// outbound takes connections of the application to the proxy, and leaves those of the proxy alone.
func (p *plan) outbound() {
	c := &p.config
	out := func(r rule) { r.table, r.chain = nat, "ISTIO_OUTPUT"; p.add(r) }
	p.add(rule{table: nat, chain: "OUTPUT", target: "ISTIO_OUTPUT"})
	for _, e := range c.OutboundExclude {
		out(rule{protocol: "tcp", dport: e, target: "RETURN"})
		out(rule{protocol: "udp", dport: e, target: "RETURN"})
	}
	// The proxy connects to the application from this address.
	p.versioned("127.0.0.6/32", "::6/128", func(from string) rule {
		return rule{table: nat, chain: "ISTIO_OUTPUT", source: from, out: "lo", target: "RETURN"}
	})
	for _, uid := range c.ProxyUIDs {
		p.owner(c.RedirectDNS, func(r rule, not string) rule { r.uid = not + uid; return r })
	}
	for _, gid := range c.ProxyGIDs {
		p.owner(false, func(r rule, not string) rule { r.gid = not + gid; return r })
	}
	p.groups(out)
	if c.RedirectDNS {
		out(rule{target: "ISTIO_OUTPUT_DNS"})
	}
	p.versioned("127.0.0.1/32", "::1/128", func(local string) rule {
		return rule{table: nat, chain: "ISTIO_OUTPUT", destination: local, target: "RETURN"}
	})
	for _, cidr := range c.OutboundExcludeCIDR {
		out(ranged(rule{target: "RETURN"}, cidr))
	}
	for _, d := range c.OutboundPorts {
		out(rule{protocol: "tcp", dport: d, target: "ISTIO_REDIRECT"})
	}
	p.included(out)
}

// owner treats what the proxy's user or group sends: through its inbound side if it calls its own pod by a service address, and
// else untouched; what others send over the loopback interface is untouched too.
func (p *plan) owner(dns bool, own func(r rule, not string) rule) {
	c := &p.config
	p.versioned("!127.0.0.1/32", "!::1/128", func(local string) rule {
		r := rule{
			table: nat, chain: "ISTIO_OUTPUT", destination: local, out: "lo", protocol: "tcp", dport: "!" + port(c.TunnelPort),
			target: "ISTIO_IN_REDIRECT",
		}
		if dns {
			r.dport, r.dports = "", "!53,"+port(c.TunnelPort)
		}
		return own(r, "")
	})
	if !slices.ContainsFunc(c.OutboundCIDRs, loopback) {
		r := rule{table: nat, chain: "ISTIO_OUTPUT", out: "lo", target: "RETURN"}
		if c.RedirectDNS { // a name server may listen on the loopback interface
			r.protocol, r.dport = "tcp", "!53"
		}
		p.add(own(r, "!"))
	}
	p.add(own(rule{table: nat, chain: "ISTIO_OUTPUT", target: "RETURN"}, ""))
}

func loopback(cidr string) bool {
	r, err := prefix(cidr)
	return err == nil && r.Addr().IsLoopback()
}

// groups leaves the traffic of some groups alone, or of all others.
func (p *plan) groups(out func(rule)) {
	if all(p.config.OwnerGroups) {
		for _, g := range p.config.OwnerGroupsExclude {
			out(rule{gid: g, target: "RETURN"})
		}
		return
	}
	out(rule{groups: p.config.OwnerGroups, target: "RETURN"})
}

// included redirects the chosen destinations.
func (p *plan) included(out func(rule)) {
	c := &p.config
	virtual := func(r rule) {
		for _, i := range c.VirtualInterfaces {
			r.table, r.chain, r.in = nat, "PREROUTING", i
			p.insert(0, r)
		}
	}
	if all(c.OutboundCIDRs) {
		out(rule{target: "ISTIO_REDIRECT"})
		virtual(rule{target: "ISTIO_REDIRECT"})
		return
	}
	for _, cidr := range c.OutboundCIDRs {
		out(ranged(rule{target: "ISTIO_REDIRECT"}, cidr))
		virtual(ranged(rule{target: "ISTIO_REDIRECT"}, cidr))
	}
}

// ranged restricts r to a destination, and to its IP version.
func ranged(r rule, cidr string) rule {
	d, _ := prefix(cidr) // validated
	r.destination, r.v4, r.v6 = d.String(), d.Addr().Is4(), d.Addr().Is6()
	return r
}

func setMark(m uint32) string { return fmt.Sprintf("MARK --set-xmark %#x/0xffffffff", m) }

// marks are the rules by which transparent proxying tells the sides of the proxy apart.
func (p *plan) marks() {
	c := &p.config
	const masks = " --nfmask 0xffffffff --ctmask 0xffffffff"
	mark, between := fmt.Sprintf("%#x", c.Mark), fmt.Sprintf("%#x", c.Mark+1)
	p.add(rule{table: mangle, chain: "PREROUTING", protocol: "tcp", mark: mark, target: "CONNMARK --save-mark" + masks})
	p.add(rule{table: mangle, chain: "OUTPUT", out: "lo", protocol: "tcp", mark: mark, target: "RETURN"})
	own := func(set func(r *rule)) {
		p.versioned("!127.0.0.1/32", "!::1/128", func(local string) rule {
			r := rule{table: mangle, chain: "OUTPUT", destination: local, out: "lo", protocol: "tcp", target: setMark(c.Mark + 1)}
			set(&r)
			return r
		})
	}
	for _, uid := range c.ProxyUIDs {
		own(func(r *rule) { r.uid = uid })
	}
	for _, gid := range c.ProxyGIDs {
		own(func(r *rule) { r.gid = gid })
	}
	p.add(rule{table: mangle, chain: "OUTPUT", protocol: "tcp", connmark: mark, target: "CONNMARK --restore-mark" + masks})
	in := rule{table: mangle, chain: "ISTIO_INBOUND", protocol: "tcp", target: "RETURN"}
	first, v4, v6, third := in, in, in, in
	first.mark = mark
	v4.source, v4.in, v4.v4 = "127.0.0.6/32", "lo", true
	v6.source, v6.in, v6.v6 = "::6/128", "lo", true
	third.in, third.mark = "lo", "!"+between
	for i, r := range []rule{first, v4, v6, third} {
		p.insert(i, r)
	}
}

// dns takes look-ups to the DNS proxy, and keeps its own in a zone of connection tracking apart.
func (p *plan) dns() {
	c := &p.config
	p.add(rule{table: raw, chain: "PREROUTING", target: "ISTIO_INBOUND"})
	p.add(rule{table: raw, chain: "OUTPUT", target: "ISTIO_OUTPUT_DNS"})
	ask := func(t table, chain, protocol, target string) {
		p.servers(func(server string) rule {
			return rule{table: t, chain: chain, destination: server, protocol: protocol, dport: "53", target: target}
		})
	}
	ask(nat, "ISTIO_OUTPUT_DNS", "tcp", redirect(c.DNSPort))
	ask(nat, "ISTIO_OUTPUT_DNS", "udp", redirect(c.DNSPort))
	zone := func(set func(r *rule)) {
		query := rule{table: raw, chain: "ISTIO_OUTPUT_DNS", protocol: "udp", dport: "53", target: "CT --zone 1"}
		answer := rule{table: raw, chain: "ISTIO_OUTPUT_DNS", protocol: "udp", sport: port(c.DNSPort), target: "CT --zone 2"}
		set(&query)
		set(&answer)
		p.add(query)
		p.add(answer)
	}
	for _, uid := range c.ProxyUIDs {
		zone(func(r *rule) { r.uid = uid })
	}
	for _, gid := range c.ProxyGIDs {
		zone(func(r *rule) { r.gid = gid })
	}
	ask(raw, "ISTIO_OUTPUT_DNS", "udp", "CT --zone 2")
	p.servers(func(server string) rule {
		return rule{table: raw, chain: "ISTIO_INBOUND", source: server, protocol: "udp", sport: "53", target: "CT --zone 1"}
	})
}

// servers adds a rule for each name server, or one for all.
func (p *plan) servers(of func(server string) rule) {
	if p.config.CaptureAllDNS {
		p.add(of(""))
		return
	}
	for _, s := range p.config.Nameservers {
		a, err := prefix(s)
		if err != nil {
			continue // resolv.conf may hold a scoped address, which no rule can name
		}
		r := of(a.String())
		r.v4, r.v6 = a.Addr().Is4(), a.Addr().Is6()
		p.add(r)
	}
}
