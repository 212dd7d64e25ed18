package iptables

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"
)

// Main runs the command with the arguments that follow its name, and returns the exit code of the process: 0, or 1 with a line that
// says why.
func Main(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	if err == nil {
		err = o.execute(stdout)
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "outrigger iptables:", err)
		return 1
	}
	return 0
}

func (o *options) execute(stdout io.Writer) (err error) {
	if o.RedirectDNS && len(o.Nameservers) == 0 {
		if o.Nameservers, err = nameservers("/etc/resolv.conf"); err != nil {
			return err
		}
	}
	p := newPlan(o.Config)
	if o.dryRun {
		return o.print(stdout, p)
	}
	if o.skipApply {
		return nil
	}
	h := &host{namespace: o.namespace, backend: o.binary, path: o.binary != ""}
	if o.nft {
		text := p.nftables()
		if o.cleanup {
			text = nftCleanup()
		}
		_, err := h.run(text, "nft", "-f", "-")
		if err != nil || o.cleanup || o.Mode != TProxy {
			return err
		}
		return h.route(o)
	}
	if err := h.detect(); err != nil {
		return err
	}
	if o.cleanup {
		return h.cleanup(o, p)
	}
	return h.apply(o, p)
}

// print shows what would be applied.
func (o *options) print(w io.Writer, p *plan) error {
	if o.nft {
		_, err := io.WriteString(w, p.nftables())
		return err
	}
	for _, v := range o.versions() {
		if _, err := fmt.Fprintf(w, "# IPv%d\n%s", v, p.restore(v)); err != nil {
			return err
		}
	}
	return nil
}
