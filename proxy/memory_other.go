//go:build !linux

package proxy

import "runtime/debug"

// settle gives back what only the start needed.
func settle() error {
	debug.FreeOSMemory()
	return nil
}
