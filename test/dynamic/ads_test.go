package dynamic

import (
	"strings"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/subscription"
	"github.com/outrigger-proxy/outrigger/test/harness"
	"github.com/outrigger-proxy/outrigger/xdsclient/xdstest"
)

// mesh is a server with one service behind one listener.
func mesh(t *testing.T, port uint32) *xdstest.Server {
	s := xdstest.New(t)
	s.Set(subscription.Clusters(), edsCluster(t, "svc"))
	s.Set(subscription.Endpoints(), endpoints(t, "svc", port))
	s.Set(subscription.Listeners(), rdsListener(t, "in", "r"))
	s.Set(subscription.Routes(), routes(t, "r", "svc"))
	return s
}

func eachProtocol(t *testing.T, f func(t *testing.T, api string)) {
	for _, api := range []string{"GRPC", "DELTA_GRPC"} {
		t.Run(api, func(t *testing.T) { f(t, api) })
	}
}

func TestTraffic(t *testing.T) {
	eachProtocol(t, func(t *testing.T, api string) {
		one, two := upstream(t, "one"), upstream(t, "two")
		server := mesh(t, one)
		s := harness.Start(t, adsBootstrap(server, api))
		if got := s.Get("in", "/"); got != "200 one" {
			t.Fatalf("got %s", got)
		}
		server.Set(subscription.Endpoints(), endpoints(t, "svc", two))
		server.WaitAck(subscription.Endpoints())
		if got := s.Get("in", "/"); got != "200 two" {
			t.Errorf("after EDS: got %s", got)
		}
		server.Set(subscription.Clusters(), edsCluster(t, "svc"), edsCluster(t, "other"))
		server.Set(subscription.Endpoints(), endpoints(t, "svc", two), endpoints(t, "other", one))
		server.WaitAck(subscription.Endpoints())
		server.Set(subscription.Routes(), routes(t, "r", "other"))
		server.WaitAck(subscription.Routes())
		if got := s.Get("in", "/"); got != "200 one" {
			t.Errorf("after RDS: got %s", got)
		}
		server.Set(subscription.Clusters(), edsCluster(t, "svc"))
		server.WaitAck(subscription.Clusters())
		if got := s.Get("in", "/"); !strings.HasPrefix(got, "503 ") {
			t.Errorf("without the cluster: got %s", got)
		}
		server.Set(subscription.Listeners())
		server.WaitAck(subscription.Listeners())
		s.WaitStat("listener_manager.total_listeners_active", 0)
	})
}

func TestOrderOfRequests(t *testing.T) {
	server := mesh(t, upstream(t, "one"))
	harness.Start(t, adsBootstrap(server, "GRPC"))
	server.WaitAck(subscription.Routes())
	var order []string
	for _, e := range server.Events() {
		word := e.Type[strings.LastIndex(e.Type, ".")+1:]
		if e.Nonce != "" {
			word = "ACK " + word
		}
		if e.Node != "" {
			word += " of " + e.Node
		}
		order = append(order, word)
	}
	want := "Cluster of me, ClusterLoadAssignment, ACK Cluster, Listener, ACK ClusterLoadAssignment, RouteConfiguration, ACK Listener, ACK RouteConfiguration"
	if got := strings.Join(order, ", "); got != want {
		t.Errorf("asked for\n%s\nwant\n%s", got, want)
	}
}

