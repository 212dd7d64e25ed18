package iptables

import (
	"fmt"
	"strings"
)

// nftTable is the name of our table of a kind: nft has a table of ours for each, so that removing them removes everything.
func nftTable(t table) string { return "istio-proxy-" + string(t) }

// nftChain is a chain's name in nft.
func nftChain(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// nftables is the text that nft -f makes the rules of, both versions in one. It begins by removing what an earlier run left.
func (p *plan) nftables() string {
	var b strings.Builder
	b.WriteString(nftCleanup())
	rules := p.rules
	if !p.config.IPv6 {
		rules = p.of(v4)
	}
	tables(rules, func(t table, chains []string, rules []rule) {
		_, _ = fmt.Fprintf(&b, "table inet %s {\n", nftTable(t))
		for _, c := range append(builtin(t), chains...) {
			writeChain(&b, t, c, rules)
		}
		b.WriteString("}\n")
	})
	return b.String()
}

// nftCleanup removes our tables: each is declared first, because removing one that is not there is an error.
func nftCleanup() string {
	var b strings.Builder
	for _, t := range []table{raw, mangle, nat} {
		_, _ = fmt.Fprintf(&b, "table inet %[1]s\ndelete table inet %[1]s\n", nftTable(t))
	}
	return b.String()
}

func writeChain(b *strings.Builder, t table, chain string, rules []rule) {
	var lines []string
	for _, r := range rules {
		if r.chain == chain {
			lines = append(lines, r.statement())
		}
	}
	own := strings.HasPrefix(chain, "ISTIO_")
	if len(lines) == 0 && !own {
		return
	}
	_, _ = fmt.Fprintf(b, "\tchain %s {\n", nftChain(chain))
	if !own {
		_, _ = fmt.Fprintf(b, "\t\ttype %s;\n", hook(t, chain))
	}
	for _, l := range lines {
		_, _ = fmt.Fprintf(b, "\t\t%s\n", l)
	}
	b.WriteString("\t}\n")
}

// hook is where a chain of the kernel stands.
func hook(t table, chain string) string {
	place := strings.ToLower(chain)
	switch {
	case t == nat && chain == "PREROUTING":
		return "nat hook prerouting priority dstnat"
	case t == nat:
		return "nat hook " + place + " priority -100"
	case t == raw:
		return "filter hook " + place + " priority raw"
	case chain == "OUTPUT":
		return "route hook output priority mangle" // a mark may change the route
	default:
		return "filter hook " + place + " priority mangle"
	}
}

// statement is the rule in nft's words, in the order in which nft lists them.
func (r *rule) statement() string {
	var w []string
	add := func(key, value string) {
		if value == "" {
			return
		}
		if not, ok := strings.CutPrefix(value, "!"); ok {
			value = "!= " + not
		}
		w = append(w, key+" "+value)
	}
	quote := func(name string) string {
		if name == "" {
			return ""
		}
		return `"` + name + `"`
	}
	add("iifname", quote(r.in))
	add("oifname", quote(r.out))
	address := func(direction, value string) {
		family := "ip "
		if strings.Contains(value, ":") {
			family = "ip6 "
		}
		add(family+direction, strings.TrimSuffix(strings.TrimSuffix(value, "/32"), "/128"))
	}
	address("saddr", r.source)
	address("daddr", r.destination)
	if r.protocol != "" && r.sport+r.dport+r.dports == "" {
		add("meta l4proto", r.protocol)
	}
	add(r.protocol+" sport", r.sport)
	add(r.protocol+" dport", r.dport)
	if r.dports != "" {
		not, list := "", r.dports
		if l, ok := strings.CutPrefix(list, "!"); ok {
			not, list = "!= ", l
		}
		w = append(w, fmt.Sprintf("%s dport %s{ %s }", r.protocol, not, strings.ReplaceAll(list, ",", ", ")))
	}
	add("meta mark", r.mark)
	add("ct mark", r.connmark)
	add("meta skuid", r.uid)
	add("meta skgid", r.gid)
	for _, g := range r.groups {
		add("meta skgid", "!"+g)
	}
	add("ct state", strings.ToLower(r.state))
	return strings.Join(append(w, "counter", r.verdict()), " ")
}

// verdict is the target in nft's words.
func (r *rule) verdict() string {
	name, options, _ := strings.Cut(r.target, " ")
	f := strings.Fields(options)
	switch name {
	case "RETURN", "ACCEPT", "DROP":
		return strings.ToLower(name)
	case "REDIRECT":
		return "redirect to :" + f[1]
	case "MARK":
		mark, _, _ := strings.Cut(f[1], "/")
		return "meta mark set " + mark
	case "CONNMARK":
		if f[0] == "--save-mark" {
			return "ct mark set meta mark"
		}
		return "meta mark set ct mark"
	case "CT":
		return "ct zone set " + f[1]
	case "TPROXY":
		family, mark := "ip", f[5]
		if f[3] == "::" {
			family = "ip6"
		}
		mark, _, _ = strings.Cut(mark, "/")
		return fmt.Sprintf("meta mark set %s tproxy %s to :%s accept", mark, family, f[1])
	}
	return "jump " + nftChain(name)
}
