//go:build !linux

package proxy

// pinWorkers tells that threads cannot be pinned here.
func (p *Proxy) pinWorkers() { p.log.Warn("workers cannot be pinned to CPUs on this system") }
