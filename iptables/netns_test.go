package iptables

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// namespace makes a network namespace for the test.
func namespace(t *testing.T) *host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, p := range []string{"ip", "iptables-save", "nsenter"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
	name := fmt.Sprintf("or-%d-%s", os.Getpid(), strings.NewReplacer("/", "", "#", "").Replace(t.Name()))
	h := &host{namespace: "/var/run/netns/" + name}
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Skipf("no network namespaces here: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	for _, c := range [][]string{{"ip", "link", "set", "lo", "up"}, {"iptables-save"}} {
		if _, err := h.run("", c[0], c[1:]...); err != nil {
			t.Skip(err)
		}
	}
	return h
}

func command(t *testing.T, h *host, args ...string) string {
	t.Helper()
	var out, stderr bytes.Buffer
	if code := Main(append(args, "--network-namespace", h.namespace), &out, &stderr); code != 0 {
		t.Fatalf("%v: exit %d: %s", args, code, stderr.String())
	}
	return out.String()
}

func (h *host) listing(t *testing.T, program string) string {
	t.Helper()
	out, err := h.run("", program)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestApplied(t *testing.T) {
	for _, path := range goldens(t) {
		args, four, six := listing(t, path)
		name := filepath.Base(path)
		if args == nil || strings.HasPrefix(name, "dns") {
			continue // the recorded name server is not this machine's; TestThePlanIsWhatIstioLeaves has it
		}
		t.Run(strings.TrimSuffix(name, ".txt"), func(t *testing.T) {
			h := namespace(t)
			for range 2 { // a second run changes nothing
				command(t, h, args...)
				if d := cmp.Diff(rulesOf(four), rulesOf(h.listing(t, "iptables-save")), cmpopts.EquateEmpty()); d != "" {
					t.Fatalf("IPv4 (-Istio +ours):\n%s", d)
				}
				if d := cmp.Diff(rulesOf(six), rulesOf(h.listing(t, "ip6tables-save")), cmpopts.EquateEmpty()); d != "" {
					t.Fatalf("IPv6 (-Istio +ours):\n%s", d)
				}
			}
			command(t, h, append(args, "--cleanup")...)
			if left := rulesOf(h.listing(t, "iptables-save") + h.listing(t, "ip6tables-save")); len(left) > 0 {
				t.Errorf("left after the clean-up: %q", left)
			}
			if rules := h.ipRules(t); strings.Contains(rules, "0x539") {
				t.Errorf("left after the clean-up: %s", rules)
			}
		})
	}
}

func TestADifferentPlanReplacesTheOldOne(t *testing.T) {
	h := namespace(t)
	command(t, h, "-b", "80", "-i", "*")
	command(t, h, "-b", "81", "-i", "10.0.0.0/8", "-m", "TPROXY")
	once := h.listing(t, "iptables-save")
	if strings.Contains(once, "dport 80 ") || strings.Count(once, "-j ISTIO_OUTPUT\n") != 1 {
		t.Errorf("old rules are left:\n%s", once)
	}
	if !strings.Contains(h.ipRules(t), "fwmark 0x539 lookup 133") {
		t.Error("no routing rule")
	}
}

func (h *host) ipRules(t *testing.T) string {
	t.Helper()
	out, err := h.run("", "ip", "rule")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestForeignRulesStay(t *testing.T) {
	h := namespace(t)
	const foreign = "*nat\n-A PREROUTING -p tcp -m tcp --dport 9 -j REDIRECT --to-ports 10\nCOMMIT\n"
	if _, err := h.run(foreign, "iptables-restore", "--noflush"); err != nil {
		t.Fatal(err)
	}
	before := rulesOf(h.listing(t, "iptables-save"))
	command(t, h, "-b", "*", "-i", "*")
	command(t, h, "--cleanup-only")
	if d := cmp.Diff(before, rulesOf(h.listing(t, "iptables-save")), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("a foreign rule changed:\n%s", d)
	}
}

func TestTheVariantWithRulesIsUsed(t *testing.T) {
	h := namespace(t)
	const foreign = "*nat\n-A PREROUTING -p tcp -m tcp --dport 9 -j REDIRECT --to-ports 10\nCOMMIT\n"
	if _, err := h.run(foreign, "iptables-legacy-restore", "--noflush"); err != nil {
		t.Skip("this kernel has no legacy tables:", err)
	}
	command(t, h, "-b", "*", "-i", "*")
	if !strings.Contains(h.listing(t, "iptables-legacy-save"), "ISTIO_INBOUND") {
		t.Error("the rules are not beside those that were there")
	}
}

func TestNative(t *testing.T) {
	h := namespace(t)
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed")
	}
	for _, mode := range []string{"REDIRECT", "TPROXY"} {
		for range 2 {
			command(t, h, "--native-nftables", "-m", mode, "-b", "*", "-i", "*", "-d", "15090,15021,15020", "--redirect-dns", "--capture-all-dns",
				"--dual-stack")
		}
		out, err := h.run("", "nft", "list", "ruleset")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(out, "jump istio-redirect") != 1 || !strings.Contains(out, `oifname "lo" ip saddr 127.0.0.6 counter`) {
			t.Errorf("%s: rules:\n%s", mode, out)
		}
	}
	command(t, h, "--native-nftables", "--cleanup")
	if out, _ := h.run("", "nft", "list", "ruleset"); strings.Contains(out, "istio") {
		t.Errorf("left after the clean-up:\n%s", out)
	}
}

func TestNativeIsWhatIstioLeaves(t *testing.T) {
	golden, err := os.ReadFile("../../shared/xds/iptables/nft-nft.txt")
	if err != nil {
		t.Skip("no recorded listing beside the repository")
	}
	o, err := parse([]string{"-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*", "-d", "15090,15021,15020"})
	if err != nil {
		t.Fatal(err)
	}
	ours := newPlan(o.Config).nftables()
	for line := range strings.Lines(strings.ReplaceAll(string(golden), " packets 0 bytes 0", "")) {
		if line = strings.TrimSpace(line); strings.Contains(line, "counter") && !strings.Contains(ours, "\t\t"+line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
}

func TestDryRunPrints(t *testing.T) {
	var out, stderr bytes.Buffer
	if code := Main([]string{"-n", "-b", "80", "--dual-stack"}, &out, &stderr); code != 0 {
		t.Fatal(stderr.String())
	}
	for _, want := range []string{"# IPv4\n*nat\n", "# IPv6\n*nat\n", "--dport 80 -j ISTIO_IN_REDIRECT", "-s ::6/128 -o lo"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestRefusals(t *testing.T) {
	for want, args := range map[string][]string{
		"istio-inbound-interception-mode: want REDIRECT or TPROXY": {"-m", "NONE"},
		`istio-inbound-ports: "http" is not a port`:                {"-b", "http"},
		`istio-local-outbound-ports-exclude: "70000"`:              {"-o", "70000"},
		`istio-service-cidr: "10.0.0.0/33" is not a CIDR range`:    {"-i", "10.0.0.0/33"},
		"proxy-uid: empty": {"-u", ""},
		"unknown flag":     {"--nope"},
	} {
		var out, stderr bytes.Buffer
		if code := Main(append(args, "-n"), &out, &stderr); code != 1 || !strings.Contains(stderr.String(), want) {
			t.Errorf("%v: exit %d, %q", args, code, stderr.String())
		}
	}
}
