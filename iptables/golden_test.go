package iptables

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// goldens are the listings that Istio's init container left, where they are there.
func goldens(t *testing.T) []string {
	paths, err := filepath.Glob("../../shared/xds/iptables/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Skip("no recorded listings beside the repository")
	}
	return paths
}

// listing parts a golden: its options, and the listings of both versions.
func listing(t *testing.T, path string) (args []string, four, six string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(text), "\n")
	_, options, ok := strings.Cut(head, "istio-iptables ")
	if !ok {
		return nil, "", ""
	}
	four, six, _ = strings.Cut(rest, "## ip6tables-save\n")
	six, _, _ = strings.Cut(six, "## ip rule")
	return strings.Split(options, " "), four, six
}

// rulesOf returns the lines of a listing that say something: chains of ours and rules.
func rulesOf(text string) (lines []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "*") || strings.HasPrefix(line, ":ISTIO_") || strings.HasPrefix(line, "-A ") {
			lines = append(lines, line)
		}
	}
	for len(lines) > 0 && strings.HasPrefix(lines[len(lines)-1], "*") {
		lines = lines[:len(lines)-1] // an empty table
	}
	return lines
}

func TestThePlanIsWhatIstioLeaves(t *testing.T) {
	for _, path := range goldens(t) {
		args, four, six := listing(t, path)
		if args == nil {
			continue // of a clean-up, or of nft
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			o, err := parse(args)
			if err != nil {
				t.Fatal(err)
			}
			o.Nameservers = []string{"10.255.255.53"}
			p := newPlan(o.Config)
			if d := cmp.Diff(rulesOf(four), rulesOf(p.restore(v4))); d != "" {
				t.Errorf("IPv4 (-Istio +ours):\n%s", d)
			}
			if o.IPv6 {
				if d := cmp.Diff(rulesOf(six), rulesOf(p.restore(v6))); d != "" {
					t.Errorf("IPv6 (-Istio +ours):\n%s", d)
				}
			}
			if !p.inForce(v4, p.restore(v4)) || p.inForce(v4, "") {
				t.Error("the plan does not recognise itself")
			}
		})
	}
}
