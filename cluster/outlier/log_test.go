package outlier

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/logfile"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

func TestLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	set := logfile.New(logfile.Options{FlushInterval: time.Millisecond}, (&stats.Store{}).Root())
	f, err := set.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, "max_ejection_percent: 60, success_rate_minimum_hosts: 3, success_rate_stdev_factor: 1000, enforcing_success_rate: 0", 3)
	r.d.env.Log = NewLog(f)
	r.report(0, 500, 500, 500, 500, 500)
	r.now += 31 * time.Second
	r.d.Sweep()
	for i := range r.m {
		status := 200
		if i == 2 {
			status = 404
		}
		r.report(i, slices.Repeat([]int{status}, 100)...)
	}
	r.report(1, slices.Repeat([]int{200, 500}, 50)...)
	r.d.Sweep()
	set.Close()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	for line := range strings.Lines(string(raw)) {
		v := map[string]any{}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if v["timestamp"] == nil || v["cluster_name"] != "c" {
			t.Errorf("%s", line)
		}
		got = append(got, v)
	}
	if len(got) != 3 {
		t.Fatalf("%s", raw)
	}
	if e := got[0]; e["type"] != "CONSECUTIVE_5XX" || e["action"] != "EJECT" || e["enforced"] != true || e["upstream_url"] != "10.0.0.1:80" || e["num_ejections"] != 1. || e["eject_consecutive_event"] == nil {
		t.Errorf("%v", e)
	}
	if e := got[1]; e["action"] != "UNEJECT" || e["secs_since_last_action"] != "31" {
		t.Errorf("%v", e)
	}
	if e := got[2]; e["type"] != "SUCCESS_RATE" || e["enforced"] != false || e["eject_success_rate_event"].(map[string]any)["host_success_rate"] != 75. {
		t.Errorf("%v", e)
	}
}
