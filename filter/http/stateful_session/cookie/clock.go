//go:build linux

package cookie

import "golang.org/x/sys/unix"

// seconds is the monotonic time of this machine, which Envoy writes into cookies.
func seconds() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return t.Sec
}
