// Package logfile writes log files. Workers append lines to buffers in memory; one goroutine per file writes them, so that no worker
// ever waits for a disk, and a file that blocks, as a full pipe does, holds up no other.
package logfile

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// Options say when buffered lines are written. Zero values mean Envoy's defaults.
type Options struct {
	// FlushInterval is the longest that a line stays in memory (--file-flush-interval-msec, 10 s).
	FlushInterval time.Duration
	// MinFlush is how many bytes wake the writer before the interval is over (--file-flush-min-size-kb, 64 KiB).
	MinFlush int
	// MaxBuffered is how many bytes of lines a worker may have waiting in one file, beyond which they are lost. Default: 16 MiB.
	MaxBuffered int
	// Workers is the number of workers; their ids are 0..Workers-1.
	Workers int
}

func (o Options) withDefaults() Options {
	if o.FlushInterval <= 0 {
		o.FlushInterval = 10 * time.Second
	}
	if o.MinFlush <= 0 {
		o.MinFlush = 64 << 10
	}
	if o.MaxBuffered <= 0 {
		o.MaxBuffered = 16 << 20
	}
	return o
}

// counters are Envoy's statistics of its access log manager.
type counters struct {
	Buffered       stats.Counter `stat:"write_buffered"`
	Completed      stats.Counter `stat:"write_completed"`
	Failed         stats.Counter `stat:"write_failed"` // failed writes, and lines lost because the buffer was full
	FlushedByTimer stats.Counter `stat:"flushed_by_timer"`
	ReopenFailed   stats.Counter `stat:"reopen_failed"`
	TotalBuffered  stats.Gauge   `stat:"write_total_buffered"`
}

// Set is the log files of a process, by path. A file that was once opened stays open until Close.
type Set struct {
	// set at construction
	options  Options
	counters *counters

	mu    sync.Mutex // guards the rest
	files map[string]*File
	ended bool
}

// New makes an empty set. scope is the root scope: the statistics are filesystem.*.
func New(o Options, scope stats.Scope) *Set {
	return &Set{options: o.withDefaults(), counters: stats.New[counters](scope.Sub("filesystem")), files: map[string]*File{}}
}

// Open returns the file at path, which is made or appended to; the same path gives the same File. "/dev/stdout" and "/dev/stderr" are
// the streams of the process.
func (s *Set) Open(path string) (*File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.files[path]; ok {
		return f, nil
	}
	if s.ended {
		return nil, errors.New("the log files are closed")
	}
	out, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("unable to open file '%s': %w", path, err)
	}
	f := newFile(path, out, s)
	s.files[path] = f
	return f, nil
}

func open(path string) (*os.File, error) {
	switch path {
	case "/dev/stdout":
		return os.Stdout, nil
	case "/dev/stderr":
		return os.Stderr, nil
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}

// Reopen closes all files and opens their paths again, for log rotation (SIGUSR1, /reopen_logs). What was written before goes to the
// old files. A path that cannot be opened keeps its old file, and is counted.
func (s *Set) Reopen() { s.each(func(f *File) { tell(f.reopen) }) }

// Flush writes what is buffered and returns when it is written.
func (s *Set) Flush() {
	s.each(func(f *File) {
		done := make(chan struct{})
		f.flush <- done
		<-done
	})
}

// each calls f for every file; after Close there are none.
func (s *Set) each(f func(*File)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, file := range s.files {
		f(file)
	}
}

// Close flushes, closes all files and ends their writers. Lines that come later are lost.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		close(f.stop)
		<-f.stopped
	}
	s.files, s.ended = nil, true
}
