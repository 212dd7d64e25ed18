package harness

import (
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Eventually asks until the answer is yes, or Patience is at its end.
func Eventually(ok func() bool) bool {
	for end := time.Now().Add(Patience); !ok(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// NoLeaks runs f and says what it leaves behind: goroutines and file descriptors.
func NoLeaks(tb testing.TB, f func()) {
	tb.Helper()
	before, ignore := descriptors(), goleak.IgnoreCurrent()
	f()
	if err := goleak.Find(ignore); err != nil {
		tb.Error(err)
	}
	if !Eventually(func() bool { return descriptors() <= before }) {
		tb.Errorf("%d file descriptors before, %d after", before, descriptors())
	}
}

func descriptors() int {
	d, _ := os.ReadDir("/proc/self/fd")
	return len(d)
}
