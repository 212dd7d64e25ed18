// Package logfile writes log files from one goroutine, so that no worker ever waits for a disk.
package logfile

import (
	"time"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// Options say when buffered lines are written. Zero values mean Envoy's defaults.
type Options struct {
	// FlushInterval is the longest that a line stays in memory (--file-flush-interval-msec, 10 s).
	FlushInterval time.Duration
	// MinFlush is how many bytes wake the writer before the interval is over (--file-flush-min-size-kb, 64 KB).
	MinFlush int
	// Workers is the number of workers; their ids are 0..Workers-1.
	Workers int
}

// Set is the log files of a process, by path.
type Set struct{}

// New makes an empty set and starts its writer, which ends with Close. scope is the root scope: the statistics are filesystem.*.
func New(o Options, scope stats.Scope) *Set { return &Set{} }

// Open returns the file at path, which is made or appended to; the same path gives the same File. "/dev/stdout" and "/dev/stderr" are
// the streams of the process.
func (s *Set) Open(path string) (*File, error) { return &File{}, nil }

// Reopen closes all files and opens their paths again, for log rotation (SIGUSR1, /reopen_logs).
func (s *Set) Reopen() {}

// Flush writes what is buffered and returns when it is written.
func (s *Set) Flush() {}

// Close flushes, closes all files and ends the writer.
func (s *Set) Close() {}

// File takes lines from all workers.
type File struct{}

// Write appends a line, newline included, to the buffer of a worker. It never waits for the disk; a line that finds the buffer full
// because the disk is full or slow is lost and counted (filesystem.write_failed).
func (f *File) Write(worker int, line []byte) {}
