package runtime

import (
	"errors"
	"fmt"
	"slices"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"

	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// rtdsLayer is a layer that a control plane fills (envoy.service.runtime.v3.Runtime). It is there, without a key, from the start, and keeps
// its last good values when an update is refused.
type rtdsLayer struct {
	// set at construction
	name, resource string
	loader         *Loader
	wish           subscription.Subscription
	// guarded by the loader's mu
	values map[string]entry
	// owned by the control loop
	ready func() // nil: nobody waits
}

func (l *Loader) addRTDS(name string, p *bootstrapv3.RuntimeLayer_RtdsLayer, c Config) (err error) {
	if c.Resources == nil {
		return errors.New("rtds_config: there is nothing that resources come from")
	}
	r := &rtdsLayer{name: name, resource: p.GetName(), loader: l, values: map[string]entry{}}
	r.wish, err = c.Resources.Subscribe(p.GetRtdsConfig(), subscription.Wish{
		Type: subscription.Runtimes(), Names: []string{r.resource}, Scope: c.Stats.Sub("runtime"), Watcher: r,
	})
	if err != nil {
		return fmt.Errorf("rtds_config.%w", err)
	}
	l.layers, l.remote = append(l.layers, r), append(l.remote, r)
	return nil
}

// Start asks for the layers that come from a control plane, and calls then, on the control loop, once each has had an answer, or none in time.
// It belongs to the control loop. Without such layers then is called at once.
func (l *Loader) Start(then func()) {
	waiting := 1
	one := func() {
		if waiting--; waiting == 0 {
			then()
		}
	}
	for _, r := range l.remote {
		waiting++
		r.ready = one
	}
	for _, r := range l.remote {
		r.wish.Start()
	}
	one()
}

// Pending are the names of the remote layers that Start waits for. It belongs to the control loop.
func (l *Loader) Pending() (names []string) {
	for _, r := range l.remote {
		if r.ready != nil {
			names = append(names, r.resource)
		}
	}
	return names
}

func (r *rtdsLayer) layerName() string                     { return r.name }
func (r *rtdsLayer) read() (map[string]entry, bool, error) { return r.values, true, nil }

// Update implements subscription.Watcher: one resource comes, or goes.
func (r *rtdsLayer) Update(u *subscription.Update) error {
	defer r.Failed()
	if len(u.Resources)+len(u.Removed) != 1 {
		return fmt.Errorf("Unexpected RTDS resource length, number of added resources %d, number of removed resources %d", len(u.Resources), len(u.Removed))
	}
	if len(u.Removed) > 0 {
		if !slices.Contains(u.Removed, r.resource) {
			return fmt.Errorf("Unexpected removal of unknown RTDS runtime layer %s, expected %s", u.Removed[0], r.resource)
		}
		r.set(map[string]entry{})
		return nil
	}
	if u.Resources[0].Same {
		return nil
	}
	p, ok := u.Resources[0].Message.(*runtimev3.Runtime)
	if !ok || p.GetName() != r.resource {
		return fmt.Errorf("Unexpected RTDS runtime (expecting %s): %s", r.resource, p.GetName())
	}
	values := map[string]entry{}
	if err := flattenStruct(values, "", p.GetLayer()); err != nil {
		return err
	}
	r.set(values)
	return nil
}

func (r *rtdsLayer) set(values map[string]entry) {
	r.loader.mu.Lock()
	defer r.loader.mu.Unlock()
	r.values = values
	r.loader.reload()
}

// Failed lets the start go on.
func (r *rtdsLayer) Failed() {
	if f := r.ready; f != nil {
		r.ready = nil
		f()
	}
}
