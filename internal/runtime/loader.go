package runtime

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"go.uber.org/zap"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/snapshot"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// ErrNoAdminLayer is Modify's answer if the bootstrap lists layers and none is an admin layer.
var ErrNoAdminLayer = errors.New("no admin layer specified")

// Config is what a Loader is made of.
type Config struct {
	// Layered is the bootstrap's layered_runtime; without layers there is one admin layer.
	Layered *bootstrapv3.LayeredRuntime
	// ServiceCluster is the name that append_service_cluster appends.
	ServiceCluster string
	// Stats is the scope below which runtime.* stands.
	Stats stats.Scope
	// Resources are where layers of a control plane come from; nil: there is no such place.
	Resources subscription.Source
	// Log is the logger of component "runtime".
	Log *zap.Logger
}

// Loader reads the layers and publishes snapshots of them.
type Loader struct {
	// set at construction
	layers   []source
	remote   []*rtdsLayer
	admin    *adminLayer
	stats    *loaderStats
	log      *zap.Logger
	watchers []*watcher
	// mu serializes reloads
	mu sync.Mutex
	// atomic
	current snapshot.Value[Snapshot]
}

type loaderStats struct {
	AdminOverridesActive  stats.Gauge   `stat:"admin_overrides_active"`
	DeprecatedFeatureSeen stats.Gauge   `stat:"deprecated_feature_seen_since_process_start"`
	DeprecatedFeatureUse  stats.Counter `stat:"deprecated_feature_use"`
	LoadError             stats.Counter `stat:"load_error"`
	LoadSuccess           stats.Counter `stat:"load_success"`
	NumKeys               stats.Gauge   `stat:"num_keys"`
	NumLayers             stats.Gauge   `stat:"num_layers"`
	OverrideDirExists     stats.Counter `stat:"override_dir_exists"`
	OverrideDirNotExists  stats.Counter `stat:"override_dir_not_exists"`
}

// source is a configured layer.
type source interface {
	// read returns the layer's values; present is false for a layer that does not count (a directory that is not there).
	read() (values map[string]entry, present bool, err error)
	layerName() string
}

