package pool

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// origin serves HTTP/2 connections of a worker; a path may ask for something special.
type origin struct {
	w     *fiber.Worker
	free  http2.Streams
	o     http2.Options
	conns []*http2.Conn
	hold  fiber.Cond
}

func (u *origin) Serve(s *http2.Stream) {
	var q stream.Request
	_, _ = s.ReadRequest(&q)
	switch q.Path {
	case "/reset":
		s.Reset(http2.Cancel)
		return
	case "/refuse":
		s.Reset(http2.RefusedStream)
		return
	case "/away":
		s.Conn().GoAway()
		s.Conn().GoAway()
	case "/hold":
		_ = u.hold.Wait(u.w)
	case "/long":
		_ = s.Respond(&stream.Response{Status: 200, Body: &stream.Bytes{B: make([]byte, 60<<10)}}, false)
		_, _ = s.Run(true)
		return
	case "/die":
		s.Conn().Abort(nil)
		return
	}
	_ = s.Respond(&stream.Response{Status: 200}, false)
}

func (u *origin) Changed()     {}
func (u *origin) Closed(error) {}

// muxRig is a rig whose host speaks HTTP/2.
func muxRig(t *testing.T, w *fiber.Worker, m Maxima, most uint32) (*rig, *origin, fiber.Listener) {
	u := &origin{w: w, o: http2.Defaults()}
	u.o.MaxStreams, u.o.Linger = most, 0
	l := fibertest.Listen(t, w, fibertest.Loopback(), func(nc fiber.Conn) {
		c := &http2.Conn{}
		u.conns = append(u.conns, c)
		c.Server(w, nc, &u.o, u, &u.free, nil)
	})
	o := http2.UpstreamDefaults()
	r := newRig(t, w, l.Address(), m, func(c *Config) { c.Protocol, c.HTTP2 = HTTP2, &o })
	return r, u, l
}

// finish closes what the rig has, and checks that nothing is lent.
func (r *rig) finish(l fiber.Listener) {
	r.peer.gone.Store(true)
	r.peer.lanes[0].each((*lane).drain)
	l.Close()
	for r.s.CxActive.Value() > 0 {
		r.w.Yield()
	}
	if n := r.cfg.Limits[0].Requests.Active() + r.cfg.Limits[0].Connections.Active() + r.cfg.Limits[0].Pending.Active(); n != 0 {
		r.Errorf("%d are still taken", n)
	}
	_ = r.w.Sleep(time.Millisecond) // the other end sees it
}

func TestMuxShares(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		r, u, l := muxRig(t, w, maxima(), 1000)
		var tasks [50]fiber.Task
		for i := range tasks {
			tasks[i].Start(w, func() {
				if _, err := r.get("/"); err != nil {
					t.Error(err)
				}
			})
		}
		for i := range tasks {
			_ = tasks[i].Wait(w)
		}
		if n := r.s.CxTotal.Value(); n != 1 || r.s.CxHTTP2.Value() != 1 || r.s.RqTotal.Value() != 50 || r.s.RqActive.Value() != 0 {
			t.Errorf("%d connections for %d streams", n, r.s.RqTotal.Value())
		}
		if reused, err := r.get("/"); !reused || err != nil {
			t.Error(reused, err)
		}
		r.finish(l)
		if len(u.conns) != 1 {
			t.Error(len(u.conns))
		}
	})
}

// TestMuxLimit opens another connection when the first is full, and lends it again when it has room.
func TestMuxLimit(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		r, u, l := muxRig(t, w, maxima(), 2)
		if _, err := r.get("/"); err != nil { // its SETTINGS are known now
			t.Fatal(err)
		}
		var tasks [5]fiber.Task
		for i := range tasks {
			tasks[i].Start(w, func() {
				if _, err := r.get("/hold"); err != nil {
					t.Error(err)
				}
			})
		}
		for served := 0; served < 5; {
			w.Yield()
			served = 0
			for _, c := range u.conns {
				served += c.Active()
			}
			u.hold.Broadcast()
			if r.s.RqTotal.Value() == 6 && r.s.RqActive.Value() == 0 {
				break
			}
		}
		for i := range tasks {
			_ = tasks[i].Wait(w)
		}
		if n := r.s.CxTotal.Value(); n < 2 || n > 3 {
			t.Errorf("%d connections", n)
		}
		r.finish(l)
	})
}

