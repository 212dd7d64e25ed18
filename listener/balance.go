package listener

import (
	"sync"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// balance is connection_balance_config.exact_balance: each new connection goes to the worker that has the fewest of this listener.
// Its lock is held for a few nanoseconds per connection, as in Envoy.
type balance struct {
	// set at construction
	places []*place
	accept []func(fiber.Conn) // by worker
	// under mu
	mu   sync.Mutex
	open []int // connections by worker
}

func newBalance(places []*place) *balance {
	b := &balance{places: places, open: make([]int, len(places))}
	for _, p := range places {
		b.accept = append(b.accept, p.accept)
	}
	return b
}

// choose is fiber.AcceptOptions.Choose. The connection is counted at once, so that the next choice knows of it.
func (b *balance) choose() (*fiber.Worker, func(fiber.Conn)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	best := 0
	for i, n := range b.open {
		if n < b.open[best] {
			best = i
		}
	}
	b.open[best]++
	return b.places[best].w, b.accept[best]
}

// left counts a connection of a worker out. A nil balance counts nothing.
func (b *balance) left(worker int) {
	if b == nil {
		return
	}
	b.mu.Lock()
	b.open[worker]--
	b.mu.Unlock()
}
