package http2

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"
)

const (
	// share is how much of its throughput a client that behaves well must keep under attack.
	share = 0.8
	// bandwidth is how many bytes an attack has, in the time of a window. What costs much is what does much with them.
	bandwidth = 2 << 20
	// pairs is of how many pairs of windows the median must be good, at most.
	pairs = 50
)

// fair holds the proxy to share. Calm windows and windows with an attack in them alternate, and the median of what each pair says counts:
// the machine has other things to do, too. An attack goes on until the proxy has thrown it out, or as long as it may stay, and its window
// as long as the attack: one that costs much makes all of its windows slow.
func (f *flood) fair(t *testing.T, s *stage) {
	if raceDetector {
		return // it makes the frames of the attacker dearer than the requests of the client
	}
	a := f.hire(t, s.clear)
	c := client(t, "h2c")
	var kept []float64
	for median(kept) < share && len(kept) < pairs {
		for range 3 {
			calm := window(t, s, c, 100*time.Millisecond, func() bool { return true })
			kept = append(kept, window(t, s, c, 300*time.Millisecond, a.attack(t))/calm)
		}
	}
	t.Logf("a client that behaves well keeps %.0f %% of its throughput in the median of %d pairs of windows", 100*median(kept), len(kept))
	if median(kept) < share {
		t.Errorf("too little: %.2f", kept)
	}
}

// median of nothing is 0.
func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

// window is how many requests a second a client gets answered, for a while and until what happens meanwhile is over.
func window(t *testing.T, s *stage, c *http.Client, d time.Duration, over func() bool) float64 {
	t.Helper()
	begin, done := time.Now(), 0
	for ; time.Since(begin) < d || !over(); done += 9 {
		fares(t, s, c, func() bool { return false }, 9)
	}
	return float64(done) / time.Since(begin).Seconds()
}

// attacker is a process that attacks when it is told to.
type attacker struct {
	orders  io.Writer
	reports *bufio.Reader
}

// hire starts the attacker of a flood.
func (f *flood) hire(t *testing.T, target string) *attacker {
	t.Helper()
	p := self("FLOOD="+f.name, "TARGET="+target, "PACED=1")
	in, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	})
	return &attacker{in, bufio.NewReader(out)}
}

// attack begins one attack; the function says whether it is over.
func (a *attacker) attack(t *testing.T) (over func() bool) {
	t.Helper()
	if _, err := fmt.Fprintln(a.orders); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { // ends with the attack
		_, err := a.reports.ReadString('\n')
		ended <- err
	}()
	return func() bool {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			ended <- nil
			return true
		default:
			return false
		}
	}
}

// pace attacks once per line that it is told.
func (f *flood) pace(target string) {
	for orders := bufio.NewReader(os.Stdin); ; fmt.Println() {
		if _, err := orders.ReadString('\n'); err != nil {
			return
		}
		f.together(target, 1, bandwidth/f.conns)
	}
}
