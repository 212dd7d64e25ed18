package hcm

import (
	"strings"
	"time"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// ask notes the upgrade that a request asks for.
func (x *exchange) ask() {
	switch {
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

// tunnel joins the client and the upstream until one of them ends, which ends both.
func (x *exchange) tunnel() next {
	st, w := x.m.stats, x.d.c.Worker
	st.CxUpgradesActive.Inc()
	defer st.CxUpgradesActive.Dec()
	if x.cfg.logTunnel {
		x.Info.LogType = stream.LogDownstreamTunnelSuccessfullyEstablished
		x.cfg.logs.Log(&x.Stream.Stream)
	}
	x.Limit(filter.LimitRoute, 0)
	x.d.c.Guard(nil) // the pump sees the end, behind the last bytes
	down, early := x.d.codec.Detach()
	up := x.Tunnel.Conn
	var back fiber.Task
	back.Start(w, func() { // ends with the upstream, or when the client's direction has ended
		x.Info.BytesOut += x.pump(up, down, x.Tunnel.Rest)
		x.Limit(filter.LimitTry, w.Now())
	})
	x.Info.BytesIn += x.pump(down, up, early)
	back.Join(w)
	x.Info.ResponseEnd = w.Now()
	return hangUp
}

// pump moves bytes until an end; it owns a buffer only while there are some.
func (x *exchange) pump(from, to fiber.Conn, first []byte) (n int64) {
	w := x.d.c.Worker
	if len(first) > 0 {
		n += int64(len(first))
		if _, err := to.Write(first); err != nil {
			return n
		}
	}
	for {
		if err := from.WaitReadable(); err != nil {
			return n
		}
		b := w.Buffers.Get()
		got, err := from.Read(b)
		if err == nil {
			n += int64(got)
			x.Touch()
			_, err = to.Write(b[:got])
		}
		w.Buffers.Put(b)
		if err != nil {
			return n
		}
	}
}

// maxDuration is how long a stream on this route may last; said: the route says it.
func maxDuration(a *route.Action, h *header.Map) (d time.Duration, said bool) {
	if a.GrpcTimeoutHeaderMax >= 0 {
		if v, ok := h.Get("grpc-timeout"); ok {
			if t, ok := filter.ParseGRPCTimeout(v); ok {
				if a.GrpcTimeoutHeaderMax > 0 && (t > a.GrpcTimeoutHeaderMax || t == 0) {
					t = a.GrpcTimeoutHeaderMax
				}
				if o := a.GrpcTimeoutHeaderOffset; o > 0 && t > o {
					t -= o
				}
				return t, true
			}
		}
	}
	return a.MaxStreamDuration, a.MaxStreamDuration >= 0
}
