package xdsclient

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// The protocol as text: what is wanted, what comes, what is answered, and what goes out after each step.

func TestMachine(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if !strings.HasSuffix(path, ".txt") {
			return
		}
		r := &rig{t: t}
		datadriven.RunTest(t, path, r.step)
	})
}

type rig struct {
	t *testing.T
	m *machine
}

func (r *rig) step(t *testing.T, d *datadriven.TestData) string {
	var out strings.Builder
	switch d.Cmd {
	case "new":
		r.m = newMachine(&corev3.Node{Id: "me"}, d.HasArg("delta"), d.HasArg("always"), checkTest)
	case "want":
		r.m.want(typeNamed(d), names(d)...)
	case "release":
		r.m.release(r.m.kind(typeNamed(d)), names(d)...)
	case "connect":
		r.m.connect()
	case "disconnect":
		r.m.disconnect()
	case "pause", "resume":
		r.m.paused[typeNamed(d).URL] = d.Cmd == "pause"
	case "response":
		r.respond(d, &out)
	default:
		t.Fatalf("no step %q", d.Cmd)
	}
	for _, q := range r.m.requests() {
		fmt.Fprintln(&out, showRequest(q))
	}
	return out.String()
}

// checkTest refuses resources with the value "bad".
func checkTest(m proto.Message) error {
	if c, ok := m.(*clusterv3.Cluster); ok && c.GetLbPolicy() == 99 {
		return errors.New("does not keep the rules")
	}
	return nil
}

// respond takes a response in. A line is a resource, "name value", or "-name" for one that is removed. The argument refuse names
// resources that their watcher refuses; refuse=* refuses all.
func (r *rig) respond(d *datadriven.TestData, out *strings.Builder) {
	var version, nonce string
	d.MaybeScanArgs(r.t, "version", &version)
	d.MaybeScanArgs(r.t, "nonce", &nonce)
	typ := typeNamed(d)
	sotw := &discoveryv3.DiscoveryResponse{TypeUrl: typ.URL, VersionInfo: version, Nonce: nonce}
	delta := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typ.URL, SystemVersionInfo: version, Nonce: nonce}
	for line := range strings.Lines(d.Input) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if gone, ok := strings.CutPrefix(name, "-"); ok {
			delta.RemovedResources = append(delta.RemovedResources, gone)
			continue
		}
		a := resource(r.t, typ, name, value)
		sotw.Resources = append(sotw.Resources, a)
		own := "v" + value
		delta.Resources = append(delta.Resources, &discoveryv3.Resource{Name: name, Version: own, Resource: a})
	}
	var p proto.Message = sotw
	if r.m.delta {
		p = delta
	}
	b := r.m.receive(p)
	if b == nil {
		fmt.Fprintln(out, "ignored")
		return
	}
	showUpdate(out, b)
	r.m.answer(b, r.verdict(d, b))
	fmt.Fprintf(out, "have: %s\n", strings.Join(slices.Sorted(maps.Keys(b.kind.have)), " "))
}

func (r *rig) verdict(d *datadriven.TestData, b *batch) error {
	var refuse []string
	for _, a := range d.CmdArgs {
		if a.Key == "refuse" {
			refuse = a.Vals
		}
	}
	if slices.Contains(refuse, "*") {
		return errors.New("no good")
	}
	all := b.rejected
	for _, n := range refuse {
		all.Add(n, errors.New("no good"))
	}
	return all.Err()
}

func typeNamed(d *datadriven.TestData) subscription.Type {
	switch d.CmdArgs[0].Key {
	case "cds":
		return subscription.Clusters()
	case "eds":
		return subscription.Endpoints()
	}
	d.Fatalf(nil, "no type %s", d.CmdArgs[0].Key)
	return subscription.Type{}
}

func names(d *datadriven.TestData) (l []string) {
	for _, a := range d.CmdArgs[1:] {
		l = append(l, a.Key)
	}
	return l
}

