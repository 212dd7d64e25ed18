package health

import (
	"io"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// wire is a connection over which bytes go and come, and which may be kept from one check to the next.
type wire struct {
	// set at construction
	reuse bool
	// owned by the worker
	net fiber.Conn
	got []byte
}

func (p *wire) close() {
	if p.net != nil {
		p.net.Abort()
		p.net = nil
	}
}

// connect makes a connection unless there is one; fresh says that it has.
func (p *wire) connect(s *Session, to pool.Target) (fresh bool, err error) {
	p.got = p.got[:0]
	if p.net != nil {
		p.net.OnIdle(0, nil)
		return false, nil
	}
	p.net, err = s.c.env.Dial(s.worker, to, &pool.Info{Transport: pool.Transport{ALPN: s.c.config.alpn}})
	if err != nil {
		p.net = nil
	}
	return true, err
}

// rest keeps the connection if it may be kept; its end before the next check is a failure, too.
func (p *wire) rest(s *Session, keep bool) {
	if !keep || !p.reuse {
		p.close()
	}
	if p.net != nil {
		p.net.OnIdle(0, func(bool) {
			p.close()
			s.idleFailure()
		})
	}
}

// mostReceived bounds what is kept of an answer that does not match.
const mostReceived = 1 << 20

// more waits for further bytes.
func (p *wire) more() error {
	var b [4 << 10]byte
	n, err := p.net.Read(b[:])
	p.got = append(p.got, b[:n]...)
	switch {
	case len(p.got) > mostReceived:
		return io.ErrShortBuffer
	case n > 0:
		return nil
	case err == nil:
		return io.ErrNoProgress
	}
	return err
}
