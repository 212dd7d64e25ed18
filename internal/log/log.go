// Package log is the application log: zap under Envoy's component names, each with its own level that can change while running.
package log

import (
	"fmt"
	"sort"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Set holds the loggers of one process, one per component.
type Set struct {
	core func(zapcore.LevelEnabler) zapcore.Core
	mu   sync.Mutex // guards the rest
	all  map[string]*component
	dflt zapcore.Level
}

type component struct {
	level  zap.AtomicLevel
	logger *zap.Logger
}

// NewSet makes a set whose loggers write to the cores that core makes.
func NewSet(level zapcore.Level, core func(zapcore.LevelEnabler) zapcore.Core) *Set {
	return &Set{core: core, all: map[string]*component{}, dflt: level}
}

// Discard is a set that logs nothing.
func Discard() *Set {
	return NewSet(zapcore.FatalLevel, func(zapcore.LevelEnabler) zapcore.Core { return zapcore.NewNopCore() })
}

// Get returns the logger of a component, such as "upstream". Factories call it once.
func (s *Set) Get(name string) *zap.Logger { return s.component(name).logger }

func (s *Set) component(name string) *component {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.all[name]
	if c == nil {
		c = &component{level: zap.NewAtomicLevelAt(s.dflt)}
		c.logger = zap.New(s.core(c.level)).Named(name)
		s.all[name] = c
	}
	return c
}

// SetLevel changes the level of one component.
func (s *Set) SetLevel(name string, l zapcore.Level) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.all[name]
	if c == nil {
		return fmt.Errorf("no logger is named %q", name)
	}
	c.level.SetLevel(l)
	return nil
}

// SetAll changes the level of every component, and of those to come.
func (s *Set) SetAll(l zapcore.Level) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dflt = l
	for _, c := range s.all {
		c.level.SetLevel(l)
	}
}

// Each calls f for every component, sorted by name.
func (s *Set) Each(f func(name string, l zapcore.Level)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.all))
	for n := range s.all {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		f(n, s.all[n].level.Level())
	}
}