func resource(t testing.TB, typ subscription.Type, name, value string) *anypb.Any {
	var m proto.Message
	switch typ.URL {
	case subscription.Clusters().URL:
		c := &clusterv3.Cluster{Name: name, AltStatName: value}
		if value == "bad" {
			c.LbPolicy = 99 // its definition has no such value
		}
		m = c
	default:
		m = &endpointv3.ClusterLoadAssignment{ClusterName: name, Policy: &endpointv3.ClusterLoadAssignment_Policy{
			OverprovisioningFactor: wrapperspb.UInt32(uint32(100 + len(value))),
		}}
	}
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	if value == "broken" {
		a.Value = []byte{0xff}
	}
	if value == "foreign" {
		a.TypeUrl = "type.googleapis.com/google.protobuf.Empty"
	}
	return a
}

func showUpdate(out *strings.Builder, b *batch) {
	u := b.update(nil)
	for _, r := range u.Resources {
		word := "changed"
		if r.Same {
			word = "same"
		}
		fmt.Fprintf(out, "%s: %s %s\n", word, r.Name, r.Version)
	}
	for _, n := range u.Removed {
		fmt.Fprintf(out, "removed: %s\n", n)
	}
	if u.Complete {
		fmt.Fprintln(out, "complete")
	}
}

func showRequest(p proto.Message) string {
	short := func(url string) string { return url[strings.LastIndex(url, ".")+1:] }
	var parts []string
	add := func(name string, v any) {
		if s := fmt.Sprint(v); s != "" && s != "[]" && s != "map[]" {
			parts = append(parts, name+"="+s)
		}
	}
	switch q := p.(type) {
	case *discoveryv3.DiscoveryRequest:
		parts = append(parts, "send "+short(q.GetTypeUrl()))
		add("names", q.GetResourceNames())
		add("version", q.GetVersionInfo())
		add("nonce", q.GetResponseNonce())
		add("error", q.GetErrorDetail().GetMessage())
		add("node", q.GetNode().GetId())
	case *discoveryv3.DeltaDiscoveryRequest:
		parts = append(parts, "send "+short(q.GetTypeUrl()))
		add("subscribe", q.GetResourceNamesSubscribe())
		add("unsubscribe", q.GetResourceNamesUnsubscribe())
		add("initial", q.GetInitialResourceVersions())
		add("nonce", q.GetResponseNonce())
		add("error", q.GetErrorDetail().GetMessage())
		add("node", q.GetNode().GetId())
	}
	return strings.ReplaceAll(strings.Join(parts, " "), "\u00a0", " ") // protobuf's errors change their spaces by build
}

func FuzzResponses(f *testing.F) {
	typ := subscription.Endpoints()
	for _, r := range []proto.Message{
		&discoveryv3.DiscoveryResponse{TypeUrl: typ.URL, VersionInfo: "1", Nonce: "n", Resources: []*anypb.Any{resource(f, typ, "a", "1"), resource(f, typ, "b", "broken")}},
		&discoveryv3.DeltaDiscoveryResponse{TypeUrl: typ.URL, Nonce: "n", RemovedResources: []string{"a"}, Resources: []*discoveryv3.Resource{{Name: "b", Resource: resource(f, typ, "b", "1")}, {Name: "b"}}},
	} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, delta bool) {
		m := newMachine(&corev3.Node{}, delta, false, checkTest)
		k := m.want(typ, "a", "b")
		m.connect()
		m.requests()
		var p proto.Message = &discoveryv3.DiscoveryResponse{}
		if delta {
			p = &discoveryv3.DeltaDiscoveryResponse{}
		}
		if proto.Unmarshal(b, p) != nil {
			return
		}
		for range 2 {
			batch := m.receive(p)
			if batch == nil {
				return
			}
			batch.update(nil)
			batch.update([]string{"a"})
			m.answer(batch, batch.rejected.Err())
			if len(m.requests()) == 0 {
				t.Error("a response was not answered")
			}
		}
		if k.known([]string{"a", "b"}) != nil && len(k.have)+len(k.absent) == 0 {
			t.Error("something is known that has not come")
		}
		for _, e := range k.have {
			if k.have[e.name] != e {
				t.Errorf("%q is kept under another name", e.name)
			}
		}
	})
}

func anyOfMessage(m proto.Message) ([]*anypb.Any, error) {
	a, err := anypb.New(m)
	return []*anypb.Any{a}, err
}

func parseTest(t *testing.T, text string, m proto.Message) {
	t.Helper()
	unknown, err := protofile.Parse([]byte(text), protofile.YAML, m)
	if err == nil {
		err = protofile.Refuse(unknown)
	}
	if err != nil {
		t.Fatal(err)
	}
}
