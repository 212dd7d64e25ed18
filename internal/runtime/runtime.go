// Package runtime is Envoy's layered runtime: keys with values that operators may change while the process runs.
//
// A Loader reads the layers (bootstrap field layered_runtime) and publishes an immutable Snapshot of them; whoever decides by a key compiles
// the configuration's message to a Fraction, Feature, Uint or Double and asks it with the current snapshot.
package runtime

// Snapshot is an immutable view of all layers; the last layer that has a key wins. A nil Snapshot holds no keys: it answers every question
// with the default.
type Snapshot struct {
	layers []Layer
	final  map[string]entry
}

// Layer is what one layer says: raw values by key, as /runtime shows them.
type Layer struct {
	Name   string
	Values map[string]string
}

// Layers returns the layers in their order. The result must not be changed.
func (s *Snapshot) Layers() []Layer {
	if s == nil {
		return nil
	}
	return s.layers
}

// String returns the raw value of a key, or absent if no layer has it.
func (s *Snapshot) String(key, absent string) string {
	if e, ok := s.entry(key); ok {
		return e.raw
	}
	return absent
}

// Uint returns a key's value, or absent if no layer has it or it is no unsigned integer.
func (s *Snapshot) Uint(key string, absent uint64) uint64 {
	if e, ok := s.entry(key); ok && e.kinds&isUint != 0 {
		return e.uint
	}
	return absent
}

// Double returns a key's value, or absent if no layer has it or it is no number.
func (s *Snapshot) Double(key string, absent float64) float64 {
	if e, ok := s.entry(key); ok && e.kinds&isDouble != 0 {
		return e.double
	}
	return absent
}

// Bool returns a key's value, or absent if no layer has it or it is neither true nor false.
func (s *Snapshot) Bool(key string, absent bool) bool {
	if e, ok := s.entry(key); ok && e.kinds&isBool != 0 {
		return e.bool
	}
	return absent
}

// Fraction says whether the draw falls into the share that the key says: a FractionalPercent, or an integer percentage (above 100 is all).
// If there is no such key, absent decides, out of 100.
func (s *Snapshot) Fraction(key string, absent, draw uint64) bool {
	return Fraction{Key: key, Numerator: absent, Denominator: 100}.Hit(s, draw)
}

func (s *Snapshot) entry(key string) (entry, bool) {
	if s == nil || key == "" {
		return entry{}, false
	}
	e, ok := s.final[key]
	return e, ok
}

func (s *Snapshot) fraction(key string, n, d uint64) (uint64, uint64) {
	e, ok := s.entry(key)
	switch {
	case ok && e.kinds&isFraction != 0:
		return e.numerator, e.denominator
	case ok && e.kinds&isUint != 0:
		return e.uint, 100
	}
	return n, d
}
