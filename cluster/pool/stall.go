package pool

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// A host that has vanished (its machine is gone, or a network drops what goes there) refuses nothing and answers nothing: a request to it
// waits until TCP gives up, after a quarter of an hour. Envoy waits with it, unless a timeout or a health check is configured. Here the
// kernel is asked: a host that is there acknowledges what it gets within milliseconds, however slow what runs on it may be.
//
//   - While it has streams with a host, a worker looks every firstLook at a few that are as old as that. If nothing of what one has sent is
//     acknowledged, the host is suspected, and requests go to others as far as there are any. Nothing is lost if that is wrong.
//   - If it goes on to giveUp, and the kernel has repeated itself twice, the host is lost: connections to it on which something is not
//     acknowledged end now, as if the host had ended them, and the others as soon as the kernel finds them dead.
//   - Connections to the host are tried from then on, and the first that comes about ends the suspicion. So it is with a connection that
//     takes longer than slowConnect.
const (
	firstLook   = 150 * time.Millisecond
	nextLook    = 50 * time.Millisecond
	giveUp      = 800 * time.Millisecond
	slowConnect = time.Second

	probeTimeout  = time.Second
	probeLeast    = 250 * time.Millisecond
	probeMost     = 2 * time.Second
	mostSteps     = 256 // of a look along the streams
	mostAsks      = 4   // of the kernel in one look
	repeats       = 2   // of the kernel, before a host is lost
	roundTrips    = 3   // in which an acknowledgement may come before firstLook means anything
	firstLookLess = firstLook - 10*time.Millisecond
)

// Progress is how far the kernel has come with what was sent on a connection.
type Progress struct {
	Waiting  bool          // something is not acknowledged
	Silent   time.Duration // since the last acknowledgement
	RTT      time.Duration // the least that was seen
	Repeated int           // how often it was sent again in vain
}

// silent says that the host should have acknowledged something by now.
func (p Progress) silent() bool {
	return p.Waiting && p.Silent >= firstLookLess && p.Silent > roundTrips*p.RTT
}

// dead says that it will not.
func (p Progress) dead() bool { return p.silent() && p.Silent >= giveUp && p.Repeated >= repeats }

// watch looks after what one worker sends to one host, for as long as there is anything.
type watch struct {
	// set at construction
	peer  *Peer
	w     *fiber.Worker
	lanes *lanes
	// owned by the worker
	timer   fiber.Timer
	armed   bool
	accused bool // by us
}

// begin makes sure that somebody will look.
func (w *watch) begin() {
	if w.armed {
		return
	}
	w.armed = true
	w.timer.Do = w.look
	w.timer.Set(w.w, w.w.Now().Add(firstLook))
}

// look asks the kernel after some streams that are old enough, the youngest of those first: they are stuck if any is.
func (w *watch) look() {
	w.armed = false
	worst, slow, left := Progress{}, false, false
	steps, asks := mostSteps, mostAsks
	young := w.w.Now() - fiber.Time(firstLookLess)
	w.lanes.each(func(l *lane) {
		if !l.http {
			return
		}
		for c := l.lent; c != nil && steps > 0 && asks > 0; c = c.next {
			left = true
			steps--
			if c.since > young {
				continue
			}
			if c.net == nil {
				slow = slow || w.w.Now()-c.since >= fiber.Time(slowConnect)
				continue
			}
			asks--
			if p := w.peer.Config.progress(c.net); p.silent() && p.Silent > worst.Silent {
				worst = p
			}
		}
	})
	next := firstLook
	switch {
	case worst.dead():
		w.accused = false
		w.peer.abandon()
		w.peer.lost(w.w)
		return
	case worst.silent():
		w.accused, next = true, nextLook
		w.peer.accuse()
	case slow:
		w.peer.lost(w.w)
	case w.accused:
		w.accused = false
		w.peer.suspect.Store(false)
	}
	if left {
		w.armed = true
		w.timer.Set(w.w, w.w.Now().Add(next))
	}
}

