package cluster

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/sockopt"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// eyeballs is how long an attempt has before the next address of the host is tried beside it (Envoy: HappyEyeballsConnectionProvider).
const eyeballs = 300 * time.Millisecond

// dialer makes the connections of one cluster.
type dialer struct {
	// set at construction
	bind      bindOptions
	keepalive sockopt.List
	stats     *Stats
	ids       *atomic.Uint64 // of the process
	first     firstFamily
}

// dial connects and shakes hands.
func (d *dialer) dial(w *fiber.Worker, to pool.Target, i *pool.Info) (fiber.Conn, error) {
	var c fiber.Conn
	var err error
	if len(to.Additional) == 0 {
		c, err = d.connect(w, to.Address)
	} else {
		c, err = d.race(w, d.first.order(to))
	}
	if err != nil {
		return nil, err
	}
	i.Remote, i.Local, i.ID, i.Hostname = c.Remote(), c.Local(), d.ids.Add(1), to.Hostname
	socket, ok := to.Socket.(TransportSocket)
	if !ok {
		return c, nil // bytes as they are
	}
	secure, err := socket.Client(w, c, i)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return secure, nil
}

var errBind = errors.New("cannot bind the source address")

func (d *dialer) connect(w *fiber.Worker, to stream.Address) (fiber.Conn, error) {
	local, options := d.bind.choose(to)
	if local.IsZero() && len(options) == 0 && len(d.keepalive) == 0 {
		return w.Dial(to, nil)
	}
	return w.Dial(to, &fiber.Dialer{Local: local, Control: func(fd int) error {
		err := options.Apply(fd, sockopt.Prebind)
		if err == nil && to.Path == "" {
			err = d.keepalive.Apply(fd, sockopt.Prebind)
		}
		if err == nil {
			err = options.Apply(fd, sockopt.Bound)
		}
		if err != nil {
			d.stats.BindErrors.Inc()
			return errors.Join(errBind, err)
		}
		return nil
	}})
}

// attempt is one of several that race for the same host.
type attempt struct {
	task fiber.Task
	conn fiber.Conn
	err  error
	done bool
}

// race tries the addresses one after the other, each beside those before it if they have neither succeeded nor failed in time. The
// first connection wins; the others are given up.
func (d *dialer) race(w *fiber.Worker, addresses []stream.Address) (fiber.Conn, error) {
	tries := make([]attempt, len(addresses))
	var settled fiber.Cond
	started := 0
	defer func() {
		for i := range tries[:started] {
			tries[i].task.Join(w)
		}
	}()
	for {
		won, running, err := survey(tries[:started])
		if won != nil {
			defer discard(tries, won)
			return won, nil
		}
		if running == 0 && started == len(tries) {
			return nil, err
		}
		if running == 0 || started == 0 {
			d.start(w, &tries[started], addresses[started], &settled)
			started++
		}
		f := w.Current()
		var limit fiber.Limit
		if started < len(tries) {
			limit = f.SetLimit(fiber.Limit{At: w.Now().Add(eyeballs), Cause: errNext})
		}
		err = settled.Wait(w)
		if started < len(tries) {
			f.Restore(limit)
		}
		switch {
		case errors.Is(err, errNext):
			d.start(w, &tries[started], addresses[started], &settled)
			started++
		case err != nil:
			defer discard(tries, nil)
			return nil, err
		}
	}
}

var errNext = errors.New("time for the next address")

func (d *dialer) start(w *fiber.Worker, a *attempt, to stream.Address, settled *fiber.Cond) {
	a.task.Start(w, func() {
		a.conn, a.err = d.connect(w, to)
		a.done = true
		settled.Broadcast()
	})
}

func survey(tries []attempt) (won fiber.Conn, running int, err error) {
	for i := range tries {
		switch a := &tries[i]; {
		case !a.done:
			running++
		case a.err == nil:
			return a.conn, running, nil
		default:
			err = a.err
		}
	}
	return nil, running, err
}

// discard closes the connections of all attempts but the one that won; their tasks are at their end.
func discard(tries []attempt, won fiber.Conn) {
	for i := range tries {
		if c := tries[i].conn; c != nil && c != won {
			_ = c.Close()
		}
	}
}

// firstFamily is in which order the addresses of a host are tried (envoy.config.cluster.v3.UpstreamConnectionOptions.HappyEyeballsConfig).
type firstFamily struct {
	set   bool
	v6    bool
	count int
}

// order interleaves the families, beginning with that of the first address or the configured one.
func (o firstFamily) order(to pool.Target) []stream.Address {
	all := append([]stream.Address{to.Address}, to.Additional...)
	v6, count := to.Address.Addr().Unmap().Is6(), 1
	if o.set {
		v6, count = o.v6, o.count
	}
	var first, second []stream.Address
	for _, a := range all {
		if a.Addr().Unmap().Is6() == v6 {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	sorted := make([]stream.Address, 0, len(all))
	for len(first) > 0 || len(second) > 0 {
		n := min(count, len(first))
		sorted, first = append(sorted, first[:n]...), first[n:]
		if len(second) > 0 {
			sorted, second = append(sorted, second[0]), second[1:]
		}
	}
	return sorted
}
