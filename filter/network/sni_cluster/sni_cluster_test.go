package snicluster

import (
	"testing"

	sniclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestCluster(t *testing.T) {
	f, err := New(&sniclusterv3.SniCluster{}, filter.Env{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"b.test": "b.test", "": nil} {
		c := &filter.Conn{Info: &stream.Conn{ServerName: name}}
		if f.(filter.Network).OnConn(c) != filter.Continue || c.Info.State[stream.TCPClusterState] != want {
			t.Errorf("%q: %v", name, c.Info.State)
		}
	}
}
