package runtime

import (
	"testing"
	"time"
)

// waitFor polls the snapshot: the kernel tells the watcher, and no clock that a test could turn is part of that.
func waitFor(t *testing.T, l *Loader, done func(*Snapshot) bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !done(l.Load()) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never happened: %v", l.Load().Layers())
		}
	}
}
