package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// load makes a loader of the layered_runtime in text.
func load(t *testing.T, text string) (*Loader, *stats.Store) {
	t.Helper()
	l, store, err := tryLoad(t, text)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l, store
}

func tryLoad(t *testing.T, text string) (*Loader, *stats.Store, error) {
	t.Helper()
	p := &bootstrapv3.LayeredRuntime{}
	if _, err := protofile.Parse([]byte(text), protofile.YAML, p); err != nil {
		t.Fatal(err)
	}
	store := &stats.Store{}
	l, err := New(Config{Layered: p, ServiceCluster: "svc", Stats: store.Root()})
	return l, store, err
}

func value(t *testing.T, s *stats.Store, name string) int64 {
	t.Helper()
	for _, x := range s.Snapshot(nil) {
		if x.Name == name {
			return int64(x.Counter) + x.Gauge
		}
	}
	return -1
}

const static = `layers:
- name: base
  static_layer: {a: {b: 1, c: 1.5, d: true, e: x, f: {numerator: 5, denominator: TEN_THOUSAND}, g: {numerator: 3}, h: "1.50", neg: -1, big: 5000000000}, over: 1}
- name: top
  static_layer: {over: 2}
`

func TestValues(t *testing.T) {
	l, store := load(t, static)
	s := l.Load()
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"integer", s.Uint("a.b", 9), uint64(1)},
		{"integer as double", s.Double("a.b", 9), 1.0},
		{"double", s.Double("a.c", 9), 1.5},
		{"double as integer", s.Uint("a.c", 9), uint64(9)},
		{"bool", s.Bool("a.d", false), true},
		{"integer as bool", s.Bool("a.b", false), false},
		{"string", s.String("a.e", ""), "x"},
		{"text of a double", s.Double("a.h", 9), 1.5},
		{"raw text", s.String("a.h", ""), "1.50"},
		{"negative", s.Uint("a.neg", 9), uint64(9)},
		{"large", s.Uint("a.big", 9), uint64(5000000000)},
		{"absent", s.Uint("none", 9), uint64(9)},
		{"no key", s.Uint("", 9), uint64(9)},
		{"last layer wins", s.Uint("over", 9), uint64(2)},
		{"nil loader", (*Loader)(nil).Load().Bool("a.d", false), false},
		{"layers", len(s.Layers()), 2},
		{"layer", s.Layers()[0].Values["over"], "1"},
		{"keys", value(t, store, "runtime.num_keys"), int64(10)},
		{"layer count", value(t, store, "runtime.num_layers"), int64(2)},
		{"loads", value(t, store, "runtime.load_success"), int64(2)},
		{"no directory", value(t, store, "runtime.override_dir_not_exists"), int64(2)},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
}

