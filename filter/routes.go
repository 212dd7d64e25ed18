package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/filter/route"
	"github.com/outrigger-proxy/outrigger/internal/snapshot"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// Routes are the route tables that a control plane sends (RDS). Connection managers that name the same one share it. It belongs to the
// control loop.
type Routes struct {
	// set at construction
	source subscription.Source
	// owned by the control loop
	tables map[routesKey]*Table
}

type routesKey struct{ from, name string }

// NewRoutes makes a store without tables; source may be nil: nothing can be asked for.
func NewRoutes(source subscription.Source) *Routes {
	return &Routes{source: source, tables: map[routesKey]*Table{}}
}

// Table is a route table that changes.
type Table struct {
	// set at construction
	owner   *Routes
	key     routesKey
	wish    subscription.Subscription
	scope   stats.Scope
	stats   *routeTableStats
	compile func(*routev3.RouteConfiguration) (*route.Table, error)
	// owned by the control loop
	users   int
	heard   bool
	waiting []func()
	view    RouteView
	// atomic
	current snapshot.Value[route.Table]
}

type routeTableStats struct {
	Reload     stats.Counter `stat:"config_reload"`
	ReloadTime stats.Gauge   `stat:"config_reload_time_ms"`
	Empty      stats.Counter `stat:"update_empty"`
}

// RouteView is what the admin interface shows of a table.
type RouteView struct {
	Name, Version string
	Updated       time.Time
	Proto         *routev3.RouteConfiguration // nil: none has come
}

// RouteWish is what a connection manager wants.
type RouteWish struct {
	Name  string
	From  *corev3.ConfigSource
	Scope stats.Scope // http.<stat_prefix>.
	// Compile makes the table of what comes.
	Compile func(*routev3.RouteConfiguration) (*route.Table, error)
	// Warm is filter.Listener.Warm; it may be nil.
	Warm func() (ready func())
}

// Subscribe returns the table of a name; Release gives it back. The error begins with the field of envoy...Rds.
func (r *Routes) Subscribe(w RouteWish) (*Table, error) {
	if r == nil || r.source == nil {
		return nil, errors.New("config_source: there is no control plane to ask")
	}
	from, err := proto.MarshalOptions{Deterministic: true}.Marshal(w.From)
	if err != nil {
		return nil, fmt.Errorf("config_source: %w", err)
	}
	key := routesKey{string(from), w.Name}
	t := r.tables[key]
	fresh := t == nil
	if fresh {
		if t, err = r.make(key, w); err != nil {
			return nil, err
		}
	}
	t.users++
	if fresh {
		t.wish.Start()
	}
	if !t.heard && w.Warm != nil {
		t.waiting = append(t.waiting, w.Warm())
	}
	return t, nil
}

func (r *Routes) make(key routesKey, w RouteWish) (*Table, error) {
	nothing, err := route.Compile(&routev3.RouteConfiguration{}, route.Env{})
	if err != nil {
		return nil, err
	}
	t := &Table{owner: r, key: key, scope: w.Scope.Sub("rds").Sub(w.Name), compile: w.Compile, view: RouteView{Name: w.Name}}
	t.current.Store(nothing)
	t.wish, err = r.source.Subscribe(w.From, subscription.Wish{
		Type: subscription.Routes(), Names: []string{w.Name}, Scope: t.scope, Watcher: routeWatcher{t},
	})
	if err != nil {
		return nil, fmt.Errorf("config_source.%w", err)
	}
	t.stats = stats.New[routeTableStats](t.scope)
	r.tables[key] = t
	return t, nil
}

// Load returns the current table; it has no routes before the first has come. Any goroutine may call it.
func (t *Table) Load() *route.Table { return t.current.Load() }

// Release gives a table back. The last one ends the subscription.
func (t *Table) Release() {
	if t.users--; t.users > 0 {
		return
	}
	delete(t.owner.tables, t.key)
	t.wish.Close()
	stats.Drop[routeTableStats](t.scope)
}

// Each calls f for every table, sorted by name.
func (r *Routes) Each(f func(RouteView)) {
	var l []RouteView
	for _, t := range r.tables {
		l = append(l, t.view)
	}
	slices.SortFunc(l, func(a, b RouteView) int { return strings.Compare(a.Name, b.Name) })
	for _, v := range l {
		f(v)
	}
}

// routeWatcher is the side of a Table that the subscription sees.
type routeWatcher struct{ t *Table }

// Update takes a table in. A removal is ignored, as in Envoy: whoever refers to the table goes first.
func (w routeWatcher) Update(u *subscription.Update) error {
	t := w.t
	switch len(u.Resources) {
	case 0:
		if len(u.Removed) == 0 {
			t.stats.Empty.Inc()
		}
		t.answered()
		return nil
	case 1:
	default:
		return fmt.Errorf("Unexpected RDS resource length: %d", len(u.Resources))
	}
	if u.Resources[0].Same {
		return nil
	}
	p, ok := u.Resources[0].Message.(*routev3.RouteConfiguration)
	if !ok || p.GetName() != t.key.name {
		return fmt.Errorf("Unexpected RDS configuration (expecting %s): %s", t.key.name, p.GetName())
	}
	table, err := t.compile(p)
	if err != nil {
		return err
	}
	t.current.Store(table)
	t.stats.Reload.Inc()
	t.stats.ReloadTime.Set(time.Now().UnixMilli())
	t.view = RouteView{Name: t.key.name, Version: u.Resources[0].Version, Updated: time.Now(), Proto: p}
	t.answered()
	return nil
}

// Failed lets nobody wait any longer.
func (w routeWatcher) Failed() { w.t.answered() }

func (t *Table) answered() {
	t.heard = true
	waiting := t.waiting
	t.waiting = nil
	for _, f := range waiting {
		f()
	}
}
