// Package logfile writes log files from one goroutine per file, so that no worker ever waits for a disk.
package logfile

// Set is the log files of a process, by path.
type Set struct{}

// File takes lines from all workers.
type File struct{}

// Open returns the file at path; the same path gives the same File.
func (s *Set) Open(path string) (*File, error) { return nil, nil }
