package fiber

import (
	"syscall"
	"time"
	"unsafe"
)

// acceptPause is how long a listener rests when descriptors or memory have run out.
const acceptPause = 100 * time.Millisecond

// acceptBurst is how many connections are accepted before the established ones have their turn.
const acceptBurst = 64

// fdListener accepts on one worker. It is level triggered: what one event leaves in the backlog is reported again.
type fdListener struct {
	// set at construction
	p      *epoll
	s      *Socket
	o      AcceptOptions
	accept func(Conn)
	// owned by the worker
	retry              Timer
	on, paused, closed bool
}

func (p *epoll) accept(s *Socket, o AcceptOptions, accept func(Conn)) (Listener, error) {
	l := &fdListener{p: p, s: s, o: o, accept: accept}
	l.retry.Do = l.start
	if l.o.PerEvent <= 0 {
		l.o.PerEvent = acceptBurst
	}
	if err := l.arm(); err != nil {
		return nil, err
	}
	if p.listeners == nil {
		p.listeners = map[*fdListener]struct{}{}
	}
	p.listeners[l] = struct{}{}
	return l, nil
}

// arm puts the descriptor under epoll. Workers that share one are woken one at a time.
func (l *fdListener) arm() error {
	events := uint32(syscall.EPOLLIN)
	if l.s.shared {
		events |= only1
	}
	if err := l.p.add(l.s.fd, l, events); err != nil {
		return err
	}
	l.on = true
	return nil
}

// start tries again what failed, or what was paused.
func (l *fdListener) start() {
	if l.on || l.paused || l.closed {
		return
	}
	if err := l.arm(); err != nil {
		l.back(err)
	}
}

func (l *fdListener) stop() {
	l.retry.Stop(l.p.w)
	if l.on {
		l.on = false
		l.p.entries[l.s.fd].h = nil
		_ = l.p.ctl(syscall.EPOLL_CTL_DEL, l.s.fd, 0, 0)
	}
}

// back rests: without it a full descriptor table would keep the loop spinning, as the backlog stays readable.
func (l *fdListener) back(err error) {
	l.stop()
	if l.o.Failed != nil {
		l.o.Failed(err)
	}
	l.retry.Set(l.p.w, l.p.w.now.Add(acceptPause))
}

func (l *fdListener) Address() Address { return l.s.addr }
func (l *fdListener) Pause()           { l.paused = true; l.stop() }
func (l *fdListener) Resume()          { l.paused = false; l.start() }
func (l *fdListener) drop()            { l.Close() }

func (l *fdListener) Close() {
	if l.closed {
		return
	}
	l.closed = true
	l.stop()
	delete(l.p.listeners, l)
	l.s.release()
}

func (l *fdListener) event(uint32) {
	for n := 0; l.on && n < l.o.PerEvent; n++ {
		var raw rawSockaddr
		size := uint32(unsafe.Sizeof(raw))
		r, _, e := syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(l.s.fd), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size)), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0, 0)
		switch {
		case e == 0:
			l.take(int(r), raw.get())
		case e == syscall.EAGAIN:
			return
		case !transient(e):
			l.back(e)
		}
	}
}

func (l *fdListener) take(fd int, remote Address) {
	if l.o.Choose != nil {
		if w, accept := l.o.Choose(); w != nil && w != l.p.w {
			l.give(w, fd, remote, accept)
			return
		}
	}
	s, err := l.p.socket(fd, remote)
	if err != nil {
		l.back(err)
		return
	}
	if l.s.onSpot {
		s.bound = &l.s.addr
	}
	l.accept(&s.socket)
}

// give hands a new connection to another worker.
func (l *fdListener) give(w *Worker, fd int, remote Address, accept func(Conn)) {
	done := w.Post(func() {
		s, err := w.poll.(*epoll).socket(fd, remote)
		if err != nil {
			return
		}
		if l.s.onSpot {
			s.bound = &l.s.addr
		}
		w.protect(func() { accept(&s.socket) })
	})
	if !done {
		_ = syscall.Close(fd)
	}
}