// TestMuxCrowded lends another connection when what nobody reads takes up the window of the first, which is lent again when it was read.
func TestMuxCrowded(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		r, u, l := muxRig(t, w, maxima(), 10)
		r.cfg.HTTP2.FirstConn, r.cfg.HTTP2.ConnWindow = 100<<10, 100<<10
		e, err := r.peer.HTTP(w, Options{})
		if err != nil {
			t.Fatal(err)
		}
		q, a := stream.Request{Method: "GET", Scheme: "http", Path: "/long", Authority: "x"}, stream.Response{}
		if _, err = e.Send(&q, true); err == nil {
			err = e.Receive(&a)
		}
		m := e.(*Channel).m
		r.settle("crowded", m.h2.Crowded)
		if _, err2 := r.get("/"); err != nil || err2 != nil || r.s.CxTotal.Value() != 2 {
			t.Errorf("%v, %v, %d connections", err, err2, r.s.CxTotal.Value())
		}
		for err == nil {
			_, err = a.Body.Next(true)
		}
		if err != io.EOF || !m.open() || m.at < 0 {
			t.Error(err)
		}
		e.Release(true)
		if _, err := r.get("/"); err != nil || len(u.conns) != 2 {
			t.Error(err, len(u.conns))
		}
		r.finish(l)
	})
}

func TestMuxEnds(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		r, _, l := muxRig(t, w, maxima(), 10)
		var reset *http2.Reset
		if _, err := r.get("/reset"); !errors.As(err, &reset) || reset.Code != http2.Cancel || http2.Refused(err) {
			t.Error(err)
		}
		if _, err := r.get("/refuse"); !http2.Refused(err) {
			t.Error(err)
		}
		if r.s.CxTotal.Value() != 1 {
			t.Error("a reset stream has cost its connection")
		}
		if _, err := r.get("/away"); err != nil {
			t.Error(err)
		}
		if _, err := r.get("/"); err != nil || r.s.CxTotal.Value() != 2 {
			t.Error(err, r.s.CxTotal.Value())
		}
		if _, err := r.get("/die"); !errors.Is(err, http2.ErrGone) {
			t.Error(err)
		}
		if r.s.CxDestroyRemoteActive.Value() != 1 {
			t.Error("not counted")
		}
		r.finish(l)
	})
}

func TestMuxOverflow(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		m := maxima()
		m.Requests = 1
		r, u, l := muxRig(t, w, m, 10)
		var task fiber.Task
		task.Start(w, func() { _, _ = r.get("/hold") })
		for r.s.RqActive.Value() == 0 {
			w.Yield()
		}
		if _, err := r.get("/"); !errors.Is(err, ErrOverflow) {
			t.Error(err)
		}
		for len(u.conns) == 0 || !u.hold.Waiting() {
			w.Yield()
		}
		u.hold.Broadcast()
		_ = task.Wait(w)
		r.finish(l)
	})
}

// TestMuxIdle closes a connection that carries nothing, and one that lives for too long.
func TestMuxIdle(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		r, _, l := muxRig(t, w, maxima(), 10)
		r.cfg.IdleTimeout = 10 * time.Millisecond
		if _, err := r.get("/"); err != nil {
			t.Fatal(err)
		}
		_ = w.Sleep(40 * time.Millisecond)
		if r.s.CxIdleTimeout.Value() != 1 || r.s.CxActive.Value() != 0 {
			t.Error("idle")
		}
		r.cfg.IdleTimeout, r.cfg.Duration = time.Hour, func() time.Duration { return 10 * time.Millisecond }
		if _, err := r.get("/"); err != nil {
			t.Fatal(err)
		}
		_ = w.Sleep(40 * time.Millisecond)
		if r.s.CxMaxDuration.Value() != 1 || r.s.CxActive.Value() != 0 {
			t.Error("old")
		}
		r.finish(l)
	})
}
