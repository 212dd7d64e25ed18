package compressor

import (
	"strconv"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/header"
)

// kind says how a choice came about.
type kind uint8

const (
	notValid kind = iota // nothing that is accepted is there
	identity             // the client prefers it as it is
	wildcard             // it takes anything
	named
)

// choice is what becomes of a response.
type choice struct {
	kind     kind
	encoding string
}

// choose finds the encoding that the client likes best (RFC 9110, section 12.5.3), among those of the compressors that would compress a
// response with this head. Of two that it likes the same, the first in its list is taken, unless a compressor wants to be chosen first.
func choose(accept string, all []*Filter, h *header.Map) choice {
	best, weight := choice{}, 0.0
	if strings.TrimSpace(accept) == "" {
		return choice{kind: identity}
	}
	for item := range strings.SplitSeq(accept, ",") {
		name, q, ok := weighted(item)
		if !ok {
			return choice{}
		}
		c, first := offer(name, all, h)
		if c.kind == notValid || q == 0 {
			continue
		}
		if q > weight || q == weight && first {
			best, weight = c, q
		}
	}
	return best
}

// offer is what there is for a name in accept-encoding.
func offer(name string, all []*Filter, h *header.Map) (c choice, first bool) {
	if name == "identity" {
		return choice{kind: identity}, false
	}
	for _, f := range all {
		if !f.allowed(h) {
			continue
		}
		if name == "*" {
			return choice{wildcard, f.library.encoding}, false
		}
		if f.library.encoding == name {
			return choice{named, name}, f.chooseFirst
		}
	}
	return choice{}, false
}

// weighted reads a name with its weight.
func weighted(item string) (name string, q float64, ok bool) {
	name, rest, more := strings.Cut(item, ";")
	name = strings.ToLower(strings.TrimSpace(name))
	if !more {
		return name, 1, true
	}
	v, isQ := strings.CutPrefix(strings.TrimSpace(rest), "q=")
	if !isQ {
		return name, 1, true
	}
	q, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
	return name, q, err == nil && q >= 0 && q <= 1
}
