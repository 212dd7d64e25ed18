// Package runtime is Envoy's layered runtime: keys with values that operators may change while the process runs.
package runtime

import "github.com/outrigger-proxy/outrigger/internal/snapshot"

// Snapshot is an immutable view of all layers; the last layer that has a key wins.
type Snapshot struct{ values map[string]any }

// Loader publishes snapshots.
type Loader struct{ current snapshot.Value[Snapshot] }

// Load returns the current snapshot; nil before the first one, which answers every question with its default.
func (l *Loader) Load() *Snapshot {
	if l == nil {
		return nil
	}
	return l.current.Load()
}

// Fraction is a share of requests whose default stands in the configuration and whose value a runtime key may override
// (envoy.config.core.v3.RuntimeFractionalPercent). The zero Fraction is none.
type Fraction struct {
	Key         string
	Numerator   uint64
	Denominator uint64 // 100, 10,000 or 1,000,000
}

// Hit says whether the draw falls into the share; draw is any uniformly distributed number.
func (f Fraction) Hit(s *Snapshot, draw uint64) bool {
	n, d := f.Numerator, f.Denominator
	if d == 0 {
		return false
	}
	if s != nil && f.Key != "" {
		n, d = s.fraction(f.Key, n, d)
	}
	return draw%d < n
}

func (s *Snapshot) fraction(key string, n, d uint64) (uint64, uint64) {
	if v, ok := s.values[key].(float64); ok {
		return uint64(v), 100
	}
	return n, d
}
