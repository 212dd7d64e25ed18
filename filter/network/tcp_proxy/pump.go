package tcpproxy

import (
	"errors"
	"io"
	"syscall"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// half moves bytes one way.
type half struct {
	s        *session
	from, to fiber.Conn
	pump     func(expired bool) // run, bound once
	moved    int64
	counted  int64 // of moved, what is in the statistics
	ended    bool  // from has ended, and to was told
	bulk     bool  // so much has come at once that splice pays
}

// writeError marks an error of the side that is written to.
type writeError struct{ error }

// run moves what is there, on a fiber, and gives the connection back to the loop.
func (h *half) run(bool) {
	s := h.s
	err := h.move()
	if s.closed {
		return // the other half, or a timer, has ended the session
	}
	s.settle()
	switch {
	case err == nil && s.p.draining && s.p.drain.Closing():
		s.p.stats.DrainClose.Inc()
		s.end("")
	case err == nil:
		h.from.OnIdle(0, h.pump)
	case err == io.EOF:
		h.finish()
	default:
		s.broken(h, err)
	}
}

// move returns nil when nothing is left for now.
func (h *half) move() error {
	if h.bulk {
		if err := h.splice(); err != fiber.ErrNoSplice {
			return err
		}
	}
	b := h.s.c.Worker.Buffers.Get()
	defer h.s.c.Worker.Buffers.Put(b)
	for full := 0; h.from.Readable(); {
		n, err := h.from.Read(b)
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

func (h *half) pass(b []byte) error {
	n, err := h.to.Write(b)
	h.moved += int64(n)
	h.s.active = h.s.c.Worker.Now()
	if err != nil {
		return writeError{err}
	}
	return nil
}

// haul moves much: without copying where that can be done, else with big buffers.
func (h *half) haul() error {
	h.bulk = true
	if err := h.splice(); err != fiber.ErrNoSplice {
		return err
	}
	h.bulk = false
	w := h.s.c.Worker
	b := w.Bulk.Get()
	defer w.Bulk.Put(b)
	for h.from.Readable() {
		n, err := h.from.Read(b)
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

func (h *half) splice() error {
	n, err := fiber.Splice(h.to, h.from)
	h.moved += n
	h.s.active = h.s.c.Worker.Now()
	h.bulk = err == nil && n >= worthSplicing
	if errors.Is(err, syscall.EPIPE) {
		return writeError{err}
	}
	return err
}

// finish passes the end of one side on; the session ends with the second.
func (h *half) finish() {
	s := h.s
	h.ended = true
	if s.toUp.ended && s.toDown.ended {
		s.end("")
		return
	}
	if err := h.to.CloseWrite(); err != nil {
		s.broken(h, writeError{err})
	}
}

// broken ends the session when one side was reset: the other one is reset too.
func (s *session) broken(h *half, err error) {
	fromDown := h == &s.toUp
	if _, ok := errors.AsType[writeError](err); ok {
		fromDown = !fromDown
	}
	if fromDown {
		s.c.Info.CloseType = remoteReset
		s.end("")
		return
	}
	s.toDown.ended = true
	s.flag(stream.UpstreamRemoteReset)
	s.c.Info.CloseType = localReset
	if s.c.Stream != nil {
		s.c.Stream.Info.Upstream.CloseType = remoteReset
	}
	s.end("")
}
