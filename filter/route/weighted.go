package route

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/outrigger-proxy/outrigger/internal/hashpolicy"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

// weighted draws one of several routes that differ in their cluster (envoy.config.route.v3.WeightedCluster).
type weighted struct {
	routes  []*Route
	weights []uint64
	total   uint64
	keys    []string // of the runtime; nil: weights are fixed
	runtime *runtime.Loader
	header  string // holds the draw; empty: none
	hash    hashpolicy.List
}

// pick returns the route that the draw falls on; nil if the runtime has set all weights to 0.
func (w *weighted) pick(s *stream.Stream, draw uint64) *Route {
	draw = w.draw(s, draw)
	if w.keys != nil {
		return w.pickRuntime(draw)
	}
	draw %= w.total
	for i, n := range w.weights {
		if draw < n {
			return w.routes[i]
		}
		draw -= n
	}
	return nil
}

// draw is the number that decides: that of a header, or the hash of the request, or the one that is there.
func (w *weighted) draw(s *stream.Stream, draw uint64) uint64 {
	if w.header != "" {
		if v, ok := match.HeaderValue(&s.Request, w.header); ok {
			if n, ok := decimal(v); ok {
				return n
			}
		}
	}
	if len(w.hash) > 0 {
		if h, ok, _ := w.hash.Hash(s, nil); ok {
			return h
		}
	}
	return draw
}

// decimal is strconv.ParseUint without the error, which would be allocated.
func decimal(s string) (n uint64, ok bool) {
	for i := range len(s) {
		d := uint64(s[i] - '0')
		if d > 9 || n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n = 10*n + d
	}
	return n, s != ""
}

func (w *weighted) pickRuntime(draw uint64) *Route {
	snapshot, total := w.runtime.Load(), uint64(0)
	for i, n := range w.weights {
		total += snapshot.Uint(w.keys[i], n)
	}
	if total == 0 {
		return nil
	}
	draw %= total
	for i, n := range w.weights {
		if n = snapshot.Uint(w.keys[i], n); draw < n {
			return w.routes[i]
		}
		draw -= n
	}
	return nil
}

// compileWeighted makes a route of each entry: a copy of r that goes to the entry's cluster.
func (t *compiler) compileWeighted(p *routev3.WeightedCluster, r *Route) error {
	w := &weighted{runtime: t.env.Runtime, header: strings.ToLower(p.GetHeaderName())}
	if p.GetUseHashPolicy().GetValue() {
		w.hash = r.Action.HashPolicy
	}
	for i, c := range p.GetClusters() {
		e, err := t.entry(c, r)
		if err != nil {
			return fmt.Errorf("weighted_clusters.clusters[%d]%w", i, err)
		}
		weight := uint64(c.GetWeight().GetValue())
		w.routes, w.weights, w.total = append(w.routes, e), append(w.weights, weight), w.total+weight
		if prefix := p.GetRuntimeKeyPrefix(); prefix != "" {
			w.keys = append(w.keys, prefix+"."+c.GetName())
		}
	}
	if w.total == 0 {
		return errors.New("weighted_clusters: sum of weights in the weighted_cluster must be greater than 0.")
	}
	if w.total > 1<<32-1 {
		return fmt.Errorf("weighted_clusters: the sum of weights of all upstream clusters %d exceeds the maximum of %d", w.total, uint32(1<<32-1))
	}
	r.weighted = w
	return nil
}

func (t *compiler) entry(c *routev3.WeightedCluster_ClusterWeight, r *Route) (*Route, error) {
	if c.GetWeight() == nil {
		return nil, errors.New(".weight: is required")
	}
	if (c.GetName() == "") == (c.GetClusterHeader() == "") {
		return nil, errors.New(": exactly one of name and cluster_header must be specified")
	}
	e, a := *r, *r.Action
	e.Action, e.weighted = &a, nil
	a.Cluster, a.ClusterHeader = c.GetName(), strings.ToLower(c.GetClusterHeader())
	if err := t.known(a.Cluster, "unknown cluster"); err != nil {
		return nil, fmt.Errorf(".name: %w", err)
	}
	var err error
	if a.MetadataMatch, err = mergeCriteria(r.Action.MetadataMatch, c.GetMetadataMatch()); err != nil {
		return nil, fmt.Errorf(".metadata_match: %w", err)
	}
	a.Fallbacks = lb.Fallbacks(a.MetadataMatch)
	l, err := compileLevel(c)
	if err != nil {
		return nil, fmt.Errorf(".%w", err)
	}
	e.entry = &entryEdits{l, c.GetHostRewriteLiteral()}
	own, err := t.filterConfigs(c.GetTypedPerFilterConfig())
	if err != nil {
		return nil, fmt.Errorf(".%w", err)
	}
	e.filters = slices.Concat(own, r.filters)
	return &e, nil
}