// New makes a loader, reads the layers, and watches those on disk until Close. An error begins with the path within layered_runtime.
func New(c Config) (*Loader, error) {
	l := &Loader{stats: stats.New[loaderStats](c.Stats.Sub("runtime")), log: c.Log}
	if l.log == nil {
		l.log = zap.NewNop()
	}
	if err := l.configure(c); err != nil {
		l.Close()
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reload()
	l.reload() // as Envoy does, once layers over xDS have had their chance: its counters show two
	return l, nil
}

func (l *Loader) configure(c Config) error {
	seen := map[string]bool{}
	for i, p := range c.Layered.GetLayers() {
		path := fmt.Sprintf("layers[%d]", i)
		if seen[p.GetName()] {
			return fmt.Errorf("%s.name: duplicate layer name: %s", path, p.GetName())
		}
		seen[p.GetName()] = true
		if err := l.add(p, c); err != nil {
			return fmt.Errorf("%s.%w", path, err)
		}
	}
	if len(l.layers) == 0 {
		l.admin = &adminLayer{}
		l.layers = []source{l.admin}
	}
	return nil
}

func (l *Loader) add(p *bootstrapv3.RuntimeLayer, c Config) error {
	switch k := p.GetLayerSpecifier().(type) {
	case *bootstrapv3.RuntimeLayer_StaticLayer:
		values := map[string]entry{}
		if err := flattenStruct(values, "", k.StaticLayer); err != nil {
			return fmt.Errorf("static_layer: %w", err)
		}
		l.layers = append(l.layers, &staticLayer{p.GetName(), values})
	case *bootstrapv3.RuntimeLayer_DiskLayer_:
		d := newDiskLayer(p.GetName(), k.DiskLayer, c.ServiceCluster)
		l.layers = append(l.layers, d)
		return l.watch(d)
	case *bootstrapv3.RuntimeLayer_AdminLayer_:
		if l.admin != nil {
			return errors.New("admin_layer: too many admin layers specified in LayeredRuntime, at most one may be specified")
		}
		l.admin = &adminLayer{name: p.GetName()}
		l.layers = append(l.layers, l.admin)
	case *bootstrapv3.RuntimeLayer_RtdsLayer_:
		if err := l.addRTDS(p.GetName(), k.RtdsLayer, c); err != nil {
			return fmt.Errorf("rtds_layer.%w", err)
		}
	default:
		return errors.New("layer_specifier: is required")
	}
	return nil
}

// Load returns the current snapshot. A nil Loader has none, and a nil Snapshot answers with defaults.
func (l *Loader) Load() *Snapshot {
	if l == nil {
		return nil
	}
	return l.current.Load()
}

// Modify sets keys of the admin layer; an empty value removes one.
func (l *Loader) Modify(values map[string]string) error {
	if l.admin == nil {
		return ErrNoAdminLayer
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.admin.modify(values)
	l.stats.AdminOverridesActive.Set(int64(min(1, len(l.admin.values))))
	l.reload()
	return nil
}

// watch begins to reload when a disk layer's symlink_root is replaced by a rename.
func (l *Loader) watch(d *diskLayer) error {
	if !strings.Contains(d.root, "/") {
		return fmt.Errorf("disk_layer.symlink_root: invalid file path %s", d.root)
	}
	w, err := watch(d.root, l.changed)
	if err != nil {
		return fmt.Errorf("disk_layer.symlink_root: unable to add filesystem watch for file %s: %w", d.root, err)
	}
	l.watchers = append(l.watchers, w)
	return nil
}

func (l *Loader) changed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reload()
}

// Close ends the watches. A nil Loader has none.
func (l *Loader) Close() {
	if l == nil {
		return
	}
	for _, w := range l.watchers {
		w.close()
	}
	l.watchers = nil
}

// Deprecated counts n uses of deprecated fields.
func (l *Loader) Deprecated(n int) {
	l.stats.DeprecatedFeatureUse.Add(uint64(n))
	l.stats.DeprecatedFeatureSeen.Add(int64(n))
}

// reload reads all layers and publishes the next snapshot. The caller holds mu.
func (l *Loader) reload() {
	s := &Snapshot{final: map[string]entry{}}
	disks, failed := 0, false
	for _, src := range l.layers {
		values, present, err := src.read()
		if err != nil {
			failed = true
			l.log.Debug("error loading runtime values for layer " + src.layerName() + " from disk: " + err.Error())
			continue
		}
		if !present {
			continue
		}
		if _, disk := src.(*diskLayer); disk {
			disks++
		}
		s.layers = append(s.layers, Layer{src.layerName(), raw(values)})
		maps.Copy(s.final, values)
	}
	l.count(s, disks, failed)
	l.current.Store(s)
}

func (l *Loader) count(s *Snapshot, disks int, failed bool) {
	if failed {
		l.stats.LoadError.Inc()
	} else {
		l.stats.LoadSuccess.Inc()
	}
	if disks > 1 {
		l.stats.OverrideDirExists.Inc()
	} else {
		l.stats.OverrideDirNotExists.Inc()
	}
	l.stats.NumLayers.Set(int64(len(s.layers)))
	l.stats.NumKeys.Set(int64(len(s.final)))
}

func raw(values map[string]entry) map[string]string {
	r := make(map[string]string, len(values))
	for k, e := range values {
		r[k] = e.raw
	}
	return r
}

type staticLayer struct {
	name   string
	values map[string]entry
}

func (s *staticLayer) layerName() string                     { return s.name }
func (s *staticLayer) read() (map[string]entry, bool, error) { return s.values, true, nil }

// adminLayer is what /runtime_modify changes; the loader's mu guards values.
type adminLayer struct {
	name   string
	values map[string]entry
}

func (a *adminLayer) layerName() string                     { return a.name }
func (a *adminLayer) read() (map[string]entry, bool, error) { return a.values, true, nil }

func (a *adminLayer) modify(values map[string]string) {
	next := maps.Clone(a.values)
	if next == nil {
		next = map[string]entry{}
	}
	for k, v := range values {
		if v == "" {
			delete(next, k)
		} else {
			next[k] = fromText(v)
		}
	}
	a.values = next
}

// fromText reads the text of a file or of an admin request: a YAML scalar, or a FractionalPercent as a YAML map.
func fromText(s string) entry {
	v, err := protofile.Value([]byte(s))
	if err != nil {
		return text(s)
	}
	e := parse(v)
	e.raw = s
	return e
}
