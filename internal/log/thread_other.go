//go:build !linux

package log

// thread has no meaning here.
func thread() int { return 0 }
