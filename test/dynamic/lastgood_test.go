package dynamic

import (
	"strings"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/subscription"
	"github.com/outrigger-proxy/outrigger/proxy"
	"github.com/outrigger-proxy/outrigger/test/harness"
	"github.com/outrigger-proxy/outrigger/xdsclient/xdstest"
)

// keep has a proxy keep its last good configuration in a directory.
func keep(dir string) harness.Option { return func(o *proxy.Options) { o.LastGoodDir = dir } }

// TestLastGood: a proxy that starts while its control plane is away serves what it served before, and takes up what has changed when the
// control plane comes back.
func TestLastGood(t *testing.T) {
	eachProtocol(t, func(t *testing.T, api string) {
		one, two := upstream(t, "one"), upstream(t, "two")
		server, dir := mesh(t, one), t.TempDir()
		server.Set(subscription.Runtimes(), runtimeLayer(t, "{over: 2}"))
		server.Set(subscription.Clusters(), edsCluster(t, "svc"), edsCluster(t, "gone"), edsCluster(t, "leaves"))
		server.Set(subscription.Endpoints(), endpoints(t, "svc", one), endpoints(t, "gone", one), endpoints(t, "leaves", one))
		text := withRuntime(adsBootstrap(server, api), "{ads: {}, resource_api_version: V3}")
		s := harness.Start(t, text, keep(dir))
		bad := edsCluster(t, "svc")
		bad.EdsClusterConfig = nil
		server.Set(subscription.Clusters(), bad, edsCluster(t, "leaves"))
		server.WaitNack(subscription.Clusters())
		s.Stop()
		server.Stop()

		s = harness.Start(t, text, keep(dir))
		if got := s.Get("in", "/"); got != "200 one" {
			t.Errorf("without a control plane: %s", got)
		}
		if got := runtime(s); !strings.Contains(got, `"over":{"final_value":"2"`) {
			t.Errorf("/runtime shows %s", got)
		}
		clusters := s.Dump("dynamic_active_clusters")
		if len(clusters) != 2 || !strings.HasPrefix(clusters[0]["version_info"].(string), "last-good/") {
			t.Errorf("the clusters are %v", clusters)
		}
		n := len(server.Events())
		server.Set(subscription.Clusters(), edsCluster(t, "svc"))
		server.Set(subscription.Endpoints(), endpoints(t, "svc", two))
		server.Start()
		e, _ := server.Wait(n, "subscription", func(e *xdstest.Event) bool { return e.Type == subscription.Clusters().URL })
		if e.Version != "" || api == "DELTA_GRPC" && !strings.HasPrefix(e.Initial["leaves"], "last-good/") {
			t.Errorf("the first request is %+v", e)
		}
		s.Wait("the new endpoint", func() bool { return s.Get("in", "/") == "200 two" })
		s.Wait("the removed cluster goes", func() bool { return len(s.Dump("dynamic_active_clusters")) == 1 })
		s.Stop()
		server.Stop()

		s = harness.Start(t, text, keep(dir))
		if got := s.Get("in", "/"); got != "200 two" {
			t.Errorf("after the second restart: %s", got)
		}
		if got := len(s.Dump("dynamic_active_clusters")); got != 1 {
			t.Errorf("after the second restart there are %d clusters", got)
		}
	})
}

// TestLastGoodOfASilentServer: a server that says nothing is waited for until the initial_fetch_timeout. Without a directory nothing is kept.
func TestLastGoodOfASilentServer(t *testing.T) {
	server, dir := mesh(t, upstream(t, "one")), t.TempDir()
	s := harness.Start(t, adsBootstrap(server, "GRPC"), keep(dir))
	s.Stop()
	text := strings.ReplaceAll(adsBootstrap(server, "GRPC"), "config: {ads: {}, resource_api_version: V3}", "config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0.05s}")
	server.Mute(true)
	s = harness.Start(t, text, keep(dir))
	if got := s.Stat("cluster_manager.cds.init_fetch_timeout"); got != 1 {
		t.Errorf("%d timeouts", got)
	}
	if got := s.Dump("dynamic_active_clusters"); len(got) != 1 {
		t.Errorf("the clusters are %v", got)
	}
	s.Stop()
	s = harness.Start(t, text)
	if got := s.Dump("dynamic_active_clusters"); len(got) != 0 {
		t.Errorf("without a directory: the clusters are %v", got)
	}
}
