package xdsclient

import (
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// entry is a resource that was accepted.
type entry struct {
	name    string
	version string
	bytes   uint64     // hash of what came
	meaning uint64     // hash of what it means
	body    *anypb.Any // for watchers to come; nil where all watchers see every response
	at      time.Time  // when it came first
}

// item is a resource of a response.
type item struct {
	name    string
	aliases []string
	version string
	ttl     time.Duration // 0: for ever
	beat    bool          // a heartbeat: the resource that is there lives on
	message proto.Message // nil if it means the same as the one before
	raw     *anypb.Any    // as it came; nil: without a body, or it cannot be read
	entry   *entry        // nil: it is not good
}

// batch is a response while it is taken in.
type batch struct {
	kind           *kind
	version, nonce string
	items          []item
	removed        []string
	complete       bool
	rejected       rejection // what cannot be read
}

// rejection collects the reasons of one answer.
type rejection struct{ subscription.RejectedError }

// join adds the reasons of a watcher of the names.
func (r *rejection) join(err error, names []string) {
	if err == nil {
		return
	}
	if p, ok := errors.AsType[*subscription.RejectedError](err); ok {
		if r.What == "" {
			r.What = p.What
		}
		r.Resources = append(r.Resources, p.Resources...)
		return
	}
	for _, n := range names {
		r.Add(n, err)
	}
}

// refusedFor is what could not be read of the resources with the names; none: of all.
func (b *batch) refusedFor(names []string) error {
	for _, e := range b.rejected.Resources {
		if len(names) == 0 || slices.Contains(names, e.Name) {
			return e.Err
		}
	}
	return nil
}

// seed of the hashes of this process.
var seed = maphash.MakeSeed()

// receive reads a response; nil: nobody has asked for its type.
func (m *machine) receive(p proto.Message) *batch {
	switch r := p.(type) {
	case *discoveryv3.DiscoveryResponse:
		return m.whole(r)
	case *discoveryv3.DeltaDiscoveryResponse:
		return m.difference(r)
	}
	return nil
}

// whole reads a response of the state-of-the-world protocol.
func (m *machine) whole(r *discoveryv3.DiscoveryResponse) *batch {
	k := m.kinds[r.GetTypeUrl()]
	if k == nil {
		return nil
	}
	b := &batch{kind: k, version: r.GetVersionInfo(), nonce: r.GetNonce(), complete: k.all > 0}
	for _, a := range r.GetResources() {
		wrapped := &discoveryv3.Resource{Version: r.GetVersionInfo(), Resource: a}
		if a.MessageIs(wrapped) {
			if err := a.UnmarshalTo(wrapped); err != nil {
				b.bad("", err)
				continue
			}
			if wrapped.Version == "" {
				wrapped.Version = r.GetVersionInfo()
			}
		}
		b.add(wrapped, m.check)
	}
	return b
}

// difference reads a response of the incremental protocol.
func (m *machine) difference(r *discoveryv3.DeltaDiscoveryResponse) *batch {
	k := m.kinds[r.GetTypeUrl()]
	if k == nil {
		return nil
	}
	b := &batch{kind: k, version: r.GetSystemVersionInfo(), nonce: r.GetNonce(), removed: r.GetRemovedResources()}
	seen := map[string]bool{}
	for _, p := range r.GetResources() {
		if seen[p.GetName()] {
			b.bad(p.GetName(), fmt.Errorf("duplicate name %s found among added/updated resources", p.GetName()))
			continue
		}
		seen[p.GetName()] = true
		b.add(p, m.check)
	}
	for _, n := range b.removed {
		if seen[n] {
			b.bad(n, fmt.Errorf("duplicate name %s found in the union of added+removed resources", n))
		}
	}
	return b
}

func (b *batch) bad(name string, err error) {
	b.rejected.Add(name, err)
	if name == "" {
		b.complete = false // whoever it was is not to be taken for removed
		return
	}
	b.items = append(b.items, item{name: name})
}

// add reads a resource, unless it is known by its bytes.
func (b *batch) add(p *discoveryv3.Resource, check func(proto.Message) error) {
	i := item{name: p.GetName(), aliases: p.GetAliases(), version: p.GetVersion(), ttl: p.GetTtl().AsDuration()}
	if p.GetResource() == nil {
		i.beat = true
		i.entry = b.kind.have[i.name]
		b.items = append(b.items, i)
		return
	}
	a := p.GetResource()
	if a.GetTypeUrl() != b.kind.URL {
		b.bad(i.name, fmt.Errorf("type URL %s embedded in an individual Any does not match the message-wide type URL %s in DiscoveryResponse", a.GetTypeUrl(), b.kind.URL))
		return
	}
	hash := maphash.Bytes(seed, a.GetValue())
	if same := b.kind.byBytes[hash]; same != nil && (i.name == "" || same.name == i.name) {
		i.raw = a
		i.name, i.entry = same.name, &entry{name: same.name, version: i.version, bytes: hash, meaning: same.meaning, body: same.body, at: same.at}
		b.items = append(b.items, i)
		return
	}
	b.read(i, a, hash, check)
}

// read unpacks a resource and compares it with the one before.
func (b *batch) read(i item, a *anypb.Any, hash uint64, check func(proto.Message) error) {
	m, err := a.UnmarshalNew()
	if err != nil {
		b.bad(i.name, fmt.Errorf("unable to unpack as %s: %w", b.kind.URL, err))
		return
	}
	name := nameOf(m, b.kind.NameField)
	if i.name == "" {
		i.name = name
	}
	meaning, clean := protofile.Canonical(m)
	if !clean {
		if err := check(m); err != nil {
			b.bad(i.name, err)
			return
		}
	}
	e := &entry{name: i.name, version: i.version, bytes: hash, meaning: maphash.Bytes(seed, meaning)}
	if b.kind.all == 0 {
		e.body = a
	}
	i.entry, i.raw = e, a
	if old := b.kind.have[i.name]; old != nil && old.meaning == e.meaning {
		e.at = old.at
	} else {
		i.message = m
	}
	b.items = append(b.items, i)
}

// nameOf returns the name that stands in the resource itself.
func nameOf(m proto.Message, field string) string {
	f := m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(field))
	if f == nil || f.Kind() != protoreflect.StringKind || f.IsList() {
		return ""
	}
	return m.ProtoReflect().Get(f).String()
}

