package iptables

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// host is a network namespace whose packet filter is changed by the programs of the system.
type host struct {
	namespace string // file; empty: the namespace of this process
	backend   string // "", "nft" or "legacy": the variant of iptables, or the path of a binary
	path      bool   // backend is a path
}

// run starts a program with an input and returns its output; a failure says what it wrote.
func (h *host) run(input string, name string, args ...string) (string, error) {
	if h.namespace != "" {
		args = append([]string{"--net=" + h.namespace, "--", name}, args...)
		name = "nsenter"
	}
	cmd := exec.Command(name, args...)
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(append([]string{name}, args...), " "), err, strings.TrimSpace(stderr.String()))
	}
	return out.String(), nil
}

// program is the name of a program of the iptables family, such as "-save", in the variant in use.
func (h *host) program(v version, action string) string {
	family := "iptables"
	if v == v6 {
		family = "ip6tables"
	}
	switch {
	case h.path:
		return h.backend + action
	case h.backend != "":
		family += "-" + h.backend
	}
	return family + action
}

// detect chooses the variant of iptables that has rules, because rules of the other one would be looked at too, or not at all. If
// neither has any, the system's default is used.
func (h *host) detect() error {
	if h.path {
		return nil
	}
	for _, variant := range []string{"legacy", "nft"} {
		try := host{namespace: h.namespace, backend: variant}
		listing, err := try.run("", try.program(v4, "-save"))
		if err == nil && strings.Contains(listing, "\n-A ") {
			h.backend = variant
			return nil
		}
	}
	if _, err := exec.LookPath("iptables-restore"); err != nil {
		return fmt.Errorf("iptables is not installed: %w", err)
	}
	return nil
}

// versions are the versions of IP to work on. For a removal that is both, because nobody knows what an earlier run did.
func (o *options) versions() []version {
	if o.IPv6 || o.cleanup {
		return []version{v4, v6}
	}
	return []version{v4}
}

// apply brings the rules of the plan into force, and takes away what an earlier run left. Rules that are in force are left as they are.
func (h *host) apply(o *options, p *plan) error {
	for _, v := range o.versions() {
		listing, err := h.run("", h.program(v, "-save"))
		if err != nil {
			return err
		}
		if !o.force && p.inForce(v, listing) {
			continue
		}
		if err := h.restore(v, p.remove(v, listing)); err != nil {
			return err
		}
		if err := h.restore(v, p.restore(v)); err != nil {
			return err
		}
	}
	if o.Mode == TProxy {
		return h.route(o)
	}
	return nil
}

// cleanup takes everything away that a plan may have put there.
func (h *host) cleanup(o *options, p *plan) error {
	for _, v := range o.versions() {
		listing, err := h.run("", h.program(v, "-save"))
		if err != nil && v == v6 {
			continue // a kernel without IPv6 has nothing to clean
		}
		if err != nil {
			return err
		}
		if err := h.restore(v, p.remove(v, listing)); err != nil {
			return err
		}
	}
	for _, family := range []string{"inet", "inet6"} {
		// There may be none: that is what is wanted.
		_, _ = h.run("", "ip", "-f", family, "rule", "del", "fwmark", strconv.FormatUint(uint64(o.Mark), 10), "lookup", strconv.FormatUint(uint64(o.Table), 10))
		_, _ = h.run("", "ip", "-f", family, "route", "del", "local", "default", "dev", "lo", "table", strconv.FormatUint(uint64(o.Table), 10))
	}
	return nil
}

func (h *host) restore(v version, text string) error {
	if text == "" {
		return nil
	}
	_, err := h.run(text, h.program(v, "-restore"), "--noflush")
	return err
}

// route sends marked packets to this host, for TPROXY.
func (h *host) route(o *options) error {
	families := []string{"inet"}
	if o.IPv6 {
		families = append(families, "inet6")
	}
	for _, family := range families {
		rules, err := h.run("", "ip", "-f", family, "rule", "show")
		if err != nil {
			return err
		}
		if !strings.Contains(rules, fmt.Sprintf("fwmark %#x lookup %d", o.Mark, o.Table)) {
			if _, err := h.run("", "ip", "-f", family, "rule", "add", "fwmark", strconv.FormatUint(uint64(o.Mark), 10), "lookup", strconv.FormatUint(uint64(o.Table), 10)); err != nil {
				return err
			}
		}
		if _, err := h.run("", "ip", "-f", family, "route", "replace", "local", "default", "dev", "lo", "table", strconv.FormatUint(uint64(o.Table), 10)); err != nil {
			return err
		}
	}
	return nil
}

// nameservers reads the servers of a resolv.conf.
func nameservers(path string) (servers []string, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			servers = append(servers, f[1])
		}
	}
	return servers, err
}
