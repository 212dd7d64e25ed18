package lb

import (
	"math"
	"sync/atomic"
	"testing"
	"time"
)

func list(weights ...uint32) []Host {
	l := make([]Host, len(weights))
	for i, w := range weights {
		l[i] = Host{Weight: w, Active: new(atomic.Int64), Since: Never, Load: &Load{}}
	}
	return l
}

func picks(p Picker, n int) []int {
	var got []int
	for i := range n {
		got = append(got, p.Pick(Request{Random: Next(uint64(i))}))
	}
	return got
}

func counts(p Picker, hosts, n int) []int {
	c := make([]int, hosts)
	for _, i := range picks(p, n) {
		c[i]++
	}
	return c
}

func TestSequence(t *testing.T) {
	for _, c := range []struct {
		name    string
		policy  Policy
		weights []uint32
		seed    uint64
		want    []int
	}{
		{"round robin takes turns", RoundRobin{}, []uint32{1, 1, 1}, 0, []int{0, 1, 2, 0, 1}},
		{"round robin begins at the seed", RoundRobin{}, []uint32{1, 1, 1}, 4, []int{1, 2, 0}},
		{"equal weights are no weights", RoundRobin{}, []uint32{7, 7}, 0, []int{0, 1, 0}},
		// deadlines 1, 1/2, 1/3: as EdfScheduler orders them, ties to the one added first (3 * 1/3 falls short of 1)
		{"weights", RoundRobin{}, []uint32{1, 2, 3}, 0, []int{2, 1, 2, 0, 1, 2, 2, 1, 2, 2, 0, 1}},
		{"weights from a seed", RoundRobin{}, []uint32{1, 2, 3}, 2, []int{2, 0, 1, 2, 2}},
		{"nobody", RoundRobin{}, nil, 3, []int{-1}},
		{"nobody at random", Random{}, nil, 3, []int{-1}},
		{"nobody with least requests", LeastRequest{}, nil, 3, []int{-1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := picks(c.policy.Build(list(c.weights...), Start{Seed: c.seed}), len(c.want))
			for i := range got {
				if got[i] != c.want[i] {
					t.Fatalf("picked %v, want %v", got, c.want)
				}
			}
		})
	}
}

func TestRoundRobinGoesOn(t *testing.T) {
	turn := NewTurn(1)
	picks(RoundRobin{}.Build(list(1, 1, 1), Start{Turn: turn}), 2)
	if got := (RoundRobin{}).Build(list(1, 1, 1, 1), Start{Turn: turn, Seed: 9}).Pick(Request{}); got != 3 {
		t.Errorf("after an update: %d, want 3", got)
	}
}

func TestDistribution(t *testing.T) {
	for _, c := range []struct {
		name    string
		policy  Policy
		weights []uint32
		share   []float64
	}{
		{"weighted round robin", RoundRobin{}, []uint32{1, 3, 6}, []float64{.1, .3, .6}},
		{"random ignores weights", Random{}, []uint32{1, 3}, []float64{.5, .5}},
		{"idle least request is even", LeastRequest{Choices: 2, Bias: 1}, []uint32{1, 1, 1, 1}, []float64{.25, .25, .25, .25}},
		{"idle full scan is even", LeastRequest{FullScan: true}, []uint32{1, 1, 1}, []float64{1. / 3, 1. / 3, 1. / 3}},
		{"weighted least request", LeastRequest{Choices: 2, Bias: 1}, []uint32{1, 4}, []float64{.2, .8}},
	} {
		t.Run(c.name, func(t *testing.T) {
			const n = 60000
			for i, got := range counts(c.policy.Build(list(c.weights...), Start{Seed: 0}), len(c.weights), n) {
				if share := float64(got) / n; math.Abs(share-c.share[i]) > .01 {
					t.Errorf("host %d: %.3f, want %.3f", i, share, c.share[i])
				}
			}
		})
	}
}

func TestLeastRequestAvoidsBusyHosts(t *testing.T) {
	hosts := list(1, 1)
	hosts[0].Active.Store(5)
	if got := counts(LeastRequest{Choices: 2, Bias: 1}.Build(hosts, Start{Seed: 0}), 2, 10000); got[0] < 2300 || got[0] > 2700 {
		t.Errorf("of two draws both must hit the busy host: %v", got)
	}
	if got := counts(LeastRequest{FullScan: true}.Build(hosts, Start{Seed: 0}), 2, 100); got[0] != 0 {
		t.Errorf("a full scan finds the idle one: %v", got)
	}
}

func TestLeastRequestBias(t *testing.T) {
	for _, c := range []struct {
		bias  float64
		ratio float64
	}{{0, 2}, {1, 8}, {2, 32}} {
		hosts := list(2, 1)
		hosts[1].Active.Store(3)
		got := counts(LeastRequest{Bias: c.bias}.Build(hosts, Start{Seed: 0}), 2, 33000)
		if r := float64(got[0]) / float64(got[1]); math.Abs(r-c.ratio) > c.ratio/20 {
			t.Errorf("bias %v: ratio %.2f, want %v", c.bias, r, c.ratio)
		}
	}
}

func TestSlowStart(t *testing.T) {
	s := SlowStart{Window: 10 * time.Second, Aggression: 1, Least: .1}
	fast := s
	fast.Aggression = 2
	for _, c := range []struct {
		s    SlowStart
		age  time.Duration
		want float64
	}{{s, 0, .1}, {s, 5 * time.Second, .5}, {s, 10 * time.Second, 1}, {fast, 2500 * time.Millisecond, .5}, {SlowStart{}, 0, 1}} {
		if got := c.s.factor(&Host{Since: time.Second}, time.Second+c.age); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%+v after %v: %v, want %v", c.s, c.age, got, c.want)
		}
	}
	hosts := list(1, 1)
	hosts[1].Since = 100 * time.Second
	p := RoundRobin{SlowStart: s}.Build(hosts, Start{Seed: 0})
	n := [2]int{}
	for range 1100 {
		n[p.Pick(Request{Now: 101 * time.Second})]++
	}
	if n[1] < 80 || n[1] > 120 {
		t.Errorf("a host of one second gets a tenth: %v", n)
	}
}
