package health

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
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
	r := newRig(t, "tcp_health_check: {}, always_log_health_check_success: true, always_log_health_check_failures: true", &fiber.Worker{})
	r.c.env.Logs = []*logfile.Events{logfile.NewEvents(f)}
	r.s.host.Address, _ = fiber.ParseAddress("10.0.0.1:80")
	for _, v := range []verdict{passes, passes, says500, strained, strained, passes} {
		r.s.done(v)
	}
	set.Close()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(raw)) {
		v := map[string]any{}
		if err := json.Unmarshal([]byte(line), &v); err != nil || v["cluster_name"] != "c" || v["health_checker_type"] != "TCP" || v["timestamp"] == nil ||
			v["locality"].(map[string]any)["region"] != "r" || v["host"].(map[string]any)["socket_address"].(map[string]any)["port_value"] != 80. {
			t.Errorf("%s: %v", line, err)
		}
		for k, e := range v {
			if strings.HasSuffix(k, "_event") || strings.HasSuffix(k, "_host") {
				b, err := json.Marshal(e)
				if err != nil {
					t.Error(err)
				}
				got = append(got, k+string(b))
			}
		}
	}
	want := `add_healthy_event{"first_check":true}
successful_health_check_event{}
eject_unhealthy_event{"failure_type":"ACTIVE","http_status_code":500}
health_check_failure_event{"failure_type":"ACTIVE","first_check":false,"http_status_code":500}
successful_health_check_event{}
degraded_healthy_host{}
add_healthy_event{"first_check":false}
successful_health_check_event{}
no_longer_degraded_host{}`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("got\n%s", s)
	}
}
