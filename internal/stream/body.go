package stream

import (
	"errors"
	"io"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// Bytes is a body that is all there.
type Bytes struct {
	B    []byte
	done bool
}

// Next returns all of it once.
func (b *Bytes) Next(bool) ([]byte, error) {
	if b.done || len(b.B) == 0 {
		return nil, io.EOF
	}
	b.done = true
	return b.B, nil
}

// Rewind starts over.
func (b *Bytes) Rewind() { b.done = false }

// Joined is a body that begins with First, which may be empty, and goes on with Rest, which may be nil: what a filter has looked at
// goes before what it has not.
type Joined struct {
	First []byte
	Rest  Body
}

// Next returns First once, then what Rest has.
func (j *Joined) Next(wait bool) ([]byte, error) {
	if p := j.First; len(p) > 0 {
		j.First = nil
		return p, nil
	}
	if j.Rest == nil {
		return nil, io.EOF
	}
	return j.Rest.Next(wait)
}

// Tap is a body that shows each piece to See as it passes, and the end or the failure with a nil piece; See may return an error,
// which ends the body.
type Tap struct {
	Body Body
	See  func(p []byte, err error) error
}

// Next returns what Body has.
func (t *Tap) Next(wait bool) ([]byte, error) {
	p, err := t.Body.Next(wait)
	if p == nil && err == nil {
		return nil, nil
	}
	if refused := t.See(p, err); refused != nil {
		return nil, refused
	}
	return p, err
}

// ErrReplayLost is a cursor behind what its Replay has kept.
var ErrReplayLost = errors.New("stream: the body has grown beyond what is kept for replay")

// Replay passes a body on and remembers it, so that another attempt can send it again, until it grows beyond its limit. It is
// itself the first cursor; attempts at the same time have a Cursor each. All of it belongs to one worker.
type Replay struct {
	// Limit is how many bytes are kept.
	Limit int
	// Worker is needed where cursors are used by more than one fiber at a time: one waits while another one pulls.
	Worker *fiber.Worker

	src     Body
	kept    []byte
	first   Cursor
	ended   bool
	lost    bool
	pulling bool // a cursor waits for src
	news    fiber.Cond
}

const keepMemory = 64 << 10 // across streams

// Reset starts remembering src.
func (r *Replay) Reset(src Body, limit int) {
	kept := r.kept[:0]
	if cap(kept) > keepMemory {
		kept = nil
	}
	*r = Replay{Limit: limit, Worker: r.Worker, src: src, kept: kept}
	r.first.Reset(r)
}

// Rewind starts over from the first byte; false: too much has gone by.
func (r *Replay) Rewind() bool {
	r.first.pos = 0
	return !r.lost
}

// Replayable says whether a new cursor would see the whole body.
func (r *Replay) Replayable() bool { return !r.lost }

// Ended says whether all of the body has come, so that no cursor will wait.
func (r *Replay) Ended() bool { return r.ended }

// Kept returns how many bytes are remembered.
func (r *Replay) Kept() int { return len(r.kept) }

// Next returns what is remembered first, then new pieces.
func (r *Replay) Next(wait bool) ([]byte, error) { return r.first.Next(wait) }

// Cursor is one attempt's view of a Replay. It is a Body.
type Cursor struct {
	r   *Replay
	pos int
}

// Reset puts c at the first byte of r.
func (c *Cursor) Reset(r *Replay) { *c = Cursor{r: r} }

// Next returns what is remembered first, then new pieces: any cursor may be the one that pulls them.
func (c *Cursor) Next(wait bool) ([]byte, error) {
	r := c.r
	for {
		switch {
		case c.pos < len(r.kept):
			p := r.kept[c.pos:]
			c.pos = len(r.kept)
			return p, nil
		case r.lost && c.pos != lostPos:
			return nil, ErrReplayLost
		case r.ended:
			return nil, io.EOF
		case !r.pulling:
			return c.pull(wait)
		case !wait:
			return nil, nil
		}
		if err := r.news.Wait(r.Worker); err != nil {
			return nil, err
		}
	}
}

// lostPos is where the one cursor is that was first when the limit was passed: it alone goes on.
const lostPos = 1<<63 - 1

func (c *Cursor) pull(wait bool) ([]byte, error) {
	r := c.r
	r.pulling = true
	p, err := r.src.Next(wait)
	r.pulling = false
	defer r.news.Broadcast()
	if err != nil {
		r.ended = err == io.EOF // any other may be that of the fiber which pulled: src says it again if it is its own
		return nil, err
	}
	if r.lost || len(r.kept)+len(p) > r.Limit {
		if len(p) > 0 {
			r.lost, c.pos = true, lostPos
		}
		return p, nil
	}
	r.kept = append(r.kept, p...)
	c.pos = len(r.kept)
	return p, nil
}

// Buffer reads b to its end and returns a body that is all there; ok is false if it is longer than limit, and then what was read
// is in all, to be followed by what b has left.
func Buffer(b Body, limit int) (all *Bytes, ok bool, err error) {
	all = &Bytes{}
	all.B, ok, err = Collect(nil, b, limit)
	return all, ok, err
}

// Collect appends b to dst until its end, which it tells by ok, or until dst is longer than limit. A nil b has ended.
func Collect(dst []byte, b Body, limit int) (all []byte, ok bool, err error) {
	for b != nil {
		p, err := b.Next(true)
		if err == io.EOF {
			break
		}
		if err != nil {
			return dst, false, err
		}
		if dst = append(dst, p...); len(dst) > limit {
			return dst, false, nil
		}
	}
	return dst, true, nil
}
