package route

import (
	"math"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// request is what matching looks at, computed once.
type request struct {
	s    *stream.Stream
	path string // without query and fragment, and parameters if they are ignored
	draw uint64
}

// finder finds the first route of a list that matches. Exact paths are found by hash and all others by the trie of what their paths have to
// begin with (nothing, in the worst case), so only routes whose path may match are looked at closely.
type finder struct {
	routes []*Route
	exact  map[string][]int32
	trie   node // case-sensitive prefixes
	folded node // prefixes in lower case
}

func newFinder(routes []*Route) finder {
	f := finder{routes: routes, exact: map[string][]int32{}}
	for i, r := range routes {
		switch m := &r.matcher; {
		case m.kind == pathExact && !m.fold:
			f.exact[m.text] = append(f.exact[m.text], int32(i))
		case m.fold:
			f.folded.add(m.literal(), int32(i))
		default:
			f.trie.add(m.literal(), int32(i))
		}
	}
	return f
}

// find returns the first route that matches, nil if none does.
func (f *finder) find(q *request) *Route {
	best := int32(math.MaxInt32)
	best = f.first(f.exact[q.path], best, q)
	best = f.walk(&f.trie, best, q, false)
	best = f.walk(&f.folded, best, q, true)
	if best == math.MaxInt32 {
		return nil
	}
	return f.routes[best]
}

// first returns the first of list that comes before best and matches, else best.
func (f *finder) first(list []int32, best int32, q *request) int32 {
	for _, i := range list {
		if i >= best {
			break
		}
		if f.routes[i].matcher.match(q) {
			return i
		}
	}
	return best
}

func (f *finder) walk(n *node, best int32, q *request, fold bool) int32 {
	rest := q.path
	for {
		best = f.first(n.routes, best, q)
		if rest == "" || n.bytes == "" {
			return best
		}
		c := rest[0]
		if fold {
			c = lowerByte(c)
		}
		i := strings.IndexByte(n.bytes, c)
		if i < 0 {
			return best
		}
		n = &n.children[i]
		if !begins(rest, n.label, fold) {
			return best
		}
		rest = rest[len(n.label):]
	}
}

// begins says whether s begins with label; with fold set, label is in lower case.
func begins(s, label string, fold bool) bool {
	if !fold {
		return strings.HasPrefix(s, label)
	}
	if len(s) < len(label) {
		return false
	}
	for i := range len(label) {
		if lowerByte(s[i]) != label[i] {
			return false
		}
	}
	return true
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// node is a place in a trie whose edges are strings.
type node struct {
	label    string
	bytes    string // first bytes of the labels of children
	children []node
	routes   []int32 // those whose prefix ends here
}

func (n *node) add(prefix string, route int32) {
	if prefix == "" {
		n.routes = append(n.routes, route)
		return
	}
	i := strings.IndexByte(n.bytes, prefix[0])
	if i < 0 {
		n.bytes += prefix[:1]
		n.children = append(n.children, node{label: prefix, routes: []int32{route}})
		return
	}
	c := &n.children[i]
	k := common(prefix, c.label)
	if k < len(c.label) {
		lower := *c
		lower.label = c.label[k:]
		*c = node{label: c.label[:k], bytes: lower.label[:1], children: []node{lower}}
	}
	c.add(prefix[k:], route)
}

// common returns the length of what a and b begin with.
func common(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