func TestBadResourcesKeepTheLastGoodVersion(t *testing.T) {
	eachProtocol(t, func(t *testing.T, api string) {
		one := upstream(t, "one")
		server := mesh(t, one)
		s := harness.Start(t, adsBootstrap(server, api))
		bad := edsCluster(t, "svc")
		bad.EdsClusterConfig = nil
		server.Set(subscription.Clusters(), bad, edsCluster(t, "more"))
		if reason := server.WaitNack(subscription.Clusters()); !strings.Contains(reason, "Error adding/updating cluster(s) svc: ") || strings.Contains(reason, "more") {
			t.Errorf("the reason is %q", reason)
		}
		if got := s.Get("in", "/"); got != "200 one" {
			t.Errorf("got %s", got)
		}
		s.WaitStat("cluster_manager.cds.update_rejected", 1)
		failed := 0
		for _, kind := range []string{"dynamic_active_clusters", "dynamic_warming_clusters"} {
			for _, c := range s.Dump(kind) {
				if c["error_state"] != nil {
					failed++
				}
			}
		}
		if failed != 1 {
			t.Errorf("%d clusters have an error_state", failed)
		}
		server.Set(subscription.Endpoints(), endpoints(t, "svc", one), endpoints(t, "more", 70000))
		if reason := server.WaitNack(subscription.Endpoints()); !strings.Contains(reason, "more: ") || strings.Contains(reason, "svc: ") {
			t.Errorf("the reason is %q", reason)
		}
	})
}

func TestNothingIsDoneForTheSameAgain(t *testing.T) {
	eachProtocol(t, func(t *testing.T, api string) {
		server := mesh(t, upstream(t, "one"))
		s := harness.Start(t, adsBootstrap(server, api))
		for range 2 {
			for _, typ := range []subscription.Type{subscription.Clusters(), subscription.Listeners()} {
				server.Touch(typ)
				server.WaitAck(typ)
			}
		}
		for name, want := range map[string]int{
			"cluster_manager.cluster_modified": 0, "cluster_manager.cds.update_success": 3,
			"listener_manager.listener_modified": 0, "listener_manager.lds.update_success": 3,
		} {
			if got := s.Stat(name); got != want {
				t.Errorf("%s: %d, want %d", name, got, want)
			}
		}
	})
}

func TestAServerThatGoesAndComesBack(t *testing.T) {
	eachProtocol(t, func(t *testing.T, api string) {
		one, two := upstream(t, "one"), upstream(t, "two")
		server := mesh(t, one)
		s := harness.Start(t, adsBootstrap(server, api))
		s.WaitStat("control_plane.connected_state", 1)
		server.Stop()
		s.WaitStat("control_plane.connected_state", 0)
		if got := s.Get("in", "/"); got != "200 one" {
			t.Errorf("without a control plane: got %s", got)
		}
		server.Set(subscription.Endpoints(), endpoints(t, "svc", two))
		n := len(server.Events())
		server.Start()
		e, _ := server.Wait(n, "subscription", func(e *xdstest.Event) bool { return e.Type == subscription.Clusters().URL })
		if e.Nonce != "" || e.Node == "" || api == "GRPC" && e.Version == "" || api == "DELTA_GRPC" && e.Initial["svc"] == "" {
			t.Errorf("the first request of the new stream is %+v", e)
		}
		s.Wait("the new endpoint", func() bool { return s.Get("in", "/") == "200 two" })
		if got := s.Stat("cluster_manager.cluster_modified"); got != 0 {
			t.Errorf("%d clusters were modified", got)
		}
	})
}

// TestAHostThatGoesBeforeItsFirstCheck: a cluster that warms does not wait for the check of a host that is not there any more.
func TestAHostThatGoesBeforeItsFirstCheck(t *testing.T) {
	one := upstream(t, "one")
	silent := harness.Listen(t, harness.Any) // accepts and never answers
	server := mesh(t, port(silent.Addr().String()))
	c := read(t, edsCluster(t, "svc"), "{health_checks: [{timeout: 3600s, interval: 3600s, healthy_threshold: 1, unhealthy_threshold: 1, http_health_check: {path: /}}]}")
	server.Set(subscription.Clusters(), c)
	s := harness.Begin(t, adsBootstrap(server, "DELTA_GRPC"))
	s.WaitStat("cluster.svc.membership_total", 1)
	server.Set(subscription.Endpoints(), endpoints(t, "svc", one))
	s.WaitLive()
	s.Wait("traffic", func() bool { return s.Get("in", "/") == "200 one" })
}
