package connectionlimit

import (
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	connectionlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &connectionlimitv3.ConnectionLimit{})
}

func build(t *testing.T, p *connectionlimitv3.ConnectionLimit) (filter.Network, *limit) {
	t.Helper()
	p.StatPrefix = "p"
	var r extension.Registry[any, filter.Env]
	extension.Add(&r, New)
	a, err := anypb.New(p)
	if err != nil {
		t.Fatal(err)
	}
	v, err := r.Build(a, filter.Env{Process: &filter.Process{Stats: &stats.Store{}}})
	if err != nil {
		t.Fatal(err)
	}
	return v.(filter.Network), v.(*limit)
}

func TestLimit(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		f, l := build(t, &connectionlimitv3.ConnectionLimit{MaxConnections: wrapperspb.UInt64(1), Delay: durationpb.New(20 * time.Millisecond)})
		first, second, third := &filter.Conn{Worker: w}, &filter.Conn{Worker: w}, &filter.Conn{Worker: w}
		if f.OnConn(first) != filter.Continue {
			t.Error("the first connection is within the limit")
		}
		began := w.Now()
		if f.OnConn(second) != filter.Stop {
			t.Error("the second one is not")
		}
		if time.Duration(w.Now()-began) < 20*time.Millisecond {
			t.Error("it was not delayed")
		}
		if l.stats.Limited.Value() != 1 || l.stats.Active.Value() != 2 {
			t.Errorf("limited %d, active %d", l.stats.Limited.Value(), l.stats.Active.Value())
		}
		second.RunEnds()
		first.RunEnds()
		if f.OnConn(third) != filter.Continue || l.stats.Active.Value() != 1 {
			t.Error("the end of the first one makes room")
		}
	})
}

func TestSwitchedOff(t *testing.T) {
	off := &corev3.RuntimeFeatureFlag{DefaultValue: wrapperspb.Bool(false), RuntimeKey: "k"}
	f, l := build(t, &connectionlimitv3.ConnectionLimit{MaxConnections: wrapperspb.UInt64(1), RuntimeEnabled: off})
	for range 3 {
		if f.OnConn(&filter.Conn{}) != filter.Continue {
			t.Error("it limits")
		}
	}
	if l.stats.Active.Value() != 0 {
		t.Error("it counts")
	}
}