func (cfg *Config) progress(c fiber.Conn) Progress {
	if cfg.Progress != nil {
		return cfg.Progress(c)
	}
	return progress(c)
}

// Suspect says that the host does not seem to be there: a request had better go elsewhere. Any goroutine may call it.
func (p *Peer) Suspect() bool { return p.suspect.Load() }

// accuse makes the host suspect.
func (p *Peer) accuse() {
	if p.suspect.CompareAndSwap(false, true) {
		p.Config.Stats.HostStalled.Inc()
	}
}

// abandon ends the connections to a host that is lost, on all workers.
func (p *Peer) abandon() {
	for _, w := range p.Config.Workers {
		w.Post(func() {
			if ls := p.lanes[w.ID]; ls != nil {
				ls.each((*lane).forsake)
				ls.each((*lane).drain)
			}
		})
	}
}

// forsake ends connections on which something is not acknowledged, and lets the kernel look after the others.
func (l *lane) forsake() {
	l.failed(&ConnectError{Timeout: true, Err: errLost}) // what waits for a connection can still go elsewhere
	for c := l.lent; c != nil; {
		next := c.next
		if c.net == nil {
			c = next
			continue // connecting, for as long as that may take
		}
		if p := l.peer.Config.progress(c.net); p.silent() {
			c.abort()
		} else {
			_ = c.net.Control(probeOften)
		}
		c = next
	}
}

// abort ends a connection under its stream.
func (c *conn) abort() {
	switch {
	case c.mux != nil:
		c.mux.h2.Abort(fiber.ErrClosed)
	case c.exchange != nil && !c.exchange.detach:
		c.net.Abort()
	case c.killed != nil:
		c.killed()
	default:
		_ = c.net.Control(hangUp)
	}
}

// hangUp ends both directions in a way that whoever uses the connection sees as the peer's doing.
func hangUp(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) }

// lost tries to connect to the host until that succeeds, or fails in a way that only a host can bring about. One fiber does so at a time.
func (p *Peer) lost(w *fiber.Worker) {
	p.accuse()
	if p.probing.CompareAndSwap(false, true) {
		w.Go(func() { p.probe(w) }) // ends with the suspicion, with the host, or with the worker
	}
}

var errProbeTimeout = errors.New("the host does not answer")

func (p *Peer) probe(w *fiber.Worker) {
	defer p.probing.Store(false)
	f := w.Current()
	for pause := probeLeast; !p.gone.Load(); pause = min(2*pause, probeMost) {
		to := p.Target()
		to.Socket = nil // bytes as they are: this is about the host, not about what it serves
		limit := f.SetLimit(fiber.Limit{At: w.Now().Add(probeTimeout), Cause: errProbeTimeout})
		c, err := p.Config.Dial(w, to, &Info{})
		f.Restore(limit)
		if c != nil {
			c.Abort()
		}
		if !away(err) {
			p.suspect.Store(false)
			return
		}
		if w.Sleep(pause) != nil {
			return
		}
	}
}

// errLost is why nobody waits for a connection to a host that is lost.
var errLost = errors.New("the host is lost")

// away says that an error of connecting is not the host's own.
func away(err error) bool {
	return errors.Is(err, errProbeTimeout) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.ETIMEDOUT)
}

// enlist keeps c among the connections that are in use: they carry a stream, or are on their way.
func (l *lane) enlist(c *conn) {
	if c.listed {
		return // another stream of the same connection
	}
	c.listed, c.since, c.next = true, l.w.Now(), l.lent
	if c.next != nil {
		c.next.prev = c
	}
	l.lent = c
	if l.http {
		l.watch.begin()
	}
}

// delist takes it from them.
func (l *lane) delist(c *conn) {
	if !c.listed {
		return
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.lent = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.listed, c.prev, c.next = false, nil, nil
}
