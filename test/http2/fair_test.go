package http2

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"
)

// share is how much of its throughput a client that behaves well must keep under attack.
const share = 0.8

// bandwidth is how many bytes an attack has. What costs much is what does much with them.
const bandwidth = 4 << 20

// fair holds the proxy to share. Calm windows and windows with an attack in them alternate, and the best of both are compared: whatever
// else the machine does makes a window slow, never fast. An attack goes on until the proxy has thrown it out, or as long as it may stay, and
// its window as long as the attack: one that costs much makes all of its windows slow.
func (f *flood) fair(t *testing.T, s *stage) {
	if raceDetector {
		return // it makes the frames of the attacker dearer than the requests of the client
	}
	a := f.hire(t, s.clear)
	c := client(t, "h2c")
	var calm, stormy float64
	for n := 0; n < 20 && (n < 2 || stormy < share*calm); n++ {
		calm = max(calm, window(t, s, c, func() bool { return true }))
		stormy = max(stormy, window(t, s, c, a.attack(t)))
	}
	t.Logf("%.0f requests a second, and %.0f under attack", calm, stormy)
	if stormy < share*calm {
		t.Errorf("a client that behaves well keeps %.0f %% of its throughput", 100*stormy/calm)
	}
}

// window is how many requests a second a client gets answered, in a while or until what happens meanwhile is over.
func window(t *testing.T, s *stage, c *http.Client, over func() bool) float64 {
	t.Helper()
	begin, done := time.Now(), 0
	for ; time.Since(begin) < 200*time.Millisecond || !over(); done += 9 {
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
