package lastgood

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"go.uber.org/zap"
)

// Store is a directory of resources. One process writes to it at a time.
type Store struct {
	// set at construction
	root  string
	limit int64
	stats *Stats
	log   *zap.Logger
	wake  chan struct{}

	mu      sync.Mutex // guards the fields below
	queue   []job
	waiting map[string]int // where in the queue a path stands, of those after the last sweep
	size    int64          // bytes in the queue
	closed  bool

	// owned by Run
	total   int64           // bytes of all files
	touched map[string]bool // files that this process has kept
	full    bool            // and was said to be
}

// job is something to do on disk: to write data to a path, to remove it (nil data), or to leave only some files in it.
type job struct {
	path string
	data []byte
	only map[string]bool
}

// Open makes a store of a directory, which is made if it is not there.
func Open(dir string, stats *Stats, log *zap.Logger) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	probe, err := os.CreateTemp(dir, ".probe")
	if err != nil {
		return nil, fmt.Errorf("cannot be written to: %w", err)
	}
	_ = probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		return nil, err
	}
	return &Store{
		root: dir, limit: Limit, stats: stats, log: log, wake: make(chan struct{}, 1), waiting: map[string]int{}, touched: map[string]bool{},
	}, nil
}

// push queues a job. A newer job for a file takes the place of one that still waits.
func (s *Store) push(j job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if s.size+int64(len(j.data)) > s.limit {
		s.stats.Dropped.Inc()
		return
	}
	s.size += int64(len(j.data))
	at, ok := s.waiting[j.path]
	switch {
	case j.only != nil:
		clear(s.waiting)
		s.queue = append(s.queue, j)
	case ok:
		s.size -= int64(len(s.queue[at].data))
		s.queue[at] = j
	default:
		s.waiting[j.path] = len(s.queue)
		s.queue = append(s.queue, j)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns what is to be done; last says that nothing comes after it.
func (s *Store) take() (q []job, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, s.queue, s.size = s.queue, nil, 0
	clear(s.waiting)
	return q, s.closed
}

// Run writes until Close, and what was put before it.
func (s *Store) Run() {
	s.total = s.measure()
	for {
		q, last := s.take()
		for _, j := range q {
			s.do(j)
		}
		if last {
			return
		}
		<-s.wake
	}
}

// Close ends Run once everything is written. A nil Store has nothing to end.
func (s *Store) Close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Store) do(j job) {
	var err error
	switch {
	case j.only != nil:
		err = s.sweep(j)
	case j.data == nil:
		err = s.remove(j.path)
	default:
		err = s.write(j)
	}
	if err != nil {
		s.stats.Failed.Inc()
		s.log.Warn("cannot keep the last good configuration", zap.String("path", j.path), zap.Error(err))
	}
}

// write leaves a file that is right already as it is.
func (s *Store) write(j job) error {
	s.touched[j.path] = true
	before, err := os.ReadFile(j.path)
	if err == nil && bytes.Equal(before, j.data) {
		return nil
	}
	more := int64(len(j.data) - len(before))
	if !s.room(more) {
		s.stats.Dropped.Inc()
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return err
	}
	draft := j.path + ".new"
	if err := os.WriteFile(draft, j.data, 0o600); err != nil {
		_ = os.Remove(draft)
		return err
	}
	if err := os.Rename(draft, j.path); err != nil {
		return err
	}
	s.total += more
	s.stats.Written.Inc()
	return nil
}

// room says whether more bytes fit, after everything was removed that only processes before this one have kept.
func (s *Store) room(more int64) bool {
	if s.total+more <= s.limit {
		return true
	}
	s.walk(func(path string, _ int64) {
		if !s.touched[path] {
			_ = s.remove(path)
		}
	})
	s.total = s.measure()
	ok := s.total+more <= s.limit
	if !ok && !s.full {
		s.log.Warn("there is no room to keep more of the last good configuration", zap.Int64("limit", s.limit))
	}
	s.full = !ok
	return ok
}

func (s *Store) remove(path string) error {
	delete(s.touched, path)
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	s.total -= info.Size()
	return os.Remove(path)
}

// sweep leaves only some of a directory's files, and makes the directory.
func (s *Store) sweep(j job) error {
	if err := os.MkdirAll(j.path, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(j.path)
	if err != nil {
		return err
	}
	for _, f := range files {
		if j.only[f.Name()] {
			continue
		}
		if err := s.remove(filepath.Join(j.path, f.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) measure() (total int64) {
	s.walk(func(_ string, size int64) { total += size })
	return total
}

// walk calls f for every file; what cannot be read does not count.
func (s *Store) walk(f func(path string, size int64)) {
	_ = filepath.WalkDir(s.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // the rest is still of interest
		}
		if info, err := d.Info(); err == nil {
			f(path, info.Size())
		}
		return nil
	})
}
