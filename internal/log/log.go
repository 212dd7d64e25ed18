// Package log is the application log: zap under Envoy's component names, each with its own level that can change while running, in Envoy's
// line format.
package log

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Set holds the loggers of one process, one per component of Components.
type Set struct {
	// set at construction
	sink *sink
	// guarded by mu
	mu   sync.Mutex
	all  map[string]*component
	dflt zapcore.Level
}

type component struct {
	level  zap.AtomicLevel
	logger *zap.Logger
}

// sink is where lines go and how they look.
type sink struct {
	out     Output
	pattern atomic.Pointer[Pattern]
}

// Output takes whole lines. Write is called by one goroutine at a time per line, by many at once.
type Output interface {
	Write(line []byte) (int, error)
}

// New makes a set that writes to out.
func New(level zapcore.Level, p *Pattern, out Output) *Set {
	s := &Set{sink: &sink{out: out}, all: map[string]*component{}, dflt: level}
	s.sink.pattern.Store(p)
	return s
}

// Discard is a set that logs nothing.
func Discard() *Set { return New(Off, &Pattern{}, discard{}) }

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// SetPattern changes the line format, for the bootstrap's application_log_config.
func (s *Set) SetPattern(p *Pattern) { s.sink.pattern.Store(p) }

// Reopen opens the log file again if there is one.
func (s *Set) Reopen() error {
	if f, ok := s.sink.out.(*File); ok {
		return f.Reopen()
	}
	return nil
}

// Close closes the log file if there is one; nothing may be logged after it.
func (s *Set) Close() {
	if f, ok := s.sink.out.(*File); ok {
		_ = f.Close()
	}
}

// Get returns the logger of a component, such as "upstream". Factories call it once.
func (s *Set) Get(name string) *zap.Logger {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.component(name).logger
}

// component returns a component, which it makes on first use; the caller holds mu.
func (s *Set) component(name string) *component {
	c := s.all[name]
	if c == nil {
		c = &component{level: zap.NewAtomicLevelAt(s.dflt)}
		c.logger = zap.New(&core{LevelEnabler: c.level, sink: s.sink}, zap.AddCaller()).Named(name)
		s.all[name] = c
	}
	return c
}

// SetLevel changes the level of one component.
func (s *Set) SetLevel(name string, l zapcore.Level) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[name] == nil && !slices.Contains(Components(), name) {
		return fmt.Errorf("no logger is named %q", name)
	}
	s.component(name).level.SetLevel(l)
	return nil
}

// SetLevels changes the levels of some components, or of none if there is one that does not exist.
func (s *Set) SetLevels(levels []ComponentLevel) error {
	for _, c := range levels {
		if !slices.Contains(Components(), c.Name) {
			return fmt.Errorf("no logger is named %q", c.Name)
		}
	}
	for _, c := range levels {
		if err := s.SetLevel(c.Name, c.Level); err != nil {
			return err
		}
	}
	return nil
}

// SetAll changes the level of every component.
func (s *Set) SetAll(l zapcore.Level) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dflt = l
	for _, c := range s.all {
		c.level.SetLevel(l)
	}
}

// Each calls f for every component, in the order of Components.
func (s *Set) Each(f func(name string, l zapcore.Level)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range Components() {
		l := s.dflt
		if c := s.all[name]; c != nil {
			l = c.level.Level()
		}
		f(name, l)
	}
}
