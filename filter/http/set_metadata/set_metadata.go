// Package setmetadata is the HTTP filter envoy.filters.http.set_metadata
// (type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config): it writes dynamic metadata from the configuration.
//
// Differences to Envoy: typed_value is refused.
package setmetadata

import (
	"maps"
	"slices"

	setmetadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_metadata/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Filter writes the same values to each stream.
type Filter struct {
	// set at construction
	entries []entry
	stats   *counters
}

type counters struct {
	Denied stats.Counter `stat:"overwrite_denied"`
}

// New builds the filter.
func New(p *setmetadatav3.Config, env filter.Env) (any, error) {
	entries, err := parse(p)
	if err != nil {
		return nil, err
	}
	return &Filter{entries, stats.New[counters](env.Scope.Sub("set_metadata"))}, nil
}

// OnRequest writes the entries in their order.
func (f *Filter) OnRequest(s *filter.Stream) filter.Status {
	for i := range f.entries {
		e := &f.entries[i]
		if _, there := s.Info.Metadata[e.namespace]; there && !e.overwrite {
			f.stats.Denied.Inc()
			continue
		}
		e.write(&s.Info.Metadata)
	}
	return filter.Continue
}

// write merges the entry into m. The values of the configuration are shared by all streams, so the namespace gets a map of its own,
// and what lies deeper is never changed in place.
func (e *entry) write(m *stream.Metadata) {
	if *m == nil {
		*m = stream.Metadata{}
	}
	if old := (*m)[e.namespace]; old != nil {
		(*m)[e.namespace] = merge(old, e.value)
		return
	}
	(*m)[e.namespace] = maps.Clone(e.value)
}

// merge returns old with value laid over it: objects are merged, lists are joined, all else is replaced.
func merge(old, value map[string]any) map[string]any {
	merged := maps.Clone(old)
	for k, v := range value {
		merged[k] = join(merged[k], v)
	}
	return merged
}

func join(old, value any) any {
	switch v := value.(type) {
	case map[string]any:
		if o, ok := old.(map[string]any); ok {
			return merge(o, v)
		}
	case []any:
		if o, ok := old.([]any); ok {
			return append(slices.Clip(o), v...)
		}
	}
	return value
}
