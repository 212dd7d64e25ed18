package iptables

import (
	"fmt"
	"slices"
	"strings"
)

// version is a version of IP; each has its own tables.
type version uint8

const (
	v4 version = 4
	v6 version = 6
)

// of returns the rules of one version.
func (p *plan) of(v version) (rules []rule) {
	for _, r := range p.rules {
		if r.v4 && v == v6 || r.v6 && v == v4 {
			continue
		}
		rules = append(rules, r)
	}
	return rules
}

// builtin are the chains that the kernel has, in the order of a listing.
func builtin(t table) []string {
	switch t {
	case raw:
		return []string{"PREROUTING", "OUTPUT"}
	case mangle:
		return []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
	default:
		return []string{"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"}
	}
}

// tables calls f for each table that has rules: with its own chains, sorted, and its rules, chain by chain in the order of a listing.
func tables(rules []rule, f func(t table, chains []string, rules []rule)) {
	for _, t := range []table{raw, mangle, nat} {
		var chains []string
		for _, r := range rules {
			for _, name := range []string{r.chain, r.target} {
				if r.table == t && strings.HasPrefix(name, "ISTIO_") && !slices.Contains(chains, name) {
					chains = append(chains, name)
				}
			}
		}
		slices.Sort(chains)
		var mine []rule
		for _, chain := range append(builtin(t), chains...) {
			for _, r := range rules {
				if r.table == t && r.chain == chain {
					mine = append(mine, r)
				}
			}
		}
		if len(mine) > 0 {
			f(t, chains, mine)
		}
	}
}

// restore is the text that iptables-restore --noflush makes the rules of: new chains, and rules after those that are there.
// Rules are written as iptables-save writes them.
func (p *plan) restore(v version) string {
	var b strings.Builder
	tables(p.of(v), func(t table, chains []string, rules []rule) {
		_, _ = fmt.Fprintf(&b, "*%s\n", t)
		for _, c := range chains {
			_, _ = fmt.Fprintf(&b, ":%s - [0:0]\n", c)
		}
		for _, r := range rules {
			_, _ = fmt.Fprintf(&b, "-A %s\n", r.line())
		}
		b.WriteString("COMMIT\n")
	})
	return b.String()
}

// remove is the text that takes away from a listing of iptables-save what a plan may have put there. It is empty if there is nothing.
func (p *plan) remove(v version, listing string) string {
	var b strings.Builder
	present := sections(listing)
	tables(p.of(v), func(t table, chains []string, rules []rule) {
		var lines []string
		for _, r := range rules {
			if !strings.HasPrefix(r.chain, "ISTIO_") && slices.Contains(present[t], "-A "+r.line()) {
				lines = append(lines, "-D "+r.line())
			}
		}
		var flush, del []string
		for _, line := range present[t] {
			if c, _, ok := strings.Cut(strings.TrimPrefix(line, ":"), " "); ok && strings.HasPrefix(line, ":ISTIO_") {
				flush, del = append(flush, "-F "+c), append(del, "-X "+c)
			}
			if jumpsTo(line, "ISTIO_") && !slices.Contains(lines, "-D"+strings.TrimPrefix(line, "-A")) {
				lines = append(lines, "-D"+strings.TrimPrefix(line, "-A"))
			}
		}
		if lines = append(append(lines, flush...), del...); len(lines) > 0 {
			_, _ = fmt.Fprintf(&b, "*%s\n%s\nCOMMIT\n", t, strings.Join(lines, "\n"))
		}
	})
	return b.String()
}

// jumpsTo says whether a line is a rule of a builtin chain that jumps to a chain of ours.
func jumpsTo(line, prefix string) bool {
	return strings.HasPrefix(line, "-A ") && !strings.HasPrefix(line, "-A "+prefix) && strings.Contains(line, " -j "+prefix)
}

// sections parts a listing by table.
func sections(listing string) map[table][]string {
	m, t := map[table][]string{}, table("")
	for line := range strings.Lines(listing) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "*") {
			t = table(line[1:])
		}
		m[t] = append(m[t], line)
	}
	return m
}

// inForce says whether a listing holds exactly the plan: its chains with its rules in their order, and its rules in the kernel's chains.
func (p *plan) inForce(v version, listing string) bool {
	present, same := sections(listing), true
	tables(p.of(v), func(t table, _ []string, rules []rule) {
		var want, got []string
		for _, r := range rules {
			want = append(want, "-A "+r.line())
		}
		for _, line := range present[t] {
			if strings.HasPrefix(line, "-A ISTIO_") || slices.Contains(want, line) || jumpsTo(line, "ISTIO_") {
				got = append(got, line)
			}
		}
		same = same && slices.Equal(want, got)
	})
	return same
}

// line is the rule as iptables-save writes it after -A.
func (r *rule) line() string {
	var w []string
	add := func(flag, value string) {
		if value == "" {
			return
		}
		if not, ok := strings.CutPrefix(value, "!"); ok {
			w = append(w, "!", flag, not)
			return
		}
		w = append(w, flag, value)
	}
	match := func(module, flag, value string) {
		if value != "" {
			w = append(w, "-m", module)
			add(flag, value)
		}
	}
	w = append(w, r.chain)
	add("-s", r.source)
	add("-d", r.destination)
	add("-i", r.in)
	add("-o", r.out)
	add("-p", r.protocol)
	match(r.protocol, "--sport", r.sport)
	match(r.protocol, "--dport", r.dport)
	match("multiport", "--dports", r.dports)
	match("mark", "--mark", r.mark)
	match("connmark", "--mark", r.connmark)
	match("owner", "--uid-owner", r.uid)
	match("owner", "--gid-owner", r.gid)
	for _, g := range r.groups {
		match("owner", "--gid-owner", "!"+g)
	}
	match("conntrack", "--ctstate", r.state)
	add("-j", r.target)
	return strings.Join(w, " ")
}
