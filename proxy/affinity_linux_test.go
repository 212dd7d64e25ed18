package proxy_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outrigger-proxy/outrigger/test/harness"
)

// TestWorkersArePinned: each worker that has a thread for itself runs on one CPU.
func TestWorkersArePinned(t *testing.T) {
	r := harness.Start(t, "enable_worker_cpu_affinity: true\n"+strings.ReplaceAll(http1, "{{port}}", "1"), two(time.Second))
	for i, w := range r.Workers {
		count := make(chan int, 1)
		w.Post(func() {
			var set unix.CPUSet
			if err := unix.SchedGetaffinity(0, &set); err != nil {
				t.Error(err)
			}
			count <- set.Count()
		})
		if n := <-count; w.OwnsThread() && n != 1 {
			t.Errorf("worker %d may run on %d CPUs", i, n)
		}
	}
	want := 2
	if !r.Workers[0].OwnsThread() {
		want = 0
	}
	if got := r.Stat("listener_manager.workers_pinned"); got != want {
		t.Errorf("%d are counted, want %d", got, want)
	}
}
