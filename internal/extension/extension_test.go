package extension

import (
	"strings"
	"testing"

	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// env is an environment that names extensions.
type env struct{ name string }

func (e env) ExtensionName() string { return e.name }

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func registry() *Registry[string, env] {
	r := &Registry[string, env]{}
	Add(r, func(n *corev3.Node, e env) (string, error) { return e.name + ":" + n.GetId(), nil })
	Add(r, func(*routerv3.Router, env) (string, error) { return "router", nil })
	return r
}

func TestBuild(t *testing.T) {
	value, err := structpb.NewStruct(map[string]any{"id": "x"})
	if err != nil {
		t.Fatal(err)
	}
	bad, err := structpb.NewStruct(map[string]any{"id": 5})
	if err != nil {
		t.Fatal(err)
	}
	const url = "type.googleapis.com/envoy.config.core.v3.Node"
	for name, c := range map[string]struct {
		in        *anypb.Any
		want, err string
	}{
		"message":           {in: pack(t, &corev3.Node{Id: "x"}), want: "n:x"},
		"xds typed struct":  {in: pack(t, &xdsv3.TypedStruct{TypeUrl: url, Value: value}), want: "n:x"},
		"udpa typed struct": {in: pack(t, &udpav1.TypedStruct{TypeUrl: url, Value: value}), want: "n:x"},
		"no host in url":    {in: pack(t, &udpav1.TypedStruct{TypeUrl: "envoy.config.core.v3.Node", Value: value}), want: "n:x"},
		"bad struct":        {in: pack(t, &xdsv3.TypedStruct{TypeUrl: url, Value: bad}), err: "value.id: expected a string"},
		"unknown in struct": {in: pack(t, &xdsv3.TypedStruct{TypeUrl: "t/no.Such"}), err: "didn't find a registered implementation for 'n' with type URL 't/no.Such'"},
		"unknown":           {in: &anypb.Any{TypeUrl: "t/no.Such"}, err: "didn't find a registered implementation for 'n' with type URL 't/no.Such'"},
		"not registered":    {in: pack(t, &corev3.Locality{}), err: "didn't find a registered implementation for 'n' with type URL 'type.googleapis.com/envoy.config.core.v3.Locality'"},
		"nothing":           {in: nil, err: "didn't find a registered implementation for 'n' with type URL ''"},
		"garbage":           {in: &anypb.Any{TypeUrl: url, Value: []byte{0xff}}, err: "unable to unpack as envoy.config.core.v3.Node"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := registry().Build(c.in, env{"n"})
			if c.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.err) {
					t.Errorf("error %v, want %s", err, c.err)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestTypesAndDisable(t *testing.T) {
	r := registry()
	if got := strings.Join(r.Types(), " "); got != "envoy.config.core.v3.Node envoy.extensions.filters.http.router.v3.Router" {
		t.Errorf("types %s", got)
	}
	router := pack(t, &routerv3.Router{})
	if !r.Has(router) || r.Disable("envoy.filters.http.route") || !r.Disable("envoy.filters.http.router") || r.Has(router) || r.Disable("envoy.filters.http.router") {
		t.Error("disabling must hit the extension of that name, once")
	}
}

func TestTwiceIsAMistake(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	Add(registry(), func(*corev3.Node, env) (string, error) { return "", nil })
}
