package drain_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/drain"
)

func closing(d *drain.Drain) (n int) {
	for range 1000 {
		if d.Closing() {
			n++
		}
	}
	return n
}

func TestMoreAndMoreConnectionsClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		process := drain.New(nil)
		d := drain.New(process)
		if closing(d) != 0 || d.Draining() {
			t.Error("closing before Start")
		}
		process.Start(time.Minute, false)
		process.Start(time.Hour, true) // changes nothing
		time.Sleep(15 * time.Second)   // of the bubble's clock
		if n := closing(d); n < 150 || n > 350 || !d.Draining() {
			t.Errorf("%d of 1000 after a quarter of the time", n)
		}
		time.Sleep(45 * time.Second)
		if n := closing(d); n != 1000 {
			t.Errorf("%d of 1000 at the end", n)
		}
	})
}

func TestImmediateAndFailed(t *testing.T) {
	parent := drain.New(nil)
	d := drain.New(parent)
	parent.Fail(true)
	if !d.Failed() || closing(d) != 1000 {
		t.Error("a failed process keeps its connections")
	}
	parent.Fail(false)
	if d.Failed() || closing(d) != 0 {
		t.Error("Fail was not taken back")
	}
	d.Start(time.Hour, true)
	if closing(d) != 1000 || parent.Draining() {
		t.Error("immediate drain of one listener")
	}
}
