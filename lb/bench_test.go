package lb

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

const many = 1000

// crowd are many hosts, of different weights if mixed.
func crowd(mixed bool) []Host {
	w := make([]uint32, many)
	for i := range w {
		if w[i] = 1; mixed {
			w[i] = uint32(i%17 + 1)
		}
	}
	l := list(w...)
	for i := range l {
		l[i].Active.Store(int64(i % 5))
	}
	return l
}

func shares(weights ...uint32) []Share {
	sum := 0.
	for _, w := range weights {
		sum += float64(w)
	}
	l := make([]Share, len(weights))
	for i, w := range weights {
		l[i] = Share{fmt.Sprintf("10.0.%d.%d:8080", i/256, i%256), float64(w) / sum, new(atomic.Int64)}
	}
	return l
}

func same(n int) []uint32 {
	w := make([]uint32, n)
	for i := range w {
		w[i] = 1
	}
	return w
}

type total struct{ n int64 }

func (t *total) Value() int64 { return t.n }

// pickers are those of all policies over many hosts, with the nanoseconds that the project allows them.
func pickers() []struct {
	name string
	p    Picker
	most time.Duration
} {
	slow := SlowStart{Window: time.Hour, Aggression: 1, Least: .1}
	ramp := crowd(false)
	ramp[7].Since = 0
	return []struct {
		name string
		p    Picker
		most time.Duration
	}{
		{"round robin", RoundRobin{}.Build(crowd(false), Start{}), 40},
		{"weighted round robin", RoundRobin{}.Build(crowd(true), Start{}), 40},
		{"slow start", RoundRobin{SlowStart: slow}.Build(ramp, Start{}), 40},
		{"random", Random{}.Build(crowd(true), Start{}), 40},
		{"pick first", PickFirst{}.Build(crowd(true), Start{}), 40},
		{"least request", LeastRequest{Choices: 2, Bias: 1}.Build(crowd(false), Start{}), 40},
		{"weighted least request", LeastRequest{Choices: 2, Bias: 1}.Build(crowd(true), Start{}), 40},
		{"peak ewma", PeakEWMA{Decay: 10 * time.Second, Default: 30 * time.Millisecond}.Build(crowd(false), Start{}), 40},
		{"ring hash", Ring{Least: 1024, Most: 8 << 20}.Table(shares(same(many)...)).Picker(), 60},
		{"maglev", Maglev{Size: 65537}.Table(shares(same(many)...)).Picker(), 60},
		{"bounded maglev", Bounded{Hashing: Maglev{Size: 65537}, Factor: 150, Total: &total{}}.Table(shares(same(many)...)).Picker(), 60},
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	for _, c := range pickers() {
		r := Request{Random: 7, Now: time.Minute}
		if n := testing.AllocsPerRun(5000, func() {
			r.Random = Next(r.Random)
			r.Hash = r.Random
			c.p.Pick(r)
		}); n != 0 {
			t.Errorf("%s allocates %v", c.name, n)
		}
	}
}

// BenchmarkPick shows beside each figure what the project allows a pick with a thousand hosts.
func BenchmarkPick(b *testing.B) {
	for _, c := range pickers() {
		b.Run(c.name, func(b *testing.B) {
			r := Request{Random: rand.Uint64(), Now: time.Minute}
			b.ReportAllocs()
			for b.Loop() {
				r.Random = Next(r.Random)
				r.Hash = r.Random
				c.p.Pick(r)
			}
			b.ReportMetric(float64(c.most), "allowed-ns/op")
		})
	}
}

// BenchmarkTurns is round robin on all processors at once: all take turns together.
func BenchmarkTurns(b *testing.B) {
	turn := NewTurn(0)
	b.RunParallel(func(pb *testing.PB) {
		p := RoundRobin{}.Build(list(same(7)...), Start{Turn: turn})
		for pb.Next() {
			p.Pick(Request{})
		}
	})
}

func BenchmarkTable(b *testing.B) {
	for name, h := range map[string]Hashing{"maglev": Maglev{Size: 65537}, "ring hash": Ring{Least: 1024, Most: 8 << 20}} {
		b.Run(name, func(b *testing.B) {
			l := shares(same(many)...)
			b.ReportAllocs()
			for b.Loop() {
				h.Table(l)
			}
		})
	}
}
