package dynamic

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/subscription"
	"github.com/outrigger-proxy/outrigger/test/harness"
	"github.com/outrigger-proxy/outrigger/xdsclient/xdstest"
)

func runtimeLayer(t *testing.T, values string) proto.Message {
	return read(t, &runtimev3.Runtime{}, "{name: rt, layer: %s}", values)
}

// withRuntime adds a layer from a source to a bootstrap.
func withRuntime(bootstrap, from string) string {
	return bootstrap + "layered_runtime: {layers: [{name: base, static_layer: {over: 1}}, {name: remote, rtds_layer: {name: rt, rtds_config: " + from + "}}, {name: admin, admin_layer: {}}]}\n"
}

// runtime is /runtime without white space.
func runtime(s *harness.Proxy) string { return strings.Join(strings.Fields(s.Page("/runtime")), "") }

func TestRuntimeLayersOverADS(t *testing.T) {
	eachProtocol(t, func(t *testing.T, api string) {
		one := upstream(t, "one")
		server := mesh(t, one)
		server.Set(subscription.Runtimes(), runtimeLayer(t, "{over: 2, a: {b: 3}}"))
		s := harness.Start(t, withRuntime(adsBootstrap(server, api), "{ads: {}, resource_api_version: V3}"))
		if got := runtime(s); !strings.Contains(got, `"over":{"final_value":"2","layer_values":["1","2",""]}`) || !strings.Contains(got, `"layers":["base","remote","admin"]`) {
			t.Errorf("/runtime shows %s", got)
		}
		first := func(typ subscription.Type) int {
			return slices.IndexFunc(server.Events(), func(e xdstest.Event) bool { return e.Type == typ.URL })
		}
		ack := slices.IndexFunc(server.Events(), func(e xdstest.Event) bool { return e.Type == subscription.Runtimes().URL && e.Ack() })
		if first(subscription.Runtimes()) != 0 || ack < 0 || ack > first(subscription.Listeners()) {
			t.Errorf("asked: %+v", server.Events())
		}
		server.Set(subscription.Runtimes(), runtimeLayer(t, "{over: 4}"))
		server.WaitAck(subscription.Runtimes())
		s.WaitStat("runtime.update_success", 2)
		if got := runtime(s); !strings.Contains(got, `"over":{"final_value":"4"`) || strings.Contains(got, "a.b") {
			t.Errorf("/runtime shows %s", got)
		}
		server.Set(subscription.Runtimes(), runtimeLayer(t, "{over: null}"))
		if reason := server.WaitNack(subscription.Runtimes()); !strings.Contains(strings.ToLower(reason), "invalid runtime entry value for over") {
			t.Errorf("the reason is %q", reason)
		}
		if got := runtime(s); !strings.Contains(got, `"over":{"final_value":"4"`) {
			t.Errorf("after a bad update /runtime shows %s", got)
		}
	})
}

// TestRuntimeLayersInAFile: the start waits for the layer, and the file is read again when another is moved over it.
func TestRuntimeLayersInAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runtime.yaml")
	write := func(text string) { harness.Put(t, path, "resources: ["+text+"]\n") }
	const resource = "{'@type': type.googleapis.com/envoy.service.runtime.v3.Runtime, name: rt, layer: "
	write(resource + "{over: 2}}")
	s := harness.Start(t, withRuntime("node: {id: me, cluster: here}\n"+harness.Admin, "{path_config_source: {path: "+path+"}}"))
	for name, want := range map[string]int{"runtime.load_success": 3, "runtime.num_layers": 3, "runtime.update_attempt": 1, "runtime.update_success": 1} {
		if got := s.Stat(name); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	write(resource + "{over: 3}}")
	s.Wait("the new value", func() bool { return strings.Contains(runtime(s), `"over":{"final_value":"3"`) })
	write("")
	s.WaitStat("runtime.update_rejected", 1)
}
