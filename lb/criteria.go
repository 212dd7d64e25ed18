package lb

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Criterion is one key of metadata_match in namespace envoy.lb. Value is the value in canonical JSON. Criteria are sorted by key.
type Criterion struct {
	Key, Value string

	hash uint64
}

// NewCriterion makes the criterion of a key and a value in canonical JSON.
func NewCriterion(key, value string) Criterion {
	return Criterion{key, value, Seeded(value, xxhash.Sum64String(key))}
}

// Hash is equal for equal criteria. The sum of hashes is one for a set of criteria.
func (c *Criterion) Hash() uint64 { return c.hash }

// FallbackList is the key of metadata_match that holds a list of criteria to try one after the other, in clusters that have it so.
const FallbackList = "fallback_list"

// Canonical is the JSON text of a value of a Struct, with the keys of maps sorted: equal values have equal texts.
func Canonical(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "" // such values always marshal
	}
	return string(b)
}

// Criteria makes the sorted criteria of what a route's metadata_match (or a default subset) says under envoy.lb. The values are those
// of encoding/json.
func Criteria(values map[string]any) []Criterion {
	l := make([]Criterion, 0, len(values))
	for k, v := range values {
		l = append(l, NewCriterion(k, Canonical(v)))
	}
	sortCriteria(l)
	return l
}

// Merge lays criteria over others: those of a key that both have are the upper ones.
func Merge(below, above []Criterion) []Criterion {
	l := slices.Clone(above)
	for _, c := range below {
		if !slices.ContainsFunc(above, func(a Criterion) bool { return a.Key == c.Key }) {
			l = append(l, c)
		}
	}
	sortCriteria(l)
	return l
}

func sortCriteria(l []Criterion) {
	slices.SortFunc(l, func(a, b Criterion) int { return strings.Compare(a.Key, b.Key) })
}

// Fallbacks reads the fallback_list among criteria: the others with each entry of the list laid over them, or the others alone if the
// list is empty; nil if there is none.
func Fallbacks(match []Criterion) [][]Criterion {
	i := slices.IndexFunc(match, func(c Criterion) bool { return c.Key == FallbackList })
	if i < 0 {
		return nil
	}
	others := slices.Delete(slices.Clone(match), i, i+1)
	var entries []any
	if json.Unmarshal([]byte(match[i].Value), &entries) != nil || len(entries) == 0 {
		return [][]Criterion{others}
	}
	var all [][]Criterion
	for _, e := range entries {
		values, _ := e.(map[string]any) // what is no object says nothing
		all = append(all, Merge(others, Criteria(values)))
	}
	return all
}
