package healthcheck

import (
	"fmt"
	"testing"
	"time"

	healthcheckv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/drain"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) { fieldtest.Check(t, "fields.golden", &healthcheckv3.HealthCheck{}) }

const path = `"headers":[{"name":":path","stringMatch":{"exact":"/hz"}}]`

func build(t *testing.T, config string) (*Filter, *drain.Drain, error) {
	t.Helper()
	p := &healthcheckv3.HealthCheck{}
	if err := protojson.Unmarshal([]byte(config), p); err != nil {
		t.Fatal(err)
	}
	a, err := anypb.New(p)
	if err != nil {
		t.Fatal(err)
	}
	var r extension.Registry[any, filter.Env]
	extension.Add(&r, New)
	process := drain.New(nil)
	f, err := r.Build(a, filter.Env{Process: &filter.Process{Node: filter.Node{Cluster: "me"}}, Listener: &filter.Listener{Drain: drain.New(process)}})
	if err != nil {
		return nil, nil, err
	}
	f.(*Filter).size = func(name string) (size, bool) {
		n, ok := map[string]size{"ten": {10, 5}, "empty": {}}[name]
		return n, ok
	}
	return f.(*Filter), process, nil
}

// ask returns what becomes of a request, the upstream answering with status.
func ask(f *Filter, w *fiber.Worker, path string, status int) string {
	s := &filter.Stream{}
	s.Worker = w
	s.Request.Path = path
	how := "local"
	if f.OnRequest(s) == filter.Continue {
		how, s.Response.Status = "upstream", status
	}
	f.OnResponse(s)
	cluster, _ := s.Response.Header.Get("x-envoy-upstream-healthchecked-cluster")
	fail, _ := s.Response.Header.Get("x-envoy-immediate-health-check-fail")
	return fmt.Sprintf("%s %d %s %s cluster=%s fail=%s check=%v", how, s.Response.Status, s.Info.Details, s.Info.Flags, cluster, fail, s.Info.HealthCheck)
}

func worker(t *testing.T) *fiber.Worker {
	t.Helper()
	w, err := fiber.New(0)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAnswers(t *testing.T) {
	w := worker(t)
	const passed, other = "upstream 200  - cluster=me fail= check=true", "upstream 200  - cluster= fail= check=false"
	for _, c := range []struct {
		config, path string
		failed       bool
		want         string
	}{
		{`"passThroughMode":false,` + path, "/hz", false, "local 200 health_check_ok - cluster=me fail= check=true"},
		{`"passThroughMode":false,` + path, "/x", false, other},
		{`"passThroughMode":false`, "/x", false, "local 200 health_check_ok - cluster=me fail= check=true"},
		{`"passThroughMode":false,` + path, "/hz", true, "local 503 health_check_failed LH cluster=me fail=true check=true"},
		{`"passThroughMode":true,` + path, "/hz", false, passed},
		{`"passThroughMode":true,` + path, "/hz", true, "local 503 health_check_failed LH cluster=me fail=true check=true"},
		{`"passThroughMode":true,` + path, "/x", true, "upstream 200  - cluster= fail=true check=false"},
		{`"passThroughMode":false,"clusterMinHealthyPercentages":{"ten":{"value":50.9}}`, "/hz", false, "local 200 health_check_ok_cluster_healthy - cluster=me fail= check=true"},
		{`"passThroughMode":false,"clusterMinHealthyPercentages":{"ten":{"value":51}}`, "/hz", false, "local 503 health_check_failed_cluster_unhealthy LH cluster=me fail= check=true"},
		{`"passThroughMode":false,"clusterMinHealthyPercentages":{"none":{"value":0}}`, "/hz", false, "local 503 health_check_failed_no_cluster_found LH cluster=me fail= check=true"},
		{`"passThroughMode":false,"clusterMinHealthyPercentages":{"empty":{"value":1}}`, "/hz", false, "local 503 health_check_failed_cluster_empty LH cluster=me fail= check=true"},
		{`"passThroughMode":false,"clusterMinHealthyPercentages":{"empty":{"value":0}}`, "/hz", false, "local 200 health_check_ok_cluster_healthy - cluster=me fail= check=true"},
		{`"passThroughMode":true,"clusterMinHealthyPercentages":{"ten":{"value":100}}`, "/hz", false, passed},
	} {
		f, process, err := build(t, "{"+c.config+"}")
		if err != nil {
			t.Fatal(err)
		}
		process.Fail(c.failed)
		if got := ask(f, w, c.path, 200); got != c.want {
			t.Errorf("%s %s failed=%v: %s, want %s", c.config, c.path, c.failed, got, c.want)
		}
	}
}

func TestCache(t *testing.T) {
	w := worker(t)
	f, _, err := build(t, `{"passThroughMode":true,"cacheTime":"10s"}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(f, w, "/", 500); got != "upstream 500  - cluster=me fail= check=true" {
		t.Error("first:", got)
	}
	for range 2 {
		if got := ask(f, w, "/", 200); got != "local 500 health_check_cached LH cluster=me fail= check=true" {
			t.Error("cached:", got)
		}
	}
	f.cache.Store(&answer{status: 500, until: w.Wall().Add(-time.Second)})
	if got := ask(f, w, "/", 200); got != "upstream 200  - cluster=me fail= check=true" {
		t.Error("later:", got)
	}
}

func TestErrors(t *testing.T) {
	if _, _, err := build(t, `{"passThroughMode":false,"cacheTime":"1s"}`); err == nil || err.Error() != "cache_time: cache_time_ms must not be set when path_through_mode is disabled" {
		t.Error(err)
	}
}

func TestPassingDoesNotAllocate(t *testing.T) {
	f, _, err := build(t, `{"passThroughMode":true,`+path+`}`)
	if err != nil {
		t.Fatal(err)
	}
	s := &filter.Stream{Stream: stream.Stream{Worker: worker(t)}}
	s.Request.Path = "/x"
	if n := testing.AllocsPerRun(100, func() { f.OnRequest(s); f.OnResponse(s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
