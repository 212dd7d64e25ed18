package eds

import (
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// control is a control plane, and what counts.
type control struct {
	wish   subscription.Wish
	counts [3]int // empty, unchanged, all else
}

func (c *control) Subscribe(_ *corev3.ConfigSource, w subscription.Wish) (subscription.Subscription, error) {
	c.wish = w
	return c, nil
}

func (c *control) Start()     {}
func (c *control) Close()     {}
func (c *control) Attempt()   { c.counts[2]++ }
func (c *control) Success()   { c.counts[2]++ }
func (c *control) Failure()   { c.counts[2]++ }
func (c *control) Empty()     { c.counts[0]++ }
func (c *control) Unchanged() { c.counts[1]++ }

func resource(p *endpointv3.ClusterLoadAssignment) *subscription.Update {
	return &subscription.Update{Resources: []subscription.Resource{{Name: "c", Message: p, Same: p == nil}}}
}

// TestStale follows an assignment that holds for a time: whatever comes in it begins the time anew.
func TestStale(t *testing.T) {
	c := &control{}
	var limited, stale stats.Counter
	var waits []time.Duration
	var passes func()
	stopped := 0
	s, err := New(Config{Name: "c", Source: c, Counts: c, Limited: &limited, Stale: &stale, After: func(d time.Duration, f func()) func() {
		waits, passes = append(waits, d), f
		return func() { stopped++ }
	}})
	if err != nil {
		t.Fatal(err)
	}
	groups, calls := -1, 0
	s.Start(func(a *discovery.Assignment) {
		calls++
		groups = -1
		if a != nil {
			groups = len(a.Groups)
		}
	})
	w := c.wish.Watcher
	holds := &endpointv3.ClusterLoadAssignment{
		ClusterName: "c", Endpoints: []*endpointv3.LocalityLbEndpoints{{}}, Policy: &endpointv3.ClusterLoadAssignment_Policy{EndpointStaleAfter: durationpb.New(time.Minute)},
	}
	for _, step := range []struct {
		does           string
		do             func() error
		groups, calls  int
		waits, stopped int
		limited, stale uint64
	}{
		{"nothing is there", func() error { return w.Update(&subscription.Update{}) }, -1, 1, 0, 0, 0, 0},
		{"it comes", func() error { return w.Update(resource(holds)) }, 1, 2, 1, 0, 1, 0},
		{"it comes again", func() error { return w.Update(resource(nil)) }, 1, 2, 2, 1, 2, 0},
		{"its time passes", func() error { passes(); return nil }, 0, 3, 2, 1, 2, 1},
		{"one without an end comes", func() error {
			return w.Update(resource(&endpointv3.ClusterLoadAssignment{ClusterName: "c", Endpoints: holds.GetEndpoints()}))
		}, 1, 4, 2, 2, 2, 1},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if groups != step.groups || calls != step.calls || len(waits) != step.waits || stopped != step.stopped || limited.Value() != step.limited || stale.Value() != step.stale {
			t.Errorf("%s: %d groups after %d calls, %d waits, %d stopped, %d limited, %d stale", step.does, groups, calls, len(waits), stopped, limited.Value(), stale.Value())
		}
	}
	if waits[0] != time.Minute || c.counts != [3]int{1, 1, 0} {
		t.Errorf("%v, %v", waits, c.counts)
	}
	for _, u := range []*subscription.Update{resource(&endpointv3.ClusterLoadAssignment{ClusterName: "d"}), {Resources: make([]subscription.Resource, 2)}} {
		if w.Update(u) == nil {
			t.Errorf("%v is taken", u)
		}
	}
	w.Failed()
	s.Close()
	if groups != -1 {
		t.Error("a failure lets nobody wait")
	}
}
