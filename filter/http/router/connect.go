package router

import (
	"github.com/outrigger-proxy/outrigger/cluster/outlier"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/route"
)

// connectConfig says how a CONNECT ends here; nil: it goes on to the upstream as it is.
func (e *exchange) connectConfig() *route.Connect {
	for i := range e.action.Upgrades {
		if u := &e.action.Upgrades[i]; u.Type == "connect" {
			return u.Connect
		}
	}
	return nil
}

// connect ends a CONNECT: its payload is a TCP connection to the upstream.
func (e *exchange) connect() error {
	s := e.s
	a := e.next()
	if a.host = e.pick(); a.host == nil {
		return errNoHosts
	}
	e.noted(a.host)
	c, err := e.cluster.TCP(s.Worker, a.host, pool.Options{Priority: e.priority(), Downstream: s.Conn.Info})
	if err != nil {
		a.blame(err)
		return err
	}
	a.host.Outlier.Report(outlier.Connected, 0)
	a.host.Outlier.Status(200)
	e.tcp = c
	i, u := c.Info(), &s.Info.Upstream
	u.Local, u.Remote, u.ConnID, u.Ready = i.Local, i.Remote, i.ID, s.Worker.Now()
	s.Tunnel = &filter.Tunnel{Conn: c.Conn(), Ends: true}
	s.Response.Status = 200
	s.Route.FinalizeResponse(&s.Stream)
	s.Info.Details = "via_upstream"
	e.charge(200, a.host)
	return nil
}
