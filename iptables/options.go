package iptables

import (
	"errors"
	"time"

	"github.com/spf13/pflag"
)

// options is a command line: what to redirect, and how to do it.
type options struct {
	Config

	dryRun    bool
	cleanup   bool
	skipApply bool
	force     bool
	nft       bool
	binary    string // of iptables
	namespace string // file of the network namespace
}

// parse reads the options of Istio's init container. Those that choose between ways of Istio to do the same are taken and change
// nothing: --cni-mode, --reconcile (rules that differ are always replaced), --probe-timeout, --iptables-probe-port, --iptables-version.
func parse(args []string) (*options, error) {
	o := &options{Config: Defaults()}
	f := pflag.NewFlagSet("iptables", pflag.ContinueOnError)
	f.SortFlags = false
	lists := map[string]*[]string{}
	list := func(to *[]string, name, short, about string, value string) {
		f.StringP(name, short, value, about)
		lists[name] = to
	}
	f.Uint16VarP(&o.ProxyPort, "envoy-port", "p", o.ProxyPort, "port that outbound connections go to")
	f.Uint16VarP(&o.InboundPort, "inbound-capture-port", "z", o.InboundPort, "port that inbound connections go to")
	f.Uint16VarP(&o.TunnelPort, "inbound-tunnel-port", "e", o.TunnelPort, "port of inbound tunnels")
	list(&o.ProxyUIDs, "proxy-uid", "u", "users that the proxy runs as", "1337")
	list(&o.ProxyGIDs, "proxy-gid", "g", "groups that the proxy runs as (as proxy-uid)", "")
	mode := f.StringP("istio-inbound-interception-mode", "m", string(o.Mode), "REDIRECT or TPROXY")
	f.Uint32VarP(&o.Mark, "istio-inbound-tproxy-mark", "t", o.Mark, "mark of packets, for TPROXY")
	f.Uint32VarP(&o.Table, "istio-inbound-tproxy-route-table", "r", o.Table, "routing table, for TPROXY")
	list(&o.InboundPorts, "istio-inbound-ports", "b", "inbound ports to redirect, or *", "")
	list(&o.InboundExclude, "istio-local-exclude-ports", "d", "inbound ports to leave alone, if all are redirected", "")
	list(&o.OutboundCIDRs, "istio-service-cidr", "i", "destinations to redirect, or *", "")
	list(&o.OutboundExcludeCIDR, "istio-service-exclude-cidr", "x", "destinations to leave alone", "")
	list(&o.OutboundPorts, "istio-outbound-ports", "q", "outbound ports to redirect whatever their destination", "")
	list(&o.OutboundExclude, "istio-local-outbound-ports-exclude", "o", "outbound ports to leave alone", "")
	list(&o.VirtualInterfaces, "kube-virt-interfaces", "k", "interfaces of virtual machines", "")
	list(&o.ExcludeInterfaces, "istio-exclude-interfaces", "c", "interfaces to leave alone", "")
	list(&o.OwnerGroups, "istio-outbound-owner-groups", "", "groups whose traffic is redirected, or *", "*")
	list(&o.OwnerGroupsExclude, "istio-outbound-owner-groups-exclude", "", "groups whose traffic is left alone", "")
	f.BoolVar(&o.RedirectDNS, "redirect-dns", false, "redirect look-ups to port 15053")
	f.BoolVar(&o.CaptureAllDNS, "capture-all-dns", false, "redirect look-ups to any server")
	f.BoolVar(&o.DropInvalid, "drop-invalid", false, "drop packets outside of their connection's window")
	f.BoolVar(&o.IPv6, "dual-stack", false, "IPv6 too")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "print the rules, change nothing")
	f.BoolVar(&o.cleanup, "cleanup", false, "remove the rules")
	f.BoolVar(&o.cleanup, "cleanup-only", false, "remove the rules")
	f.BoolVar(&o.skipApply, "skip-rule-apply", false, "change nothing")
	f.BoolVar(&o.force, "force-apply", false, "apply even if the rules are there")
	f.BoolVar(&o.nft, "native-nftables", false, "use nft instead of iptables")
	f.StringVar(&o.binary, "force-iptables-binary", "", "use this iptables instead of the one that has rules")
	f.StringVar(&o.namespace, "network-namespace", "", "file of the network namespace to work in")
	validation := f.Bool("run-validation", false, "not supported")
	f.Bool("cni-mode", false, "no effect")
	f.Bool("reconcile", false, "no effect: rules that differ are always replaced")
	f.Duration("probe-timeout", 5*time.Second, "no effect")
	f.Uint16("iptables-probe-port", 15002, "no effect")
	f.String("iptables-version", "", "no effect")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *validation {
		return nil, errors.New("run-validation: not supported")
	}
	for name, to := range lists {
		*to = split(f.Lookup(name).Value.String())
	}
	if len(o.ProxyGIDs) == 0 {
		o.ProxyGIDs = o.ProxyUIDs
	}
	o.Mode = Mode(*mode)
	return o, o.validate()
}
