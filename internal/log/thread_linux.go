package log

import "golang.org/x/sys/unix"

// thread is the id of the running thread: workers keep theirs.
func thread() int { return unix.Gettid() }
