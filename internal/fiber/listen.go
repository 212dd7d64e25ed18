package fiber

import (
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// ListenConfig says how to make a listening socket. The zero value of each field but Address is a sensible default.
type ListenConfig struct {
	Address   Address
	Backlog   int         // of accept; 0: 4096, which net.core.somaxconn may lower
	ReusePort bool        // SO_REUSEPORT: each worker has a Socket of its own and the kernel spreads connections over them
	V6Only    bool        // IPV6_V6ONLY; otherwise [::] takes IPv4 connections too
	Mode      fs.FileMode // of a unix socket's file; 0: as the umask says
	// Control and Bound run after socket() and bind(), and their error ends Bind; Listening runs after listen(), and its error ends
	// Listen, or the first Accept.
	Control, Bound, Listening func(fd int) error
}

// Socket is a bound socket, which listens from Listen or the first Accept on: until then the kernel refuses connections. Its
// descriptor is closed once Close was called and the last Listener on it is closed.
type Socket struct {
	// set at construction
	fd      int
	addr    Address
	shared  bool // not SO_REUSEPORT: several workers may wait for the one descriptor
	onSpot  bool // accepted connections have addr as their local address, no need to ask
	closeFD func(int) error
	listen  func() error // once, whoever calls it
	// atomic
	refs   atomic.Int32
	closed atomic.Bool
}

// Bind makes a socket for Accept; it may be called from any goroutine. A file in the place of a unix socket is removed, as in Envoy.
func Bind(c ListenConfig) (*Socket, error) {
	fd, err := unix.Socket(family(c.Address), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &Socket{fd: fd, addr: c.Address, shared: !c.ReusePort, closeFD: unix.Close}
	s.listen = sync.OnceValue(func() error { return s.begin(&c) })
	s.refs.Store(1)
	if err := s.bind(&c); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Socket) bind(c *ListenConfig) error {
	if err := s.options(c); err != nil {
		return err
	}
	if err := call(c.Control, s.fd); err != nil {
		return err
	}
	if c.file() {
		_ = os.Remove(c.Address.Path) // bind reports what is wrong with it
	}
	if err := unix.Bind(s.fd, toSockaddr(c.Address)); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if c.file() && c.Mode != 0 {
		if err := os.Chmod(c.Address.Path, c.Mode); err != nil {
			return err
		}
	}
	if err := call(c.Bound, s.fd); err != nil {
		return err
	}
	s.learn()
	return nil
}

// Listen has the kernel take connections, which wait for Accept. Any goroutine may call it, and again.
func (s *Socket) Listen() error { return s.listen() }

// begin listens.
func (s *Socket) begin(c *ListenConfig) error {
	backlog := c.Backlog
	if backlog <= 0 {
		backlog = 4096
	}
	if err := unix.Listen(s.fd, backlog); err != nil {
		return os.NewSyscallError("listen", err)
	}
	return call(c.Listening, s.fd)
}

func (c *ListenConfig) file() bool {
	return c.Address.Path != "" && !strings.HasPrefix(c.Address.Path, "@")
}

func (s *Socket) options(c *ListenConfig) error {
	if c.Address.Path != "" {
		return nil
	}
	set := func(name string, level, opt, v int) error {
		return os.NewSyscallError("setsockopt "+name, unix.SetsockoptInt(s.fd, level, opt, v))
	}
	if err := set("SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if c.ReusePort {
		if err := set("SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return err
		}
	}
	if c.Address.Addr().Unmap().Is6() {
		only := 0
		if c.V6Only {
			only = 1
		}
		if err := set("IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return err
		}
	}
	// Accepted sockets inherit it: a setsockopt less per connection.
	return set("TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

// learn finds what can be known once for all connections.
func (s *Socket) learn() {
	if s.addr.Path != "" {
		s.onSpot = true
		return
	}
	s.addr = localAddress(s.fd)
	transparent, _ := unix.GetsockoptInt(s.fd, unix.SOL_IP, unix.IP_TRANSPARENT)
	s.onSpot = !s.addr.Addr().Unmap().IsUnspecified() && transparent == 0 // else: a getsockname less per connection
}

// Address is where the socket listens, with the port that the system chose for port 0.
func (s *Socket) Address() Address { return s.addr }

// Control calls f with the descriptor: for socket options, or to hand it to another process.
func (s *Socket) Control(f func(fd int) error) error {
	if s.closed.Load() {
		return ErrClosed
	}
	return f(s.fd)
}

// Close gives the socket up; it may be called from any goroutine. Listeners on it go on until they are closed themselves.
func (s *Socket) Close() {
	if !s.closed.Swap(true) {
		s.release()
	}
}

func (s *Socket) release() {
	if s.refs.Add(-1) == 0 {
		_ = s.closeFD(s.fd)
	}
}

func call(f func(int) error, fd int) error {
	if f == nil {
		return nil
	}
	return f(fd)
}

// AcceptOptions says how a worker accepts.
type AcceptOptions struct {
	// PerEvent is how many connections are accepted per event at most (Envoy: max_connections_to_accept_per_socket_event). 0: no limit.
	PerEvent int
	// Choose, if set, says which worker is to have the next connection, and what to call there with it. It runs on the loop of the
	// worker that accepts. Nil: the connection stays.
	Choose func() (*Worker, func(Conn))
	// Failed is told when accepting fails for want of descriptors or memory; the worker then tries again after 100 ms. May be nil.
	Failed func(error)
}

// Listener is a worker's interest in a listening socket. Its methods are called on the loop.
type Listener interface {
	Address() Address
	// Pause stops accepting; connections wait in the backlog, and the kernel refuses them once that is full.
	Pause()
	Resume()
	// Close ends the interest; the Socket stays open.
	Close()
}

// Accept calls accept on the loop, outside of fibers, for each connection. It is called on the loop, or before Run.
func (w *Worker) Accept(s *Socket, o AcceptOptions, accept func(Conn)) (Listener, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	if err := s.listen(); err != nil {
		return nil, err
	}
	s.refs.Add(1)
	l, err := w.poll.accept(s, o, func(c Conn) { w.protect(func() { accept(c) }) })
	if err != nil {
		s.release()
	}
	return l, err
}

// transient says whether accept failed for this one connection only (accept(2): network errors of the new socket come here).
func transient(e syscall.Errno) bool {
	switch e {
	case syscall.EINTR, syscall.ECONNABORTED, syscall.EPROTO, syscall.ENOPROTOOPT, syscall.EHOSTDOWN, syscall.ENONET,
		syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EPERM, syscall.ETIMEDOUT:
		return true
	}
	return false
}

// Dialer says how to connect. The zero value does it like Dial with nil.
type Dialer struct {
	Local   Address            // to bind to first; zero: the system chooses
	Control func(fd int) error // runs after socket() and before bind() and connect(); its error ends Dial
}

// Dial connects; the fiber's limit and cancellation end the attempt. d may be nil.
func (w *Worker) Dial(to Address, d *Dialer) (Conn, error) {
	if d == nil {
		d = &Dialer{}
	}
	return w.poll.dial(to, d)
}
