package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watcher tells when something is moved to a path: operators switch a runtime tree by renaming a symbolic link.
type watcher struct {
	file *os.File
	done chan struct{}
}

// watch calls moved after each rename to path, until Close.
func watch(path string, moved func()) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_MOVED_TO); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", filepath.Dir(path), err)
	}
	w := &watcher{file: os.NewFile(uintptr(fd), "inotify"), done: make(chan struct{})}
	go w.run(filepath.Base(path), moved) // ends with Close
	return w, nil
}

func (w *watcher) run(name string, moved func()) {
	defer close(w.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		if slices.Contains(names(buf[:n]), name) {
			moved()
		}
	}
}

// names lists the names in a batch of inotify events.
func names(events []byte) []string {
	var found []string
	for len(events) >= unix.SizeofInotifyEvent {
		length := int((*unix.InotifyEvent)(unsafe.Pointer(&events[0])).Len)
		rest := events[unix.SizeofInotifyEvent:]
		if length > len(rest) {
			break
		}
		found = append(found, unix.ByteSliceToString(rest[:length]))
		events = rest[length:]
	}
	return found
}

// close ends the watch and its goroutine.
func (w *watcher) close() {
	_ = w.file.Close()
	<-w.done
}
