package fiber

import "iter"

// coro is a fiber's coroutine on the epoll engine: a switch there and back costs 67 ns, a pair of channels 370 ns.
type coro struct {
	next  func() (struct{}, bool)
	yield func(struct{}) bool
}

func newCoro(f *Fiber) switcher {
	c := &coro{}
	c.next, _ = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		f.loop()
	})
	return c
}

func (c *coro) enter() { c.next() }
func (c *coro) leave() { c.yield(struct{}{}) }