// update is what the batch has for a watcher of the names; none: of all. Nil: it has nothing.
func (b *batch) update(names []string) *subscription.Update {
	u := &subscription.Update{Version: b.version, Complete: b.complete && len(names) == 0}
	all, wanted := len(names) == 0, map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}
	found := all
	for _, i := range b.items {
		if !all && !wanted[i.name] && !anyOf(wanted, i.aliases) {
			continue
		}
		found = found || i.entry != nil
		switch {
		case i.entry != nil:
			u.Resources = append(u.Resources, subscription.Resource{Name: i.name, Version: i.version, Message: i.message, Same: i.message == nil})
		case u.Complete: // a bad one keeps its last good version
			u.Resources = append(u.Resources, subscription.Resource{Name: i.name, Version: i.version, Same: true})
		}
	}
	for _, n := range b.removed {
		if all || wanted[n] {
			u.Removed, found = append(u.Removed, n), true
		}
	}
	if !found {
		return nil
	}
	for _, e := range b.rejected.Resources {
		if all || wanted[e.Name] {
			u.Refused = append(u.Refused, e)
		}
	}
	return u
}

func anyOf(wanted map[string]bool, names []string) bool {
	for _, n := range names {
		if wanted[n] {
			return true
		}
	}
	return false
}

// settle keeps what was accepted.
func (b *batch) settle(err error) {
	refused, all := reasons(err)
	if all {
		return
	}
	present := map[string]bool{}
	for _, i := range b.items {
		present[i.name] = true
		if i.entry != nil && !i.beat && refused[i.name] == nil {
			b.kind.keep(i.entry)
		}
	}
	for _, n := range b.removed {
		if refused[n] == nil {
			b.kind.forget(n)
			b.kind.absent[n] = true
		}
	}
	if !b.complete {
		return
	}
	for n := range b.kind.have {
		if !present[n] {
			b.kind.forget(n)
		}
	}
}

// reasons say by name why resources are refused; all says that err is about everything.
func reasons(err error) (byName map[string]error, all bool) {
	if err == nil {
		return nil, false
	}
	r, ok := errors.AsType[*subscription.RejectedError](err)
	if !ok {
		return nil, true
	}
	byName = make(map[string]error, len(r.Resources))
	for _, e := range r.Resources {
		byName[e.Name] = e.Err
	}
	return byName, false
}

func (k *kind) keep(e *entry) {
	k.forget(e.name)
	k.have[e.name], k.byBytes[e.bytes] = e, e
	delete(k.absent, e.name)
}

func (k *kind) forget(name string) {
	if e := k.have[name]; e != nil {
		delete(k.have, name)
		if k.byBytes[e.bytes] == e {
			delete(k.byBytes, e.bytes)
		}
	}
}

// known is what is there already for a new watcher of the names; nil: nothing.
func (k *kind) known(names []string) *subscription.Update {
	u := &subscription.Update{Version: k.version}
	for _, n := range names {
		e := k.have[n]
		if e == nil || e.body == nil {
			if k.absent[n] {
				u.Removed = append(u.Removed, n)
			}
			continue
		}
		m, err := e.body.UnmarshalNew()
		if err != nil {
			continue
		}
		u.Resources = append(u.Resources, subscription.Resource{Name: n, Version: e.version, Message: m})
	}
	if len(u.Resources)+len(u.Removed) == 0 {
		return nil
	}
	return u
}
