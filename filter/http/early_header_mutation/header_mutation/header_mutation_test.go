package headermutation

import (
	"testing"

	rulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &mutationv3.HeaderMutation{})
}

func TestMutate(t *testing.T) {
	m, err := New(&mutationv3.HeaderMutation{Mutations: []*rulesv3.HeaderMutation{
		{Action: &rulesv3.HeaderMutation_Remove{Remove: "x-out"}},
		{Action: &rulesv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: "x-in", Value: "1"}}}},
	}}, filter.Env{})
	if err != nil {
		t.Fatal(err)
	}
	s := &stream.Stream{}
	s.Request.Header.Add("x-out", "1")
	if !m.Mutate(s) {
		t.Error("the mutations behind it are left out")
	}
	if v, _ := s.Request.Header.Get("x-in"); v != "1" || s.Request.Header.Has("x-out") {
		t.Errorf("%v", s.Request.Header.All())
	}
}

func TestMutateDoesNotAllocate(t *testing.T) {
	m, err := New(&mutationv3.HeaderMutation{Mutations: []*rulesv3.HeaderMutation{
		{Action: &rulesv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: "x-in", Value: "%PROTOCOL%"}}}},
		{Action: &rulesv3.HeaderMutation_Remove{Remove: "x-in"}},
	}}, filter.Env{})
	if err != nil {
		t.Fatal(err)
	}
	s := &stream.Stream{}
	m.Mutate(s)
	if n := testing.AllocsPerRun(100, func() { m.Mutate(s) }); n != 0 { // the arena, which nobody resets here, grows now and then: fewer than one per run
		t.Errorf("%v allocations", n)
	}
}
