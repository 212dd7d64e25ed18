package listener

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// within calls f in the network namespace of a file such as /var/run/netns/name; an empty path is the namespace of the process. A
// socket stays in the namespace where it was made.
func within(path string, f func() error) error {
	if path == "" {
		return f()
	}
	failed := make(chan error, 1)
	go func() { // ends with f; its thread ends with it, because it is never unlocked
		runtime.LockOSThread()
		failed <- enter(path, f)
	}()
	return <-failed
}

func enter(path string, f func() error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer func() { _ = file.Close() }()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespace %s: %w", path, err)
	}
	return f()
}
