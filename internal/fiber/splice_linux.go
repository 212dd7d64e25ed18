package fiber

import (
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// spliceSize is how much the kernel's pipe between two sockets holds.
const spliceSize = 1 << 20

// kernelPipe is empty while it is pooled.
type kernelPipe struct{ r, w int }

func (k kernelPipe) close() {
	_ = syscall.Close(k.r)
	_ = syscall.Close(k.w)
}

func (p *epoll) takePipe() (kernelPipe, error) {
	if n := len(p.pipes); n > 0 {
		k := p.pipes[n-1]
		p.pipes = p.pipes[:n-1]
		return k, nil
	}
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_NONBLOCK|syscall.O_CLOEXEC); err != nil {
		return kernelPipe{}, err
	}
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, spliceSize) // where it may not, 64 KiB do
	return kernelPipe{fds[0], fds[1]}, nil
}

// keepPipes is how many empty pipes a worker keeps: bulk transfers at the same time on one core.
const keepPipes = 16

func (p *epoll) putPipe(k kernelPipe, clean bool) {
	if !clean || len(p.pipes) >= keepPipes {
		k.close()
		return
	}
	p.pipes = append(p.pipes, k)
}

// splice moves what from holds. See Splice.
func (p *epoll) splice(to, from *socket) (int64, error) {
	dst, ok1 := to.sys.(*fdSocket)
	src, ok2 := from.sys.(*fdSocket)
	if !ok1 || !ok2 || from.peek != nil {
		return 0, ErrNoSplice
	}
	k, err := p.takePipe()
	if err != nil {
		return 0, ErrNoSplice
	}
	moved, left, err := k.move(dst, src)
	p.putPipe(k, left == 0)
	if left > 0 && err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return moved, err
}

func (k kernelPipe) move(to, from *fdSocket) (moved int64, left int, err error) {
	for from.readable {
		if from.closed {
			return moved, 0, ErrClosed
		}
		n, e := spliceCall(from.fd, k.w, spliceSize)
		switch {
		case e == syscall.EAGAIN:
			from.readable = false
			return moved, 0, nil
		case e == syscall.EINTR:
			continue
		case e == syscall.EINVAL && moved == 0:
			return 0, 0, ErrNoSplice
		case e != 0:
			return moved, 0, e
		case n == 0:
			return moved, 0, io.EOF
		}
		for left = n; left > 0; {
			n, err := k.out(to, left)
			moved, left = moved+int64(n), left-n
			if err != nil {
				return moved, left, err
			}
		}
		from.w.cur.spend(n)
	}
	return moved, 0, nil
}

// out moves from the pipe to the socket, and waits for room.
func (k kernelPipe) out(to *fdSocket, n int) (int, error) {
	for {
		if to.closed {
			return 0, ErrClosed
		}
		m, e := spliceCall(k.r, to.fd, n)
		switch e {
		case 0:
			return m, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			to.writable = false
			if err := to.waitWritable(); err != nil {
				return 0, err
			}
		default:
			return 0, e
		}
	}
}

func spliceCall(from, to, n int) (int, syscall.Errno) {
	r, _, e := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	return int(r), e
}
