package pool

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/http1"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// rig is a host with its pools.
type rig struct {
	*testing.T

	w    *fiber.Worker
	peer *Peer
	cfg  *Config
	s    *Stats
}

// upstream answers HTTP/1 requests with an empty 200 until the test ends; hang says which paths get no answer before release closes.
type upstream struct {
	net.Listener

	release chan struct{}
}

func serve(t *testing.T) *upstream {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{l, make(chan struct{})}
	go func() { // ends when the listener is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go u.answer(c) // ends with the connection
		}
	}()
	return u
}

func (u *upstream) answer(c net.Conn) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	for {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		switch q.URL.Path {
		case "/hang":
			<-u.release
		case "/drop":
			return
		case "/close":
			_, _ = fmt.Fprint(c, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
			return
		case "/bad":
			_, _ = fmt.Fprint(c, "no HTTP at all\r\n\r\n")
			return
		}
		_, _ = fmt.Fprint(c, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
	}
}

func (u *upstream) address() stream.Address {
	return stream.Address{AddrPort: u.Addr().(*net.TCPAddr).AddrPort()}
}

func maxima() Maxima {
	return Maxima{Connections: 1024, Pending: 1024, Requests: 1024, Retries: 3, Pools: math.MaxInt64}
}

func newRig(t *testing.T, w *fiber.Worker, to stream.Address, m Maxima, change func(*Config)) *rig {
	s := stats.New[Stats]((&stats.Store{}).Root().Sub("cluster").Sub("c"))
	o := http1.Defaults()
	cfg := &Config{
		ConnectTimeout: 5 * time.Second, IdleTimeout: time.Hour, TCPIdle: time.Hour, Preconnect: 1, HTTP1: &o, Stats: s,
		HostConnections: [Priorities]int64{math.MaxInt64, math.MaxInt64},
		Dial: func(w *fiber.Worker, to Target, i *Info) (fiber.Conn, error) {
			return w.Dial(to.Address, nil)
		},
	}
	for p, b := range []*BreakerStats{&s.Default, &s.High} {
		cfg.Limits[p] = NewLimits(m, b)
	}
	if change != nil {
		change(cfg)
	}
	return &rig{t, w, NewPeer(Target{Address: to}, cfg, 1), cfg, s}
}

// get makes a request and gives the connection back.
func (r *rig) get(path string) (reused bool, err error) {
	e, err := r.peer.HTTP(r.w, Options{})
	if err != nil {
		return false, err
	}
	q, a := stream.Request{Method: "GET", Scheme: "http", Path: path, Authority: "x"}, stream.Response{}
	reused = e.Reused()
	_, err = e.Send(&q, true)
	if err == nil {
		err = e.Receive(&a)
	}
	e.Release(err == nil)
	return reused, err
}

func (r *rig) want(what string, got interface{ Value() uint64 }, want uint64) {
	r.Helper()
	if got.Value() != want {
		r.Errorf("%s: %d, want %d", what, got.Value(), want)
	}
}

// settle waits until ok, on the fiber's clock.
func (r *rig) settle(what string, ok func() bool) {
	r.Helper()
	for range 2000 {
		if ok() {
			return
		}
		if err := r.w.Sleep(time.Millisecond); err != nil {
			r.Fatal(err)
		}
	}
	r.Errorf("%s: did not come to it", what)
}

// end closes what rests, and sees that all is counted back.
func (r *rig) end() {
	r.Helper()
	r.peer.Drain([]*fiber.Worker{r.w})
	r.settle("all connections closed", func() bool { return r.s.CxActive.Value() == 0 })
	l := r.cfg.Limits[Default]
	if n := [...]int64{l.Pools.Active(), l.Connections.Active(), l.Pending.Active(), l.Requests.Active(), r.s.RqActive.Value(), r.s.RqPendingActive.Value(), r.peer.Stats.CxActive.Load(), r.peer.Stats.RqActive.Load()}; n != [8]int64{} {
		r.Errorf("left over: %v", n)
	}
	r.want("destroyed", &r.s.CxDestroy, r.s.CxTotal.Value())
}

func each(t *testing.T, m Maxima, change func(*Config), f func(r *rig, u *upstream)) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		u := serve(t)
		defer func() { _ = u.Close() }()
		r := newRig(t, w, u.address(), m, change)
		f(r, u)
		r.end()
	})
}

func TestReuse(t *testing.T) {
	each(t, maxima(), nil, func(r *rig, _ *upstream) {
		for i := range 3 {
			if reused, err := r.get("/"); err != nil || reused != (i > 0) {
				r.Errorf("request %d: reused %v, %v", i, reused, err)
			}
		}
		r.want("connections", &r.s.CxTotal, 1)
		r.want("HTTP/1 connections", &r.s.CxHTTP1, 1)
		r.want("requests", &r.s.RqTotal, 3)
		r.want("pending", &r.s.RqPendingTotal, 1)
		if r.s.CxTxBytes.Value() == 0 || r.s.CxRxBytes.Value() == 0 {
			r.Error("no bytes are counted")
		}
	})
}

