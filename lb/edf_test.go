package lb

import (
	"math"
	"math/rand/v2"
	"testing"
)

// plain is an EDF that looks at all entries, as the calendar is compared with.
type plain struct {
	deadlines []float64
	order     []uint64
	next      uint64
}

func newPlain(weights []float64) *plain {
	p := &plain{}
	for _, w := range weights {
		p.deadlines, p.order = append(p.deadlines, 1/w), append(p.order, p.next)
		p.next++
	}
	return p
}

func (p *plain) peek() int {
	best := 0
	for i, d := range p.deadlines {
		if d < p.deadlines[best] || d == p.deadlines[best] && p.order[i] < p.order[best] {
			best = i
		}
	}
	return best
}

func (p *plain) advance(i int, weight float64) {
	p.deadlines[i] += 1 / weight
	p.order[i] = p.next
	p.next++
}

// TestCalendar holds the calendar queue to the plain schedule: with weights that differ little or wildly, that stay or change.
func TestCalendar(t *testing.T) {
	for name, weight := range map[string]func(r *rand.Rand, i, pick int) float64{
		"equal":       func(*rand.Rand, int, int) float64 { return 1 },
		"small":       func(_ *rand.Rand, i, _ int) float64 { return float64(i%7 + 1) },
		"wild":        func(_ *rand.Rand, i, _ int) float64 { return math.Pow(10, float64(i%13)-3) },
		"one heavy":   func(_ *rand.Rand, i, _ int) float64 { return 1 + float64(flag(i == 3))*1e6 },
		"one light":   func(_ *rand.Rand, i, _ int) float64 { return 1e6 - float64(flag(i == 3))*(1e6-1) },
		"changing":    func(r *rand.Rand, i, _ int) float64 { return float64(i%5+1) / float64(r.IntN(20)+1) },
		"ever lower":  func(_ *rand.Rand, i, pick int) float64 { return float64(i%3+1) / float64(pick/50+1) },
		"ever higher": func(_ *rand.Rand, i, pick int) float64 { return float64(i%3+1) * float64(pick/50+1) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1, 2, 3, 31, 32, 64, 200} {
				r := rand.New(rand.NewPCG(1, uint64(n)))
				var e EDF
				var weights []float64
				for i := range n {
					w := weight(r, i, 0)
					weights = append(weights, w)
					e.Add(i, w)
				}
				p := newPlain(weights)
				for pick := range 40 * n {
					want := p.peek()
					if got := e.Peek(); got != want {
						t.Fatalf("%d entries, pick %d: %d, want %d", n, pick, got, want)
					}
					w := weight(r, want, pick)
					p.advance(want, w)
					e.Advance(w)
				}
			}
		})
	}
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestScheduleIsExact counts a whole number of rounds: each entry has exactly its weight.
func TestScheduleIsExact(t *testing.T) {
	weights := []uint32{1, 2, 5, 9, 3}
	for seed := range uint64(5) {
		got := counts(RoundRobin{}.Build(list(weights...), Start{Seed: seed}), len(weights), 20*50)
		for i, w := range weights {
			if d := got[i] - int(w)*50; d < -1 || d > 1 {
				t.Errorf("seed %d: %v", seed, got)
			}
		}
	}
}
