package proxy

import (
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

func TestPatience(t *testing.T) {
	standard := patience{miss: 200 * time.Millisecond, megaMiss: time.Second}
	one := &bootstrapv3.Watchdog{MissTimeout: durationpb.New(time.Minute), KillTimeout: durationpb.New(time.Hour)}
	own := patience{miss: time.Minute, megaMiss: time.Second, kill: time.Hour}
	for _, c := range []struct {
		what          string
		b             *bootstrapv3.Bootstrap
		main, workers patience
	}{
		{"none", &bootstrapv3.Bootstrap{}, standard, standard},
		{"watchdog", &bootstrapv3.Bootstrap{Watchdog: one}, own, own},
		{"watchdogs", &bootstrapv3.Bootstrap{Watchdogs: &bootstrapv3.Watchdogs{WorkerWatchdog: one}}, standard, own},
	} {
		if m, w := parsePatience(c.b); m != c.main || w != c.workers {
			t.Errorf("%s: %v, %v; want %v, %v", c.what, m, w, c.main, c.workers)
		}
	}
	jittered := &bootstrapv3.Watchdog{KillTimeout: durationpb.New(time.Second), MaxKillTimeoutJitter: durationpb.New(time.Second)}
	if k := watchdogPatience(jittered).kill; k < time.Second || k >= 2*time.Second {
		t.Errorf("kill_timeout with jitter: %v", k)
	}
}