func TestSizes(t *testing.T) {
	store := &stats.Store{}
	z := stats.New[Sizes](store.Root())
	each(t, maxima(), func(c *Config) { c.Sizes = z }, func(r *rig, _ *upstream) {
		if _, err := r.get("/"); err != nil {
			r.Error(err)
		}
	})
	store.Flush()
	recorded := 0
	for _, s := range store.Snapshot(nil) {
		if s.Used {
			recorded++
		}
	}
	if recorded != 6 {
		t.Errorf("%d of 6 histograms have values", recorded)
	}
}

func TestMaxRequests(t *testing.T) {
	each(t, maxima(), func(c *Config) { c.MaxRequests = 2 }, func(r *rig, _ *upstream) {
		for range 4 {
			if _, err := r.get("/"); err != nil {
				r.Error(err)
			}
		}
		r.want("connections", &r.s.CxTotal, 2)
		r.want("at their last request", &r.s.CxMaxRequests, 2)
		r.want("closed by us", &r.s.CxDestroyLocal, 2)
	})
}

func TestServerCloses(t *testing.T) {
	each(t, maxima(), nil, func(r *rig, _ *upstream) {
		if _, err := r.get("/close"); err != nil {
			r.Error(err)
		}
		r.settle("the idle connection noticed its end", func() bool { return r.s.CxActive.Value() == 0 })
		r.want("closed by the host", &r.s.CxDestroyRemote, 1)
		if reused, err := r.get("/"); err != nil || reused {
			r.Errorf("reused %v, %v", reused, err)
		}
		if _, err := r.get("/drop"); err == nil {
			r.Error("no error without a response")
		}
		r.want("closed by the host under a request", &r.s.CxDestroyRemoteActive, 1)
		r.want("under a request", &r.s.CxDestroyActive, 1)
	})
}

func TestEndedInTheSameTurn(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		var far []fiber.Conn
		r := newRig(t, w, stream.Address{}, maxima(), func(c *Config) {
			c.Dial = func(w *fiber.Worker, _ Target, _ *Info) (fiber.Conn, error) {
				near, other := fiber.Pipe(w)
				far = append(far, other)
				_, err := other.Write([]byte("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"))
				return near, err
			}
		})
		for i := range 3 {
			if reused, err := r.get("/"); err != nil || reused {
				t.Errorf("request %d: reused %v, %v", i, reused, err)
			}
			_ = far[i].Close() // no turn of the loop before the next request
		}
		r.want("connections", &r.s.CxTotal, 3)
		r.end()
		if r.peer.lanes[0].http[Default] != nil {
			t.Error("the lane is left over")
		}
	})
}

func TestNoHTTP(t *testing.T) {
	each(t, maxima(), nil, func(r *rig, _ *upstream) {
		if _, err := r.get("/bad"); err == nil {
			r.Error("no error")
		}
		r.want("protocol errors", &r.s.CxProtocolError, 1)
	})
}

func TestRefused(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		u := serve(t)
		_ = u.Close()
		r := newRig(t, w, u.address(), maxima(), nil)
		var failed *ConnectError
		if _, err := r.get("/"); !errors.As(err, &failed) || failed.Timeout {
			t.Errorf("%v", err)
		}
		r.want("failed", &r.s.CxConnectFail, 1)
		r.want("ejected", &r.s.RqPendingFailureEject, 1)
		if r.peer.Stats.CxConnectFail.Load() != 1 {
			t.Error("the host does not know")
		}
		r.end()
	})
}

func TestConnectTimeout(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		r := newRig(t, w, stream.Address{AddrPort: netip.MustParseAddrPort("127.0.0.1:1")}, maxima(), func(c *Config) {
			c.ConnectTimeout = 5 * time.Millisecond
			c.Dial = func(w *fiber.Worker, _ Target, _ *Info) (fiber.Conn, error) { return nil, w.Sleep(time.Hour) }
		})
		var failed *ConnectError
		if _, err := r.get("/"); !errors.As(err, &failed) || !failed.Timeout || failed.Error() != "connection timeout" {
			t.Errorf("%v", err)
		}
		r.want("timeouts", &r.s.CxConnectTimeout, 1)
		r.end()
	})
}

