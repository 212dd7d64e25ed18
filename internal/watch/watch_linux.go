// Package watch tells when files are moved into directories: that is how operators and Kubernetes replace configuration and secrets.
package watch

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Watcher watches directories, with one inotify instance that is made when it is first needed. Any goroutine may use it.
type Watcher struct {
	mu     sync.Mutex // guards the fields below
	file   *os.File
	fd     int
	done   chan struct{}
	dirs   map[int32]*directory
	closed bool
}

type directory struct {
	path  string
	watch []*entry
}

type entry struct{ moved func(name string) }

// New makes a watcher; it costs nothing before Add.
func New() *Watcher { return &Watcher{dirs: map[int32]*directory{}} }

// Add calls moved, on a goroutine of the watcher, with the name of each file that is moved into the directory, until remove is called
// or the watcher is closed.
func (w *Watcher) Add(dir string, moved func(name string)) (remove func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.open(); err != nil {
		return nil, err
	}
	wd, err := unix.InotifyAddWatch(w.fd, dir, unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	if err != nil {
		return nil, fmt.Errorf("cannot watch %s: %w", dir, err)
	}
	d := w.dirs[int32(wd)]
	if d == nil {
		d = &directory{path: dir}
		w.dirs[int32(wd)] = d
	}
	e := &entry{moved}
	d.watch = append(d.watch, e)
	return func() { w.remove(int32(wd), e) }, nil
}

func (w *Watcher) open() error {
	if w.closed {
		return os.ErrClosed
	}
	if w.file != nil {
		return nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	w.fd, w.file, w.done = fd, os.NewFile(uintptr(fd), "inotify"), make(chan struct{})
	go w.run(w.file, w.done) // ends with Close
	return nil
}

func (w *Watcher) remove(wd int32, e *entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.dirs[wd]
	if d == nil {
		return
	}
	d.watch = slices.DeleteFunc(d.watch, func(o *entry) bool { return o == e })
	if len(d.watch) == 0 && !w.closed {
		delete(w.dirs, wd)
		_, _ = unix.InotifyRmWatch(w.fd, uint32(wd))
	}
}

func (w *Watcher) run(f *os.File, done chan struct{}) {
	defer close(done)
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		w.tell(buf[:n])
	}
}

// tell passes a batch of events on.
func (w *Watcher) tell(events []byte) {
	for len(events) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&events[0]))
		wd, rest := e.Wd, events[unix.SizeofInotifyEvent:]
		if int(e.Len) > len(rest) {
			return
		}
		name := unix.ByteSliceToString(rest[:e.Len])
		events = rest[e.Len:]
		for _, e := range w.entries(wd) {
			e.moved(name)
		}
	}
}

func (w *Watcher) entries(wd int32) []*entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.dirs[wd]; d != nil {
		return slices.Clone(d.watch)
	}
	return nil
}

// Close ends all watches and waits for the goroutine.
func (w *Watcher) Close() {
	w.mu.Lock()
	w.closed = true
	f, done := w.file, w.done
	w.file = nil
	w.mu.Unlock()
	if f != nil {
		_ = f.Close()
		<-done
	}
}
