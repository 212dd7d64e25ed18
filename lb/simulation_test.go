package lb

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestTurnsOfWorkers lets many workers take turns at once: over 7 hosts the counts differ by at most 1, however many workers there are and
// however unevenly they are used.
func TestTurnsOfWorkers(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 8, 16} {
		turn := NewTurn(rand.Uint64())
		var mu sync.Mutex
		var all [7]int
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() { // ends with its picks
				p := RoundRobin{}.Build(list(same(7)...), Start{Seed: rand.Uint64(), Turn: turn})
				var own [7]int
				for range 1000 + 37*w {
					own[p.Pick(Request{})]++
				}
				mu.Lock()
				defer mu.Unlock()
				for i := range all {
					all[i] += own[i]
				}
			})
		}
		wg.Wait()
		if slices.Max(all[:])-slices.Min(all[:]) > 1 {
			t.Errorf("%d workers: %v", workers, all)
		}
	}
}

// TestSlowStartRamp simulates a host that comes to four others and holds its share to the formula that Envoy documents:
// weight * max(min_weight_percent, time_factor ^ (1 / aggression)).
func TestSlowStartRamp(t *testing.T) {
	const window = 100 * time.Second
	for _, aggression := range []float64{1, 2, .5} {
		s := SlowStart{Window: window, Aggression: aggression, Least: .1}
		for name, policy := range map[string]Policy{"round robin": RoundRobin{SlowStart: s}, "least request": LeastRequest{Choices: 2, Bias: 1, SlowStart: s}} {
			hosts := list(same(5)...)
			hosts[4].Since = 0
			p := policy.Build(hosts, Start{Seed: 3})
			for _, at := range []time.Duration{time.Second, 25 * time.Second, 50 * time.Second, 75 * time.Second, 120 * time.Second} {
				n := 0
				for range 4000 {
					if p.Pick(Request{Now: at}) == 4 {
						n++
					}
				}
				w := max(.1, min(1, math.Pow(min(1, at.Seconds()/window.Seconds()), 1/aggression)))
				want := 4000 * w / (4 + w)
				if math.Abs(float64(n)-want) > .06*want+4 {
					t.Errorf("%s, aggression %v, after %v: %d of 4000, want %.0f", name, aggression, at, n, want)
				}
			}
		}
	}
}

// TestSlowStartEnds shows that hosts beyond their window take exact turns again.
func TestSlowStartEnds(t *testing.T) {
	p := RoundRobin{SlowStart: SlowStart{Window: time.Second, Aggression: 1}}
	hosts := list(1, 1, 1)
	hosts[1].Since = 0
	if _, turns := p.Build(hosts, Start{Now: 2 * time.Second}).(roundRobin); !turns {
		t.Error("a schedule where nobody starts slowly")
	}
	if _, turns := p.Build(hosts, Start{Now: time.Second / 2}).(roundRobin); turns {
		t.Error("no schedule where somebody does")
	}
}

// TestLeastRequestSpreads simulates requests that stay for a while, on hosts of which one is slow: it never has many more than the others.
func TestLeastRequestSpreads(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for name, weights := range map[string][]uint32{"equal": same(10), "weighted": {1, 1, 1, 1, 1, 2, 2, 2, 2, 2}} {
		hosts := list(weights...)
		p := LeastRequest{Choices: 2, Bias: 1}.Build(hosts, Start{})
		served := make([]int, len(hosts))
		most := int64(0)
		for range 20000 {
			i := p.Pick(Request{Random: r.Uint64()})
			served[i]++
			most = max(most, hosts[i].Active.Add(1))
			for j := range hosts { // one in two requests ends, on the slow host one in ten
				if k := hosts[j].Active.Load(); k > 0 && r.IntN(10) < 5-4*flag(j == 3) {
					hosts[j].Active.Add(-1)
				}
			}
		}
		if served[3] > served[4]*3/4 && name == "equal" || most > 60 {
			t.Errorf("%s: %v, at most %d at once", name, served, most)
		}
	}
}

func TestPickFirst(t *testing.T) {
	hosts := list(same(5)...)
	p := PickFirst{}.Build(hosts, Start{})
	if a, b := p.Pick(Request{Random: 8}), p.Pick(Request{Attempt: 6}); a != 0 || b != 1 {
		t.Errorf("%d, turned down %d", a, b)
	}
	seen := map[int]bool{}
	for seed := range uint64(100) {
		turn := NewTurn(Next(seed))
		a, b := PickFirst{Shuffle: true}.Build(hosts, Start{Turn: turn}), PickFirst{Shuffle: true}.Build(hosts, Start{Turn: turn, Seed: 5})
		if a.Pick(Request{Random: 3}) != b.Pick(Request{}) {
			t.Error("workers differ")
		}
		seen[a.Pick(Request{})] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d of 5 are ever the first", len(seen))
	}
	if (PickFirst{}).Build(nil, Start{}).Pick(Request{}) != -1 {
		t.Error("somebody")
	}
}

func TestDivisor(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100000 {
		by := r.Uint64()>>r.IntN(64) + 1
		n := r.Uint64() >> r.IntN(64)
		if by == 0 {
			continue
		}
		if got := newDivisor(by).mod(n); got != n%by {
			t.Fatalf("%d mod %d: %d", n, by, got)
		}
	}
	for _, n := range []uint64{0, 1, math.MaxUint64, math.MaxUint64 - 1} {
		for _, by := range []uint64{1, 2, 3, 65537, math.MaxUint64} {
			if got := newDivisor(by).mod(n); got != n%by {
				t.Errorf("%d mod %d: %d", n, by, got)
			}
		}
	}
}

func TestFallbacks(t *testing.T) {
	base := Criteria(map[string]any{"a": "1", FallbackList: []any{map[string]any{"b": "2"}, map[string]any{"a": "3"}, "nonsense"}})
	got := Fallbacks(base)
	want := [][]Criterion{Criteria(map[string]any{"a": "1", "b": "2"}), Criteria(map[string]any{"a": "3"}), Criteria(map[string]any{"a": "1"})}
	if !slices.EqualFunc(got, want, func(a, b []Criterion) bool { return slices.Equal(a, b) }) {
		t.Errorf("%v, want %v", got, want)
	}
	if Fallbacks(want[0]) != nil || len(Fallbacks(Criteria(map[string]any{FallbackList: []any{}, "a": "1"}))) != 1 {
		t.Error("no list, and an empty one")
	}
}
