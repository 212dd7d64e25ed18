package setmetadata

import (
	"encoding/json"
	"testing"

	setmetadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_metadata/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &setmetadatav3.Config{}, &setmetadatav3.Metadata{})
}

func build(t *testing.T, config string) (*Filter, error) {
	t.Helper()
	p := &setmetadatav3.Config{}
	if err := protojson.Unmarshal([]byte(config), p); err != nil {
		t.Fatal(err)
	}
	a, err := anypb.New(p)
	if err != nil {
		t.Fatal(err)
	}
	var r extension.Registry[any, filter.Env]
	extension.Add(&r, New)
	f, err := r.Build(a, filter.Env{Scope: (&stats.Store{}).Root()})
	if err != nil {
		return nil, err
	}
	return f.(*Filter), nil
}

func TestWrites(t *testing.T) {
	for name, c := range map[string]struct {
		config, before, want string
		denied               uint64
	}{
		"new":            {`{"metadata":[{"metadataNamespace":"ns","value":{"k":"v"}}]}`, `null`, `{"ns":{"k":"v"}}`, 0},
		"deprecated":     {`{"metadataNamespace":"ns","value":{"k":"v"}}`, `{"ns":{"k":1,"a":2}}`, `{"ns":{"a":2,"k":"v"}}`, 0},
		"denied":         {`{"metadata":[{"metadataNamespace":"ns","value":{"k":"v"}}]}`, `{"ns":{"k":1}}`, `{"ns":{"k":1}}`, 1},
		"denied by own":  {`{"metadata":[{"metadataNamespace":"ns","value":{"k":1}},{"metadataNamespace":"ns","value":{"k":2}}]}`, `null`, `{"ns":{"k":1}}`, 1},
		"merged":         {`{"metadata":[{"metadataNamespace":"ns","allowOverwrite":true,"value":{"o":{"b":2},"l":[2],"s":"n","x":[1]}}]}`, `{"ns":{"o":{"a":1,"b":1},"l":[1],"s":"o","x":"o"}}`, `{"ns":{"l":[1,2],"o":{"a":1,"b":2},"s":"n","x":[1]}}`, 0},
		"nothing to set": {`{"metadata":[{"metadataNamespace":"ns"}]}`, `null`, `null`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := build(t, c.config)
			if err != nil {
				t.Fatal(err)
			}
			s := &filter.Stream{}
			if err := json.Unmarshal([]byte(c.before), &s.Info.Metadata); err != nil {
				t.Fatal(err)
			}
			if f.OnRequest(s) != filter.Continue {
				t.Error("it stops")
			}
			if got, _ := json.Marshal(s.Info.Metadata); string(got) != c.want || f.stats.Denied.Value() != c.denied {
				t.Errorf("%s, denied %d", got, f.stats.Denied.Value())
			}
		})
	}
}

func TestStreamsDoNotShare(t *testing.T) {
	f, err := build(t, `{"metadata":[{"metadataNamespace":"ns","allowOverwrite":true,"value":{"k":"v","l":[1]}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	a, b := &filter.Stream{}, &filter.Stream{}
	f.OnRequest(a)
	f.OnRequest(a)
	a.Info.Metadata.Set("ns", "k", "changed")
	f.OnRequest(b)
	if got, err := json.Marshal(b.Info.Metadata); err != nil || string(got) != `{"ns":{"k":"v","l":[1]}}` {
		t.Errorf("%s", got)
	}
}

func TestErrors(t *testing.T) {
	for config, want := range map[string]string{
		`{"value":{}}`: "metadata_namespace: is required beside value",
		`{"metadata":[{"metadataNamespace":"ns","typedValue":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}}]}`: "metadata[0].typed_value: is not supported",
	} {
		if _, err := build(t, config); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestAllocations: a map for the stream's metadata and one for the namespace, which outlive the filter; a refusal costs nothing.
func TestAllocations(t *testing.T) {
	f, err := build(t, `{"metadata":[{"metadataNamespace":"ns","value":{"k":"v"}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	s := &filter.Stream{}
	if n := testing.AllocsPerRun(100, func() { clear(s.Info.Metadata); f.OnRequest(s) }); n > 2 {
		t.Errorf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { f.OnRequest(s) }); n != 0 {
		t.Errorf("%v allocations where nothing is written", n)
	}
}
