package filter_test

import (
	"context"
	"net"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/filter"
)

// This file imports nothing that is internal: test/examples compiles it in a module of its own, so that what an outsider
// needs stays within reach.

// audit is an HTTP filter with most of what there is: hooks, statistics, state per stream, bodies, and a wait.
type audit struct {
	host  string
	limit int
	seen  filter.Slot[seen]
	stats *auditStats
}

type seen struct{ bytes int }

type auditStats struct {
	Large filter.Counter   `stat:"large"`
	Size  filter.Histogram `stat:"size"`
}

func newAudit(p *wrapperspb.StringValue, env filter.Env) (any, error) {
	return &audit{p.GetValue(), int(env.Listener.BufferLimit), filter.NewSlot[seen](env), filter.NewStats[auditStats](env.Scope.Sub("audit"))}, nil
}

// OnRequest buffers small bodies, and looks a name up without blocking the worker.
func (f *audit) OnRequest(s *filter.Stream) filter.Status {
	all, ok, err := filter.Buffer(s.Request.Body, f.limit)
	switch {
	case err != nil:
		return filter.Stop // the client has gone
	case !ok:
		s.Request.Body = &filter.Joined{First: all.B, Rest: s.Request.Body}
		f.stats.Large.Inc()
		return s.LocalReply(413, "audit_too_large", "")
	}
	s.Request.Body = all
	f.seen.Get(s).bytes = len(all.B)
	names, err := filter.Await(s.Worker, func(ctx context.Context) ([]string, error) { return net.DefaultResolver.LookupHost(ctx, f.host) })
	if err != nil || len(names) == 0 {
		s.Info.Flags |= filter.UnauthorizedExternalService
		return s.LocalReply(503, "audit_unavailable", "")
	}
	return filter.Continue
}

// OnResponse counts the body as it passes.
func (f *audit) OnResponse(s *filter.Stream) filter.Status {
	if s.Response.Body != nil {
		s.Response.Body = &filter.Tap{Body: s.Response.Body, See: func(p []byte, _ error) error {
			f.seen.Get(s).bytes += len(p)
			return nil
		}}
	}
	s.Response.Header.Set("x-audited", "yes")
	return filter.Continue
}

// OnEnd records the size.
func (f *audit) OnEnd(s *filter.Stream) { f.stats.Size.Record(uint64(f.seen.Get(s).bytes)) }

// gate is a network filter that waits for a first byte.
type gate struct{}

func (gate) OnConn(c *filter.Conn) filter.Status {
	if err := c.WaitReadable(); err != nil {
		return filter.Stop
	}
	return filter.Continue
}

// mark is a listener filter, wrap a network filter that sees the bytes, and count an access logger.
type (
	mark  struct{}
	wrap  struct{ filter.NetConn }
	count struct{ streams *filter.Gauge }
)

func (mark) OnAccept(a *filter.Accepted) filter.Status {
	a.Info.Metadata.Set("mark", "seen", true)
	return filter.Continue
}

func (wrap) Wrap(c *filter.Conn) filter.NetConn { return wrap{c.Conn} }

func (l count) Log(*filter.Record) { l.streams.Inc() }

// Extensions of every kind are added to the tables of the proxy (all.Extensions), and those handed to proxy.Main.
func Example() {
	e := &filter.Extensions{}
	filter.AddHTTP(e, newAudit)
	filter.AddListener(e, func(*wrapperspb.BoolValue, filter.Env) (filter.ListenerFilter, error) { return mark{}, nil })
	filter.AddNetwork(e, func(*wrapperspb.BoolValue, filter.Env) (any, error) { return gate{}, nil })
	filter.AddNetwork(e, func(*wrapperspb.BytesValue, filter.Env) (any, error) { return wrap{}, nil })
	filter.AddLog(e, func(_ *wrapperspb.UInt32Value, env filter.Env) (filter.AccessLog, error) {
		return count{env.Scope.Gauge("logged")}, nil
	})
	// Output:
}
