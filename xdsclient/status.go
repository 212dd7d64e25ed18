package xdsclient

import (
	"cmp"
	"maps"
	"slices"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// Status is what is known of a resource that somebody wants or has.
type Status struct {
	Type, Name string // Type is a type URL
	// Version is that of the resource that is in force, Updated when it came; empty and zero: none is.
	Version string
	Updated time.Time
	// Body is the resource; nil where its manager alone has it: clusters and listeners.
	Body *anypb.Any
	// State is REQUESTED, DOES_NOT_EXIST, ACKED or NACKED.
	State adminv3.ClientResourceStatus
	// Failure is the last update if it was refused.
	Failure *Failure
}

// Failure is an update of a resource that was refused.
type Failure struct {
	Version, Reason string
	At              time.Time
	Body            *anypb.Any // nil: it cannot be read
}

// Status lists all resources, of all sources, sorted by type and name within a source. It belongs to the control loop.
func (c *Client) Status() (list []Status) {
	if c.ads != nil {
		list = c.ads.m.status()
	}
	for x := range c.all {
		if x != c.ads {
			list = append(list, x.m.status()...)
		}
	}
	return list
}

func (m *machine) status() (list []Status) {
	for _, url := range slices.Sorted(maps.Keys(m.kinds)) {
		k := m.kinds[url]
		names := map[string]bool{}
		for n := range k.have {
			names[n] = true
		}
		for n := range k.wanted {
			names[n] = true
		}
		for n := range k.failed {
			names[n] = true
		}
		for _, n := range slices.Sorted(maps.Keys(names)) {
			list = append(list, k.status(n))
		}
	}
	return list
}

func (k *kind) status(name string) Status {
	s := Status{Type: k.URL, Name: name, Failure: k.failed[name], State: adminv3.ClientResourceStatus_REQUESTED}
	if e := k.have[name]; e != nil {
		s.Version, s.Updated, s.Body, s.State = e.version, e.at, e.body, adminv3.ClientResourceStatus_ACKED
	}
	switch {
	case s.Failure != nil:
		s.State = adminv3.ClientResourceStatus_NACKED
	case k.absent[name]:
		s.State = adminv3.ClientResourceStatus_DOES_NOT_EXIST
	}
	return s
}

// note remembers when resources of a batch that was answered came, and why others were refused.
func (b *batch) note(err error, at time.Time) {
	k := b.kind
	reasons, all := reasons(err)
	if b.complete && !all {
		names := map[string]bool{}
		for _, i := range b.items {
			names[i.name] = true
		}
		maps.DeleteFunc(k.failed, func(n string, _ *Failure) bool { return !names[n] })
	}
	for _, i := range b.items {
		reason := reasons[i.name]
		if all {
			reason = err
		}
		if reason != nil {
			k.failed[i.name] = &Failure{Version: cmp.Or(i.version, b.version), Reason: reason.Error(), At: at, Body: i.raw}
			continue
		}
		delete(k.failed, i.name)
		if e := k.have[i.name]; e != nil && e == i.entry && e.at.IsZero() {
			e.at = at
		}
	}
	for _, n := range b.removed {
		delete(k.failed, n)
	}
}
