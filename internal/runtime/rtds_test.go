package runtime

import (
	"errors"
	"maps"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// plane is where resources come from in these tests: by hand.
type plane struct {
	watchers map[string]subscription.Watcher
	started  []string
}

type planeWish struct {
	*plane

	name string
}

func (p *plane) Subscribe(from *corev3.ConfigSource, w subscription.Wish) (subscription.Subscription, error) {
	if from.GetAds() == nil {
		return nil, errors.New("config_source_specifier: is required")
	}
	p.watchers[w.Names[0]] = w.Watcher
	return planeWish{p, w.Names[0]}, nil
}

func (w planeWish) Start() { w.started = append(w.started, w.name) }
func (w planeWish) Close() {}

func remote(t *testing.T, text string) (*Loader, *plane, *stats.Store, error) {
	t.Helper()
	layered := &bootstrapv3.LayeredRuntime{}
	readYAML(t, text, layered)
	p, store := &plane{watchers: map[string]subscription.Watcher{}}, &stats.Store{}
	l, err := New(Config{Layered: layered, Stats: store.Root(), Resources: p})
	return l, p, store, err
}

func readYAML(t *testing.T, text string, m proto.Message) {
	t.Helper()
	if _, err := protofile.Parse([]byte(text), protofile.YAML, m); err != nil {
		t.Fatal(err)
	}
}

const twoRemote = `layers:
- {name: base, static_layer: {over: 1, below: 1}}
- {name: first, rtds_layer: {name: one, rtds_config: {ads: {}}}}
- {name: second, rtds_layer: {name: two, rtds_config: {ads: {}}}}
- {name: admin, admin_layer: {}}
`

func TestRemoteLayers(t *testing.T) {
	l, p, store, err := remote(t, twoRemote)
	if err != nil {
		t.Fatal(err)
	}
	ready := false
	l.Start(func() { ready = true })
	resource := func(text string) *subscription.Update {
		r := &runtimev3.Runtime{}
		readYAML(t, text, r)
		return &subscription.Update{Resources: []subscription.Resource{{Name: r.GetName(), Message: r}}}
	}
	for _, step := range []struct {
		what, layer string
		update      *subscription.Update // nil: it has not come in time
		want        string               // what the error has
		pending     string
		over, deep  uint64
	}{
		{"one layer", "one", resource("{name: one, layer: {over: 2, a: {b: 3}}}"), "", "two", 2, 3},
		{"the other does not come", "two", nil, "", "", 2, 3},
		{"it comes later", "two", resource("{name: two, layer: {over: 4}}"), "", "", 4, 3},
		{"a bad value", "two", resource("{name: two, layer: {over: 5, bad: null}}"), "Invalid runtime entry value for bad", "", 4, 3},
		{"another name", "two", resource("{name: other, layer: {over: 5}}"), "Unexpected RTDS runtime (expecting two): other", "", 4, 3},
		{"nothing", "two", &subscription.Update{}, "added resources 0, number of removed resources 0", "", 4, 3},
		{"the same", "two", &subscription.Update{Resources: []subscription.Resource{{Name: "two", Same: true}}}, "", "", 4, 3},
		{"removed", "two", &subscription.Update{Removed: []string{"two"}}, "", "", 2, 3},
		{"another removed", "two", &subscription.Update{Removed: []string{"other"}}, "Unexpected removal of unknown RTDS runtime layer other, expected two", "", 2, 3},
	} {
		var err error
		if step.update == nil {
			p.watchers[step.layer].Failed()
		} else {
			err = p.watchers[step.layer].Update(step.update)
		}
		if (err == nil) != (step.want == "") || err != nil && !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(step.want)) {
			t.Errorf("%s: %v, want %q", step.what, err, step.want)
		}
		s := l.Load()
		if got := strings.Join(l.Pending(), " "); got != step.pending || ready != (step.pending == "") {
			t.Errorf("%s: waits for %q, ready %v", step.what, got, ready)
		}
		if s.Uint("over", 9) != step.over || s.Uint("a.b", 9) != step.deep || s.Uint("below", 9) != 1 {
			t.Errorf("%s: %v", step.what, s.Layers())
		}
	}
	if n := value(t, store, "runtime.num_layers"); n != 4 {
		t.Errorf("%d layers", n)
	}
	if n := value(t, store, "runtime.load_success"); n != 5 {
		t.Errorf("loaded %d times", n)
	}
	if got := l.Load().Layers()[1]; got.Name != "first" || !maps.Equal(got.Values, map[string]string{"over": "2", "a.b": "3"}) {
		t.Errorf("the layer is %v", got)
	}
}

func TestRemoteLayersWithoutASource(t *testing.T) {
	if _, _, _, err := remote(t, "layers: [{name: a, rtds_layer: {name: one, rtds_config: {}}}]"); err == nil || !strings.HasPrefix(err.Error(), "layers[0].rtds_layer.rtds_config.config_source_specifier: ") {
		t.Error(err)
	}
	if _, _, err := tryLoad(t, "layers: [{name: a, rtds_layer: {name: one, rtds_config: {ads: {}}}}]"); err == nil {
		t.Error("a layer without a source of resources was taken")
	}
	l, _ := load(t, static)
	started := false
	if l.Start(func() { started = true }); !started {
		t.Error("without remote layers there is something to wait for")
	}
}
