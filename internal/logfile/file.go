package logfile

import (
	"os"
	"sync"
	"time"
)

// File takes lines from all workers.
type File struct {
	// set at construction
	path     string
	options  Options
	counters *counters
	slots    []slot // one per worker, and the last one for everybody else
	wake     chan struct{}
	reopen   chan struct{}
	flush    chan chan struct{}
	stop     chan struct{}
	stopped  chan struct{}
	// owned by the writer
	out   *os.File
	spare [][]byte
}

// slot is the buffer of a worker. Its lock is only ever held to append a line or to take the buffer away.
type slot struct {
	mu    sync.Mutex // guards the rest
	lines []byte
	woken bool // the writer was told of this buffer
	_     [64]byte
}

func newFile(path string, out *os.File, s *Set) *File {
	f := &File{
		path: path, out: out, options: s.options, counters: s.counters,
		slots: make([]slot, s.options.Workers+1), spare: make([][]byte, s.options.Workers+1),
		wake: make(chan struct{}, 1), reopen: make(chan struct{}, 1), flush: make(chan chan struct{}),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go f.write() // ended by Set.Close
	return f
}

// Write appends a line, newline included, to the buffer of a worker; any other number is for goroutines that are no worker. It never
// waits for the disk; a line that finds the buffer full because the disk is full or slow is lost and counted (filesystem.write_failed).
func (f *File) Write(worker int, line []byte) {
	f.WriteFunc(worker, func(b []byte) []byte { return append(b, line...) })
}

// WriteFunc is Write for a line that is formatted right into the buffer: line does no more than to append to b.
func (f *File) WriteFunc(worker int, line func(b []byte) []byte) {
	n, wake := f.slot(worker).add(line, &f.options)
	if n < 0 {
		f.counters.Failed.Inc()
		return
	}
	f.counters.Buffered.Inc()
	f.counters.TotalBuffered.Add(int64(n))
	if wake {
		tell(f.wake)
	}
}

// add returns how long the line was, -1 if there was no room, and whether the writer is to be woken.
func (s *slot) add(line func(b []byte) []byte, o *Options) (n int, wake bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.lines)
	if before >= o.MaxBuffered {
		return -1, false
	}
	s.lines = line(s.lines)
	wake = len(s.lines) >= o.MinFlush && !s.woken
	s.woken = s.woken || wake
	return len(s.lines) - before, wake
}

func (f *File) slot(worker int) *slot {
	if worker < 0 || worker >= len(f.slots) {
		worker = len(f.slots) - 1
	}
	return &f.slots[worker]
}

// tell makes sure that the writer will look, without waiting for it.
func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it has yet to see an earlier one
	}
}

// write is the writer.
func (f *File) write() {
	defer close(f.stopped)
	tick := time.NewTicker(f.options.FlushInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if f.drain() > 0 {
				f.counters.FlushedByTimer.Inc()
			}
		case <-f.wake:
			f.drain()
		case done := <-f.flush:
			f.drain()
			close(done)
		case <-f.reopen:
			f.drain()
			f.open()
		case <-f.stop:
			f.drain()
			f.close()
			return
		}
	}
}

// drain writes what all workers have buffered, and returns how many bytes that were.
func (f *File) drain() (total int) {
	for i := range f.slots {
		s := &f.slots[i]
		s.mu.Lock()
		lines := s.lines
		if len(lines) > 0 {
			s.lines, f.spare[i] = f.spare[i], nil
		}
		s.woken = false
		s.mu.Unlock()
		if len(lines) == 0 {
			continue
		}
		total += len(lines)
		f.put(lines)
		f.counters.TotalBuffered.Add(-int64(len(lines)))
		if cap(lines) <= 4*f.options.MinFlush { // one that had to wait for a slow disk goes back to the heap
			f.spare[i] = lines[:0]
		}
	}
	return total
}

// put writes to the file. What cannot be written is lost: log lines never wait for a full disk to be emptied.
func (f *File) put(lines []byte) {
	if _, err := f.out.Write(lines); err != nil {
		f.counters.Failed.Inc()
		return
	}
	f.counters.Completed.Inc()
}

func (f *File) open() {
	if f.standard() {
		return
	}
	out, err := open(f.path)
	if err != nil {
		f.counters.ReopenFailed.Inc()
		return
	}
	f.close()
	f.out = out
}

// standard says whether the file is a stream of the process, which is not ours to close.
func (f *File) standard() bool { return f.out == os.Stdout || f.out == os.Stderr }

func (f *File) close() {
	if !f.standard() {
		_ = f.out.Close() // all writes have been checked
	}
}
