package cluster

// A cluster is warm when its endpoints, its secrets and whatever else it waits for are there, and each of
// its hosts has been checked. Until then it does not take the place of
// the version before, and the start of the process waits for it.

// wait makes the cluster wait for one thing more, until done is called, on the control loop; a second call does nothing.
func (c *Cluster) wait() (done func()) {
	c.pending++
	called := false
	return func() {
		if called {
			return
		}
		called = true
		c.pending--
		c.settle()
	}
}

// settle looks whether the cluster is warm now.
func (c *Cluster) settle() {
	if c.warm || c.pending > 0 || !c.found || c.closed {
		return
	}
	c.warm = true
	if len(c.checkers) > 0 {
		c.refresh() // what the checks have found meanwhile
	}
	if c.onWarm != nil {
		c.onWarm()
	}
	c.m.calm()
}

// WhenWarm calls f, on the control loop, once: when no cluster is warming, which may be now.
func (m *Manager) WhenWarm(f func()) {
	m.calls = append(m.calls, f)
	m.calm()
}

// calm tells those who wait for it that nothing is warming.
func (m *Manager) calm() {
	if len(m.calls) == 0 || m.batch > 0 || len(m.warming) > 0 {
		return
	}
	calls := m.calls
	m.calls = nil
	for _, f := range calls {
		f()
	}
}
