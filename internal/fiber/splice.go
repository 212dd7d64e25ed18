package fiber

import "errors"

// ErrNoSplice says that Splice cannot move these bytes, and has moved none: use Read and Write.
var ErrNoSplice = errors.New("fiber: cannot splice")

// Splice moves the bytes of from into to without copying them into the process. It waits for room in to, never for input: nil says that
// from is drained (WaitReadable or OnIdle come next), io.EOF that its input has ended. It pays once reads fill 64 KiB buffers:
// a splice of small messages is dearer than read and write (36 us per round trip against 26), of bulk cheaper (0.38 s/GB against 0.57).
//
// It returns how many bytes have arrived. ErrNoSplice, with 0: one of them is no plain socket, bytes that Peek has shown are not consumed, or
// the engine does not do it. After any other error (a limit or a cancellation too) bytes may be lost between the two: both have to be closed.
func Splice(to, from Conn) (int64, error) {
	t, ok1 := to.(*socket)
	f, ok2 := from.(*socket)
	if !ok1 || !ok2 {
		return 0, ErrNoSplice
	}
	if t.closed || f.closed {
		return 0, ErrClosed
	}
	return f.w.poll.splice(t, f)
}
