package proxy

import (
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// dumpCore lets a crash leave a core dump (--enable-core-dump).
func dumpCore() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	debug.SetTraceback("crash")
	return unix.Setrlimit(unix.RLIMIT_CORE, &limit)
}
