//go:build !linux

package proxy

import "errors"

// dumpCore is for Linux alone.
func dumpCore() error { return errors.New("not supported on this system") }