func TestIdleTimeout(t *testing.T) {
	each(t, maxima(), func(c *Config) { c.IdleTimeout = 5 * time.Millisecond }, func(r *rig, _ *upstream) {
		if _, err := r.get("/"); err != nil {
			r.Error(err)
		}
		r.settle("closed", func() bool { return r.s.CxActive.Value() == 0 })
		r.want("idle timeouts", &r.s.CxIdleTimeout, 1)
		r.want("closed by us", &r.s.CxDestroyLocal, 1)
	})
}

func TestMaxDuration(t *testing.T) {
	each(t, maxima(), func(c *Config) { c.Duration = func() time.Duration { return 20 * time.Millisecond } }, func(r *rig, u *upstream) {
		if _, err := r.get("/"); err != nil {
			r.Error(err)
		}
		r.settle("the one at rest closed", func() bool { return r.s.CxActive.Value() == 0 })
		var busy fiber.Task
		busy.Start(r.w, func() {
			if _, err := r.get("/hang"); err != nil {
				r.Error(err)
			}
		})
		r.settle("the busy one is due", func() bool { return r.s.CxMaxDuration.Value() == 2 })
		if r.s.CxActive.Value() != 1 {
			r.Error("it goes on until its stream ends")
		}
		close(u.release)
		_ = busy.Wait(r.w)
		if r.s.CxActive.Value() != 0 {
			r.Error("and not longer")
		}
	})
}

func TestCancelWhileWaiting(t *testing.T) {
	m := maxima()
	m.Connections = 1
	each(t, m, nil, func(r *rig, u *upstream) {
		var first, second fiber.Task
		first.Start(r.w, func() { _, _ = r.get("/hang") })
		r.settle("the first is under way", func() bool { return r.s.RqActive.Value() == 1 })
		gone := errors.New("client is gone")
		second.Start(r.w, func() {
			if _, err := r.get("/"); !errors.Is(err, gone) {
				r.Errorf("%v", err)
			}
		})
		r.settle("the second waits", func() bool { return r.s.RqPendingActive.Value() == 1 })
		second.Cancel(gone)
		_ = second.Wait(r.w)
		r.want("cancelled", &r.s.RqCancelled, 1)
		close(u.release)
		_ = first.Wait(r.w)
		if reused, err := r.get("/"); err != nil || !reused {
			r.Errorf("reused %v, %v", reused, err)
		}
	})
}

func TestConnectionOutlivesItsStream(t *testing.T) {
	each(t, maxima(), nil, func(r *rig, _ *upstream) {
		f := r.w.Current()
		short := f.SetLimit(fiber.Limit{At: r.w.Now(), Cause: errors.New("too late")})
		_, err := r.get("/")
		f.Restore(short)
		if err == nil {
			r.Error("no error")
		}
		r.settle("the connection is there for the next", func() bool { return len(r.peer.lanes[0].http[Default].idle) == 1 })
		if _, err := r.get("/"); err != nil {
			r.Error(err)
		}
		r.want("connections", &r.s.CxTotal, 1)
	})
}

func TestPerDownstream(t *testing.T) {
	each(t, maxima(), func(c *Config) { c.PerDownstream = true }, func(r *rig, _ *upstream) {
		for _, id := range []uint64{1, 2, 1} {
			e, err := r.peer.HTTP(r.w, Options{Downstream: &stream.Conn{ID: id}})
			if err != nil {
				r.Fatal(err)
			}
			q, a := stream.Request{Method: "GET", Path: "/", Authority: "x"}, stream.Response{}
			_, _ = e.Send(&q, true)
			e.Release(e.Receive(&a) == nil)
		}
		r.want("connections", &r.s.CxTotal, 2)
		r.peer.Empty([]*fiber.Worker{r.w})
		r.settle("emptied", func() bool { return r.s.CxActive.Value() == 0 })
		if n := len(r.peer.lanes[0].own); n != 0 {
			r.Errorf("%d pools of connections that are gone", n)
		}
	})
}

func TestPreconnect(t *testing.T) {
	each(t, maxima(), func(c *Config) { c.Preconnect = 2 }, func(r *rig, _ *upstream) {
		if _, err := r.get("/"); err != nil {
			r.Error(err)
		}
		r.settle("two connections", func() bool { return r.s.CxTotal.Value() == 2 && len(r.peer.lanes[0].http[Default].idle) == 2 })
	})
}

func TestLendingDoesNotAllocate(t *testing.T) {
	each(t, maxima(), nil, func(r *rig, _ *upstream) {
		if _, err := r.get("/"); err != nil {
			r.Fatal(err)
		}
		l, _ := r.peer.lane(r.w, Options{}, true)
		if n := testing.AllocsPerRun(100, func() {
			c, err := l.get()
			if err != nil {
				r.Fatal(err)
			}
			c.release(true, true)
		}); n != 0 && strings.HasSuffix(r.Name(), "epoll") { // the other engine starts a goroutine
			r.Errorf("%v allocations", n)
		}
	})
}