func TestHit(t *testing.T) {
	l, _ := load(t, static)
	s := l.Load()
	for _, c := range []struct {
		what string
		f    Fraction
		draw uint64
		want bool
	}{
		{"zero", Fraction{}, 0, false},
		{"default below", Fraction{Numerator: 50, Denominator: 100}, 149, true},
		{"default above", Fraction{Numerator: 50, Denominator: 100}, 150, false},
		{"key of a fraction, below", Fraction{Key: "a.f", Numerator: 100, Denominator: 100}, 4, true},
		{"key of a fraction, above", Fraction{Key: "a.f", Numerator: 100, Denominator: 100}, 5, false},
		{"key without denominator", Fraction{Key: "a.g", Denominator: 100}, 102, true},
		{"key of an integer", Fraction{Key: "a.b", Denominator: 1_000_000}, 100, true},
		{"key beyond 100", Fraction{Key: "a.big", Denominator: 100}, 99, true},
		{"key of a string", Fraction{Key: "a.e", Numerator: 100, Denominator: 100}, 99, true},
		{"unknown key", Fraction{Key: "none", Numerator: 1, Denominator: 100}, 1, false},
	} {
		if got := c.f.Hit(s, c.draw); got != c.want {
			t.Errorf("%s: got %v", c.what, got)
		}
	}
	if (Fraction{Key: "x", Numerator: 1, Denominator: 1}).Hit(nil, 0) != true {
		t.Error("a nil snapshot must answer with the default")
	}
	f := Fraction{Key: "a.f"}
	if n := testing.AllocsPerRun(100, func() { f.Hit(l.Load(), 3) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCompile(t *testing.T) {
	l, _ := load(t, static)
	s := l.Load()
	fp := &typev3.FractionalPercent{Numerator: 7, Denominator: typev3.FractionalPercent_MILLION}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"fraction", CompileFraction(&corev3.RuntimeFractionalPercent{DefaultValue: fp, RuntimeKey: "k"}, 100), Fraction{"k", 7, 1_000_000}},
		{"no fraction", CompileFraction(nil, 100), Fraction{"", 100, 100}},
		{"ten thousand", CompileFractionalPercent(&typev3.FractionalPercent{Numerator: 1, Denominator: 1}), Fraction{"", 1, 10_000}},
		{"feature", CompileFeature(&corev3.RuntimeFeatureFlag{RuntimeKey: "a.d", DefaultValue: wrapperspb.Bool(false)}, false).Enabled(s), true},
		{"no feature", CompileFeature(nil, true).Enabled(s), true},
		{"integer", CompileUint(&corev3.RuntimeUInt32{RuntimeKey: "a.b", DefaultValue: 5}, 9).Value(s), uint64(1)},
		{"no integer", CompileUint(nil, 9).Value(s), uint64(9)},
		{"double", CompileDouble(&corev3.RuntimeDouble{RuntimeKey: "none", DefaultValue: 5}, 9).Value(s), 5.0},
		{"no double", CompileDouble(nil, 9).Value(s), 9.0},
		{"percent", CompilePercent(&corev3.RuntimePercent{RuntimeKey: "a.c", DefaultValue: &typev3.Percent{Value: 3}}, 9).Value(s), 1.5},
		{"no percent", CompilePercent(nil, 9).Value(s), 9.0},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"layers: [{name: a, admin_layer: {}}, {name: a, admin_layer: {}}]":   "layers[1].name: duplicate layer name: a",
		"layers: [{name: a, admin_layer: {}}, {name: b, admin_layer: {}}]":   "layers[1].admin_layer: too many admin layers",
		"layers: [{name: a, rtds_layer: {name: x, rtds_config: {ads: {}}}}]": "layers[0].rtds_layer.rtds_config: there is nothing that resources come from",
		"layers: [{name: a, disk_layer: {}}]":                                "layers[0].disk_layer.symlink_root: invalid file path ",
		"layers: [{name: a, disk_layer: {symlink_root: x}}]":                 "layers[0].disk_layer.symlink_root: invalid file path x",
		"layers: [{name: a, disk_layer: {symlink_root: /nowhere/x}}]":        "layers[0].disk_layer.symlink_root: unable to add filesystem watch for file /nowhere/x: ",
		"layers: [{name: a}]":                            "layers[0].layer_specifier: is required",
		"layers: [{name: a, static_layer: {x: [1]}}]":    "layers[0].static_layer: invalid runtime entry value for x",
		"layers: [{name: a, static_layer: {x: {y: ~}}}]": "layers[0].static_layer: invalid runtime entry value for x.y",
	} {
		if _, _, err := tryLoad(t, text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
}

func TestModify(t *testing.T) {
	l, store := load(t, "layers: [{name: s, static_layer: {x: 1}}, {name: adm, admin_layer: {}}]")
	modify := func(values map[string]string) *Snapshot {
		t.Helper()
		if err := l.Modify(values); err != nil {
			t.Fatal(err)
		}
		return l.Load()
	}
	before := l.Load()
	s := modify(map[string]string{"x": "0x10", "f": "{numerator: 1, denominator: MILLION}", "b": "no"})
	if s.Uint("x", 0) != 16 || s.String("x", "") != "0x10" || s.Bool("b", true) || !(Fraction{Key: "f"}).Hit(s, 1_000_000) {
		t.Errorf("layers %v", s.Layers())
	}
	if before.Uint("x", 0) != 1 {
		t.Error("a snapshot changed")
	}
	if got := value(t, store, "runtime.admin_overrides_active"); got != 1 {
		t.Errorf("admin_overrides_active %d", got)
	}
	if s := modify(map[string]string{"x": "", "f": "", "b": ""}); s.Uint("x", 0) != 1 {
		t.Errorf("layers %v", s.Layers())
	}
	if got := value(t, store, "runtime.admin_overrides_active"); got != 0 {
		t.Errorf("admin_overrides_active %d", got)
	}
	none, _ := load(t, "layers: [{name: s, static_layer: {}}]")
	if err := none.Modify(nil); err != ErrNoAdminLayer {
		t.Errorf("error %v", err)
	}
	implied, _ := load(t, "{}")
	if err := implied.Modify(map[string]string{"a": "1"}); err != nil || implied.Load().Uint("a", 0) != 1 {
		t.Errorf("without layers there is an admin layer: %v", err)
	}
}

func TestDeprecatedIsCounted(t *testing.T) {
	l, store := load(t, "{}")
	l.Deprecated(2)
	if value(t, store, "runtime.deprecated_feature_use") != 2 || value(t, store, "runtime.deprecated_feature_seen_since_process_start") != 2 {
		t.Error("not counted")
	}
}

// write writes files below a directory.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDiskLayers(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"v1/sub/health/min": "# comment\n10\n", "v1/sub/flag": "true", "v1/sub/empty": "# nothing\n", "v1/over/svc/health/min": "20",
		"v2/sub/health/min": "30",
	})
	link := filepath.Join(dir, "current")
	if err := os.Symlink("v1", link); err != nil {
		t.Fatal(err)
	}
	l, store := load(t, "layers:\n- {name: d, disk_layer: {symlink_root: "+link+", subdirectory: sub}}\n"+
		"- {name: o, disk_layer: {symlink_root: "+link+", subdirectory: over, append_service_cluster: true}}\n")
	s := l.Load()
	if s.Uint("health.min", 0) != 20 || !s.Bool("flag", false) || s.String("empty", "-") != "" || len(s.Layers()) != 2 {
		t.Errorf("layers %v", s.Layers())
	}
	if got := value(t, store, "runtime.override_dir_exists"); got != 2 {
		t.Errorf("override_dir_exists %d", got)
	}

	if err := os.Symlink("v2", filepath.Join(dir, "next")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "next"), link); err != nil {
		t.Fatal(err)
	}
	waitFor(t, l, func(s *Snapshot) bool { return s.Uint("health.min", 0) == 30 && len(s.Layers()) == 1 })
	l.Close()
}

func TestUnreadableDiskLayerIsCounted(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(append([]string{dir}, strings.Split(strings.Repeat("a/", 20), "/")...)...)
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	l, store := load(t, "layers: [{name: d, disk_layer: {symlink_root: "+dir+"}}, {name: s, static_layer: {x: 1}}]")
	if value(t, store, "runtime.load_error") != 2 || l.Load().Uint("x", 0) != 1 {
		t.Error("an unreadable layer must count as an error and leave the others")
	}
}
