package hcm

import (
	"strings"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/route"
)

// ask notes the upgrade that a request asks for.
func (x *exchange) ask() {
	switch {
	case x.h2 != nil: // Serve has seen to it
	case !x.d.codec.Upgrade:
	case x.Request.Method == "CONNECT":
		x.asked = "connect"
	default:
		v, _ := x.Request.Header.Get("upgrade")
		x.asked = strings.ToLower(v)
	}
}

// upgradable grants the upgrade or refuses it, as connection manager and route say.
func (x *exchange) upgradable() filter.Status {
	if x.asked == "" {
		return filter.Continue
	}
	x.closing = true // should the answer be no: what follows may be meant for the other side
	granted, chain := x.upgradeChain()
	if granted {
		x.Upgrade = x.asked
		x.m.stats.CxUpgradesTotal.Inc()
		x.Use(chain)
		return filter.Continue
	}
	if x.Route == nil {
		return filter.Continue // the router says 404
	}
	x.m.stats.RqUpgradeForbidden.Inc()
	return x.LocalReply(403, "upgrade_failed", "")
}

// upgradeChain finds the filters of an upgrade; the route's word counts more.
func (x *exchange) upgradeChain() (granted bool, chain *filter.Chain) {
	chain = x.cfg.chain
	enabled, said := routeUpgrade(x.Route, x.asked)
	if said && !enabled {
		return false, nil
	}
	for i := range x.cfg.byUpgrade {
		if u := &x.cfg.byUpgrade[i]; u.name == x.asked {
			return u.enabled || said, u.chain
		}
	}
	return said, chain
}

// routeUpgrade is what the route says of an upgrade.
func routeUpgrade(r *route.Route, name string) (enabled, said bool) {
	if r == nil || r.Action == nil {
		return false, false
	}
	for i := range r.Action.Upgrades {
		if u := &r.Action.Upgrades[i]; u.Type == name {
			return u.Enabled, true
		}
	}
	return false, false
}
