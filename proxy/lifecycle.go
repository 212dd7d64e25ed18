package proxy

import (
	"os"
	"syscall"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"go.uber.org/zap"

	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// start runs on the control loop. Envoy's order: clusters that need no control plane, then its stream, the runtime layers that it sends and the
// clusters that need it, then those that it sends; listeners and their routes once every cluster has its hosts; and when they are warm the process is live.
func (p *Proxy) start() {
	p.writeAdminAddress()
	p.scheduleFlush()
	x := p.dynamic.client
	x.Pause(subscription.Routes())
	x.Hold(func() {
		p.Clusters.Start(p.startRuntime, func() {
			p.dynamic.clusters.begin(func() { p.Clusters.WhenWarm(p.startListeners) })
		})
	})
}

// startRuntime opens the stream of the control plane and asks for what the rest of the start may depend on.
func (p *Proxy) startRuntime(then func()) {
	p.dynamic.client.Start()
	p.Runtime.Start(func() { p.dynamic.client.Hold(then) })
}

// startListeners asks for the listeners.
func (p *Proxy) startListeners() {
	p.log.Info("all clusters initialized. initializing init manager")
	p.dynamic.listeners.begin(func() { p.Listeners.WhenWarm(p.goLive) })
	p.dynamic.client.Resume(subscription.Routes())
}

// goLive lets the listeners accept.
func (p *Proxy) goLive() {
	if p.draining {
		return
	}
	if err := p.Listeners.Start(); err != nil {
		p.log.Error("cannot listen", zap.Error(err))
		p.Quit()
		return
	}
	p.server.expiry(p)
	p.state.Store(int32(adminv3.ServerInfo_LIVE))
	p.server.InitializationTime.Record(uint64(time.Since(p.options.Started).Milliseconds()))
	p.log.Info("all clusters and listeners are up", zap.Int("workers", len(p.Workers)))
	close(p.live)
	p.relax()
	if p.options.Flags.GetMode() == adminv3.CommandLineOptions_InitOnly {
		p.Quit()
	}
}

// relax gives memory back that only the start, or a big update, has needed, once nothing of the kind has come for a while.
func (p *Proxy) relax() {
	const quiet = time.Second
	if p.relaxing != nil && p.relaxing.Stop() {
		p.relaxing.Reset(quiet)
		return
	}
	p.relaxing = time.AfterFunc(quiet, func() { // on a goroutine of its own: it takes as long as a collection
		if err := settle(); err != nil {
			p.log.Debug("cannot give memory back", zap.Error(err))
		}
	})
}

// scheduleFlush ends an interval of the statistics every stats_flush_interval.
func (p *Proxy) scheduleFlush() {
	if p.config.flush == 0 {
		return
	}
	p.Control.After(p.config.flush, func() {
		p.server.update(p)
		p.server.expiry(p)
		p.Stats.Flush()
		p.scheduleFlush()
	})
}

// Quit ends Run at once: connections are closed as they are.
func (p *Proxy) Quit() { p.quit.Do(func() { close(p.ended) }) }

// Shutdown ends Run once no request is in flight, at the latest after the drain time: no new connection is accepted, idle ones are
// closed, and the others are told to close with their next response. A second Shutdown quits.
func (p *Proxy) Shutdown() {
	ok := p.Control.Post(func() {
		if p.draining {
			p.Quit()
			return
		}
		p.draining = true
		p.state.Store(int32(adminv3.ServerInfo_DRAINING))
		p.log.Info("shutting down", zap.Duration("drain_time", p.drainTime()))
		p.drain.Start(p.drainTime(), true)
		p.Listeners.Shutdown()
		p.Control.After(p.drainTime(), p.Quit)
		p.quitWhenIdle()
	})
	if !ok {
		p.Quit()
	}
}

// quitWhenIdle looks again and again, because connections end on their workers, which should not have to tell.
func (p *Proxy) quitWhenIdle() {
	const look = 5 * time.Millisecond
	if p.Listeners.Departing() == 0 {
		p.Quit()
		return
	}
	p.Control.After(look, p.quitWhenIdle)
}

// HandleSignals does what the signals ask for, as Envoy does: SIGTERM and SIGINT shut down, SIGUSR1 reopens log files, SIGHUP
// means nothing. It returns when c is closed.
func (p *Proxy) HandleSignals(c <-chan os.Signal) {
	for s := range c {
		switch s {
		case syscall.SIGTERM, syscall.SIGINT:
			p.log.Warn("caught signal", zap.Stringer("signal", s))
			p.Shutdown()
		case syscall.SIGUSR1:
			(*lifecycle)(p).ReopenLogs()
		}
	}
}

// lifecycle is the part of Proxy that the admin interface may act on.
type lifecycle Proxy

// State is what /ready and /server_info show: a process that fails its health check is draining too.
func (l *lifecycle) State() adminv3.ServerInfo_State {
	s := adminv3.ServerInfo_State(l.state.Load())
	if s == adminv3.ServerInfo_LIVE && l.drain.Failed() {
		return adminv3.ServerInfo_DRAINING
	}
	return s
}

// Fail makes health checks of this process fail, or pass again.
func (l *lifecycle) Fail(on bool) { l.drain.Fail(on) }

// DrainListeners stops the listeners: at once, or after the drain time if graceful; skipExit only drains connections.
func (l *lifecycle) DrainListeners(inbound, graceful, skipExit bool) {
	p := (*Proxy)(l)
	p.Control.Do(func() {
		if graceful || skipExit {
			p.Listeners.DrainStart(inbound)
		}
		switch {
		case skipExit:
		case graceful:
			p.Control.After(p.drainTime(), func() { p.Listeners.StopAccepting(inbound) })
		default:
			p.Listeners.StopAccepting(inbound)
		}
	})
}

// ReopenLogs opens log files again under their paths.
func (l *lifecycle) ReopenLogs() {
	l.Files.Reopen()
	if err := l.options.Logs.Reopen(); err != nil {
		l.log.Error("cannot reopen the log", zap.Error(err))
	}
}

// Flush brings statistics that are measured rather than counted up to date.
func (l *lifecycle) Flush() {
	p := (*Proxy)(l)
	p.server.update(p)
	p.Control.Do(func() { p.server.expiry(p) })
}

// Quit ends the process.
func (l *lifecycle) Quit() { (*Proxy)(l).Quit() }
