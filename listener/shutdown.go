package listener

// Connections returns how many connections are open, of all listeners. Any goroutine may call it.
func (m *Manager) Connections() int64 { return 0 }

// Shutdown stops accepting for good and closes the connections that have nothing in flight.
func (m *Manager) Shutdown() { m.StopAccepting(false) }
