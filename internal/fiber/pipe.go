package fiber

import "syscall"

// pipeSize is how much one direction of a Pipe holds before its writer has to wait.
const pipeSize = 64 << 10

// Pipe returns the two ends of an in-memory connection of w, with all that a TCP connection does: half-close, reset (also by Close
// with unread input), limits, OnIdle, Guard, Peek. An empty direction owns no buffer.
func Pipe(w *Worker) (a, b Conn) {
	x, y := &pipeEnd{}, &pipeEnd{}
	x.peer, y.peer = y, x
	for _, e := range []*pipeEnd{x, y} {
		e.socket = socket{w: w, sys: e, writable: true}
	}
	return &x.socket, &y.socket
}

// pipeEnd does for one end of a Pipe what the system does for a socket.
type pipeEnd struct {
	socket

	// set at construction
	peer *pipeEnd
	// owned by the worker
	ring           []byte // input: n bytes from r on, around the end; nil while empty
	r, n           int
	eof, reset     bool // of the input
	shut, finished bool // CloseWrite, Close
}

func (e *pipeEnd) read(p []byte) (int, syscall.Errno) {
	if e.n == 0 {
		switch {
		case e.reset:
			return 0, syscall.ECONNRESET
		case e.eof:
			return 0, 0
		}
		return 0, syscall.EAGAIN
	}
	full, done := e.n == len(e.ring), 0
	for done < len(p) && e.n > 0 {
		k := copy(p[done:], e.ring[e.r:min(e.r+e.n, len(e.ring))])
		done, e.r, e.n = done+k, (e.r+k)%len(e.ring), e.n-k
	}
	if e.n == 0 {
		e.release()
	}
	if full {
		e.peer.event(evOut)
	}
	return done, 0
}

func (e *pipeEnd) write(p []byte) (int, syscall.Errno) {
	to := e.peer
	switch {
	case e.reset:
		return 0, syscall.ECONNRESET
	case e.shut || to.finished:
		return 0, syscall.EPIPE
	case to.n == pipeSize:
		return 0, syscall.EAGAIN
	}
	if to.ring == nil {
		to.ring, to.r = to.w.Bulk.Get()[:pipeSize], 0
	}
	done := 0
	for done < len(p) && to.n < pipeSize {
		at := (to.r + to.n) % pipeSize
		k := copy(to.ring[at:min(at+pipeSize-to.n, pipeSize)], p[done:])
		done, to.n = done+k, to.n+k
	}
	to.event(evIn)
	return done, 0
}

func (e *pipeEnd) release() {
	if e.ring != nil {
		e.w.Bulk.Put(e.ring)
		e.ring = nil
	}
}

func (e *pipeEnd) want(uint8) {}

func (e *pipeEnd) closeWrite() error {
	if e.reset {
		return syscall.ENOTCONN
	}
	if !e.shut {
		e.shut, e.peer.eof = true, true
		e.peer.event(evIn | evGone)
	}
	return nil
}

func (e *pipeEnd) close(abort bool) {
	e.finished = true
	if to := e.peer; !to.finished {
		to.reset = to.reset || abort || e.n > 0
		to.eof = true
		to.event(evIn | evOut | evGone)
	}
	e.n = 0
	e.release()
}

func (e *pipeEnd) local() Address                { return Address{} }
func (e *pipeEnd) control(func(int) error) error { return ErrNoSocket }
