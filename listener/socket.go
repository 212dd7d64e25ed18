package listener

import (
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/sockopt"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// open binds the endpoint: a socket for each worker (SO_REUSEPORT), or one for all of them. Where port 0 is asked for, the workers
// share the port that the first one got.
func (b *bound) open(c *config, workers int) error {
	reuse := c.reusePort && b.Path == ""
	if !reuse {
		workers = 1
	}
	at := b.Address
	for range workers {
		var s *fiber.Socket
		err := within(b.namespace, func() (err error) {
			s, err = fiber.Bind(fiber.ListenConfig{
				Address: at, Backlog: c.backlog, ReusePort: reuse, V6Only: !b.v4Too, Mode: b.mode,
				Control:   func(fd int) error { return b.options.Apply(fd, sockopt.Prebind) },
				Bound:     func(fd int) error { return b.options.Apply(fd, sockopt.Bound) },
				Listening: func(fd int) error { return b.options.Apply(fd, sockopt.Listening) },
			})
			return err
		})
		if err != nil {
			return err
		}
		b.sockets = append(b.sockets, s)
		at = s.Address()
	}
	return nil
}

// local is the address with the port that the kernel chose.
func (b *bound) local() stream.Address {
	if len(b.sockets) == 0 {
		return b.Address
	}
	return b.sockets[0].Address()
}
