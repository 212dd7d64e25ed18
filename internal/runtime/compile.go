package runtime

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// Fraction is a share of requests whose default stands in the configuration and whose value a runtime key may override
// (envoy.config.core.v3.RuntimeFractionalPercent). The zero Fraction is none.
type Fraction struct {
	Key         string
	Numerator   uint64
	Denominator uint64 // 100, 10,000 or 1,000,000
}

// Hit says whether the draw falls into the share; draw is any uniformly distributed number. A nil snapshot holds no keys.
func (f Fraction) Hit(s *Snapshot, draw uint64) bool {
	n, d := f.Numerator, f.Denominator
	if f.Key != "" {
		n, d = s.fraction(f.Key, n, d)
	}
	return d != 0 && draw%d < n
}

// CompileFraction compiles the share of p; absent is the share that a missing p means, in percent (100: all).
func CompileFraction(p *corev3.RuntimeFractionalPercent, absent uint64) Fraction {
	if p == nil {
		return Fraction{Numerator: absent, Denominator: 100}
	}
	f := CompileFractionalPercent(p.GetDefaultValue())
	f.Key = p.GetRuntimeKey()
	return f
}

// CompileFractionalPercent compiles a share that no key overrides. A missing p is none.
func CompileFractionalPercent(p *typev3.FractionalPercent) Fraction {
	return Fraction{Numerator: uint64(p.GetNumerator()), Denominator: denominator(p.GetDenominator())}
}

func denominator(d typev3.FractionalPercent_DenominatorType) uint64 {
	switch d {
	case typev3.FractionalPercent_TEN_THOUSAND:
		return 10_000
	case typev3.FractionalPercent_MILLION:
		return 1_000_000
	default:
		return 100
	}
}

// Feature is a switch whose default stands in the configuration (envoy.config.core.v3.RuntimeFeatureFlag).
type Feature struct {
	Key     string
	Default bool
}

// Enabled reads the switch.
func (f Feature) Enabled(s *Snapshot) bool { return s.Bool(f.Key, f.Default) }

// CompileFeature compiles a switch; absent is what a missing p means.
func CompileFeature(p *corev3.RuntimeFeatureFlag, absent bool) Feature {
	if p == nil {
		return Feature{Default: absent}
	}
	return Feature{Key: p.GetRuntimeKey(), Default: p.GetDefaultValue().GetValue()}
}

// Uint is a number whose default stands in the configuration (envoy.config.core.v3.RuntimeUInt32).
type Uint struct {
	Key     string
	Default uint64
}

// Value reads the number.
func (u Uint) Value(s *Snapshot) uint64 { return s.Uint(u.Key, u.Default) }

// CompileUint compiles a number; absent is what a missing p means.
func CompileUint(p *corev3.RuntimeUInt32, absent uint64) Uint {
	if p == nil {
		return Uint{Default: absent}
	}
	return Uint{Key: p.GetRuntimeKey(), Default: uint64(p.GetDefaultValue())}
}

// Double is a number whose default stands in the configuration (envoy.config.core.v3.RuntimeDouble, RuntimePercent).
type Double struct {
	Key     string
	Default float64
}

// Value reads the number.
func (d Double) Value(s *Snapshot) float64 { return s.Double(d.Key, d.Default) }

// CompileDouble compiles a number; absent is what a missing p means.
func CompileDouble(p *corev3.RuntimeDouble, absent float64) Double {
	if p == nil {
		return Double{Default: absent}
	}
	return Double{Key: p.GetRuntimeKey(), Default: p.GetDefaultValue()}
}

// CompilePercent compiles a percentage, 0 to 100; absent is what a missing p means.
func CompilePercent(p *corev3.RuntimePercent, absent float64) Double {
	if p == nil {
		return Double{Default: absent}
	}
	return Double{Key: p.GetRuntimeKey(), Default: p.GetDefaultValue().GetValue()}
}
