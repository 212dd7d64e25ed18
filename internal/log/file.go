package log

import (
	"fmt"
	"os"
	"sync"
)

// File is a log file that can be reopened after it was rotated away (--log-path).
type File struct {
	// set at construction
	path string
	// guarded by mu
	mu sync.Mutex
	f  *os.File
}

// OpenFile opens a file to append to.
func OpenFile(path string) (*File, error) {
	f := &File{path: path}
	return f, f.Reopen()
}

// Write appends one line.
func (f *File) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.f.Write(line)
}

// Reopen opens the path again; if that fails, lines go on to the file that was open.
func (f *File) Reopen() error {
	next, err := os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("failed to open log-file '%s': %w", f.path, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f != nil {
		_ = f.f.Close()
	}
	f.f = next
	return nil
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.f.Close()
}
