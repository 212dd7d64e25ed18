package snidynamicforwardproxy

import (
	"testing"

	cachev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	forwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/control"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) { fieldtest.Check(t, "fields.golden", &forwardv3.FilterConfig{}) }

func TestOnConn(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		loop := control.New()
		m := cluster.NewManager(cluster.Env{Workers: []*fiber.Worker{w}, Stats: &stats.Store{}, Control: loop})
		p := &forwardv3.FilterConfig{
			DnsCacheConfig: &cachev3.DnsCacheConfig{Name: "k", MaxHosts: wrapperspb.UInt32(2)},
			PortSpecifier:  &forwardv3.FilterConfig_PortValue{PortValue: 444}, SaveUpstreamAddress: true,
		}
		f, err := New(p, filter.Env{Process: &filter.Process{Clusters: m}})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { loop.Run(); close(ended) }() // ends with Stop
		for _, c := range []struct {
			name    string
			state   stream.FilterState
			status  filter.Status
			address string
		}{
			{"", nil, filter.Continue, ""},
			{"10.0.0.1", nil, filter.Continue, "10.0.0.1:444"},
			{"any", stream.FilterState{"envoy.upstream.dynamic_host": "10.0.0.1", portState: uint32(81)}, filter.Continue, "10.0.0.1:81"},
			{"10.0.0.3", nil, filter.Stop, ""}, // the cache is full
		} {
			near, far := fiber.Pipe(w)
			conn := &filter.Conn{Conn: near, Worker: w, Info: &stream.Conn{ServerName: c.name, State: c.state}}
			got := f.(filter.Network).OnConn(conn)
			address := ""
			if a, ok := conn.Info.State[addressState].(stream.Address); ok {
				address = a.String()
			}
			if got != c.status || address != c.address {
				t.Errorf("%q: %v, %q", c.name, got, address)
			}
			_ = near.Close()
			_ = far.Close()
		}
		loop.Do(m.Close)
		loop.Stop()
		<-ended
		p.DnsCacheConfig = &cachev3.DnsCacheConfig{Name: "k"}
		if _, err := New(p, filter.Env{Process: &filter.Process{Clusters: m}}); err == nil {
			t.Error("a cache has one configuration")
		}
	})
}
