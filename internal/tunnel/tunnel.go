// Package tunnel joins two connections of one worker: what comes from one goes to the other, both ways. While nothing moves, a pair
// is two idle callbacks of the loop and owns neither a fiber nor a buffer; bulk goes by splice where the system has it.
//
// It decides nothing: what an end, a reset or too long a rest mean says the Owner, which differs between TCP and an upgrade of HTTP.
package tunnel

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// Owner is told what becomes of a Pair. It may call any method of it.
type Owner interface {
	// Moved is called on a fiber when a direction has moved what was there: more says that it goes on, else Over follows.
	Moved(more bool)
	// Over is called on a fiber when h has come to its end: err is io.EOF when From has, a WriteError when To takes no more, and
	// else what reading has failed with. The other direction goes on until Stop.
	Over(h *Half, err error)
	// Idle is called on the loop, where it must not wait, when nothing has moved for as long as Begin was told.
	Idle()
}

// Pair is two connections that are joined. It must not be copied, nor used for a second pair.
type Pair struct {
	// set at construction
	w     *fiber.Worker
	owner Owner
	idle  time.Duration
	// owned by the worker
	Up, Down Half // from the client to the host, and back
	active   fiber.Time
	idling   fiber.Timer
	stopped  bool
}

// Half is one direction of a Pair.
type Half struct {
	// set at construction
	From, To fiber.Conn
	pair     *Pair
	pump     func(expired bool) // run, bound once
	// owned by the worker
	first []byte // goes before what From has
	moved int64
	taken int64 // of moved, by Take
	bulk  bool  // so much has come at once that splice pays
}

// WriteError marks an error of the side that is written to.
type WriteError struct{ Err error }

// Error says what writing said.
func (e *WriteError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Err }

// Join makes a pair; nothing moves before Begin.
func (p *Pair) Join(w *fiber.Worker, o Owner, down, up fiber.Conn) {
	p.w, p.owner = w, o
	p.Up = Half{pair: p, From: down, To: up}
	p.Down = Half{pair: p, From: up, To: down}
	p.Up.pump, p.Down.pump = p.Up.run, p.Down.run
}

// Prepend lets h send b, which is copied, before anything else.
func (h *Half) Prepend(b []byte) { h.first = append(h.first, slices.Clone(b)...) }

// Begin lets bytes move; idle is how long none may (0: for ever).
func (p *Pair) Begin(idle time.Duration) {
	p.idle, p.active = idle, p.w.Now()
	if idle > 0 {
		p.idling.Do = p.rested
		p.idling.Set(p.w, p.active.Add(idle))
	}
	p.Up.begin()
	p.Down.begin()
}

// begin gives the direction to the loop, or a fiber if it has something to send already.
func (h *Half) begin() {
	if len(h.first) > 0 {
		h.pair.w.Go(func() { h.run(false) }) // ends when both first bytes and what has come since are through, or with the pair
		return
	}
	h.From.OnIdle(0, h.pump)
}

// Stop ends the pair: nothing more is read, and the owner is told nothing more. It closes neither connection; a fiber that is just
// writing to one of them ends when that is closed. Stop does not wait.
func (p *Pair) Stop() {
	if p.stopped {
		return
	}
	p.stopped = true
	p.idling.Stop(p.w)
	p.Up.From.OnIdle(0, nil)
	p.Down.From.OnIdle(0, nil)
}

// Stopped says whether Stop was called.
func (p *Pair) Stopped() bool { return p.stopped }

// rested runs when nothing may have moved for too long: the timer is not moved when bytes are.
func (p *Pair) rested() {
	if at := p.active.Add(p.idle); at > p.w.Now() {
		p.idling.Set(p.w, at)
		return
	}
	p.owner.Idle()
}

// Moved is how many bytes have gone this way.
func (h *Half) Moved() int64 { return h.moved }

// Take is how many bytes have gone this way since it was called last.
func (h *Half) Take() int64 {
	n := h.moved - h.taken
	h.taken = h.moved
	return n
}

// run moves what is there, on a fiber, and gives the connection back to the loop.
func (h *Half) run(bool) {
	p := h.pair
	err := h.move()
	if p.stopped {
		return
	}
	p.owner.Moved(err == nil)
	switch {
	case p.stopped:
	case err == nil:
		h.From.OnIdle(0, h.pump)
	default:
		p.owner.Over(h, err)
	}
}

// move returns nil when nothing is left for now.
func (h *Half) move() error {
	if b := h.first; len(b) > 0 {
		h.first = nil
		if err := h.pass(b); err != nil {
			return err
		}
	}
	if h.bulk {
		if err := h.splice(); err != fiber.ErrNoSplice {
			return err
		}
	}
	w := h.pair.w
	b := w.Buffers.Get()
	defer w.Buffers.Put(b)
	for full := 0; !h.pair.stopped && h.From.Readable(); {
		n, err := h.From.Read(b)
		if err != nil {
			return err
		}
		if err := h.pass(b[:n]); err != nil {
			return err
		}
		if full++; n < len(b) {
			full = 0
		}
		if full == bulkAfter {
			return h.haul()
		}
	}
	return nil
}

// bulkAfter is how many buffers have to come filled before it is a bulk transfer.
const bulkAfter = 4

func (h *Half) pass(b []byte) error {
	n, err := h.To.Write(b)
	h.moved += int64(n)
	h.pair.active = h.pair.w.Now()
	if err != nil {
		return &WriteError{err}
	}
	return nil
}

// haul moves much: without copying where that can be done, else with big buffers.
func (h *Half) haul() error {
	h.bulk = true
	if err := h.splice(); err != fiber.ErrNoSplice {
		return err
	}
	h.bulk = false
	w := h.pair.w
	b := w.Bulk.Get()
	defer w.Bulk.Put(b)
	for !h.pair.stopped && h.From.Readable() {
		n, err := h.From.Read(b)
		if err != nil {
			return err
		}
		if err := h.pass(b[:n]); err != nil {
			return err
		}
	}
	return nil
}

// worthSplicing is how much has to come at a time for splice to be cheaper than read and write.
const worthSplicing = 64 << 10

func (h *Half) splice() error {
	n, err := fiber.Splice(h.To, h.From)
	h.moved += n
	h.pair.active = h.pair.w.Now()
	h.bulk = err == nil && n >= worthSplicing
	if errors.Is(err, syscall.EPIPE) {
		return &WriteError{err}
	}
	return err
}
