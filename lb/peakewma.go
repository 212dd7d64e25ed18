package lb

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// PeakEWMA prefers hosts that answer fast and have little to do, as Finagle and Linkerd do: of two hosts that it draws it takes the one
// for which latency times requests in flight is less. The latency is an average that forgets exponentially, but jumps to a peak at once;
// of a host that nobody hears of it decays, so that the host is tried again.
type PeakEWMA struct {
	Decay   time.Duration // an observation weighs 1/e after so long
	Default time.Duration // the latency of a host of which nothing is known
}

type peakEWMA struct {
	hosts   []burden
	n       divisor
	perTick float64 // 1 / Decay in ticks
}

// burden is what of a host decides: two lie in a cache line with two others.
type burden struct {
	active  *atomic.Int64
	latency *atomic.Uint64
}

// estimate is the content of Load.latency: the upper half is a latency in nanoseconds as a float32, the lower one the time of the last
// observation in ticks, which wrap around.
type estimate uint64

const tick = time.Millisecond

func newEstimate(latency float64, at uint32) estimate {
	return estimate(math.Float32bits(float32(latency)))<<32 | estimate(at)
}

func (e estimate) latency() float64 { return float64(math.Float32frombits(uint32(e >> 32))) }

func ticks(now time.Duration) uint32 { return uint32(now / tick) }

// age is how many ticks have passed since the last observation.
func (e estimate) age(now uint32) float64 { return float64(max(int32(now-uint32(e)), 0)) }

// Build keeps the list.
func (p PeakEWMA) Build(hosts []Host, s Start) Picker {
	if len(hosts) == 0 {
		return none{}
	}
	l := make([]burden, len(hosts))
	for i := range hosts {
		l[i] = burden{hosts[i].Active, &hosts[i].Load.latency}
		l[i].latency.CompareAndSwap(0, uint64(newEstimate(float64(p.Default), ticks(s.Now)))) // it ages from now on
	}
	return &peakEWMA{l, newDivisor(uint64(len(hosts))), float64(tick) / float64(p.Decay)}
}

// Learn takes a response in that took so long.
func (p PeakEWMA) Learn(l *Load, latency, now time.Duration) {
	took, at := float64(max(latency, 1)), ticks(now)
	for {
		old := l.latency.Load()
		next := took
		if e := estimate(old); old != 0 && took < e.latency() {
			w := math.Exp(-e.age(at) * float64(tick) / float64(p.Decay))
			next = e.latency()*w + took*(1-w)
		}
		if l.latency.CompareAndSwap(old, uint64(newEstimate(next, at))) {
			return
		}
	}
}

// Pick compares two hosts.
func (p *peakEWMA) Pick(r Request) int {
	if len(p.hosts) == 1 {
		return 0
	}
	now := ticks(r.Now)
	a := int(p.n.mod(r.Random))
	b := int(p.n.mod(bits.RotateLeft64(r.Random, 32)))
	if a == b {
		if b++; b == len(p.hosts) {
			b = 0
		}
	}
	if p.cost(b, now) < p.cost(a, now) {
		return b
	}
	return a
}

// fading holds e^-x in steps of 1/fadingSteps, up to fadingMost: close enough, and quicker than to compute it.
var fading = func() (t [fadingMost*fadingSteps + 2]float64) {
	for i := range t {
		t[i] = math.Exp(-float64(i) / fadingSteps)
	}
	return t
}()

const (
	fadingMost  = 16
	fadingSteps = 64
)

func fade(x float64) float64 {
	if x > fadingMost {
		x = fadingMost
	}
	at := x * fadingSteps
	i := int(at)
	return fading[i] + (fading[i+1]-fading[i])*(at-float64(i))
}

// cost is the time that a further request is likely to wait.
func (p *peakEWMA) cost(i int, now uint32) float64 {
	h := &p.hosts[i]
	e := estimate(h.latency.Load())
	return e.latency() * fade(e.age(now)*p.perTick) * float64(h.active.Load()+1)
}
