//go:build !linux

package runtime

import "errors"

// watcher is for Linux alone.
type watcher struct{}

func watch(string, func()) (*watcher, error) {
	return nil, errors.New("disk layers are watched on Linux only")
}

func (*watcher) close() {}
