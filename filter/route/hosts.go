package route

import (
	"fmt"
	"slices"
	"strings"
)

// hosts finds the virtual host of a name: exact names first, then *.suffixes, then prefixes.*, the longest first in both, then *.
type hosts struct {
	exact        map[string]*VirtualHost
	suffixes     wildcards
	prefixes     wildcards
	fallback     *VirtualHost
	onlyFallback bool
}

// wildcards are found by hash, one look-up for each length that occurs.
type wildcards struct {
	byText  map[string]*VirtualHost
	lengths []int // longest first
}

func newHosts() *hosts {
	return &hosts{exact: map[string]*VirtualHost{}, suffixes: wildcards{byText: map[string]*VirtualHost{}}, prefixes: wildcards{byText: map[string]*VirtualHost{}}}
}

func (h *hosts) add(domains []string, v *VirtualHost) error {
	for i, d := range domains {
		d = strings.ToLower(d)
		var twice bool
		switch {
		case d == "*":
			if h.fallback != nil {
				return fmt.Errorf("domains[%d]: only a single wildcard domain is permitted in route", i)
			}
			h.fallback = v
		case strings.HasPrefix(d, "*"):
			twice = put(h.suffixes.byText, d[1:], v)
		case strings.HasSuffix(d, "*"):
			twice = put(h.prefixes.byText, d[:len(d)-1], v)
		default:
			twice = put(h.exact, d, v)
		}
		if twice {
			return fmt.Errorf("domains[%d]: only unique values for domains are permitted, duplicate entry of domain %s", i, d)
		}
	}
	return nil
}

func put(m map[string]*VirtualHost, key string, v *VirtualHost) (twice bool) {
	_, twice = m[key]
	m[key] = v
	return twice
}

func (h *hosts) finish() {
	h.suffixes.finish()
	h.prefixes.finish()
	h.onlyFallback = len(h.exact)+len(h.suffixes.lengths)+len(h.prefixes.lengths) == 0
}

func (w *wildcards) finish() {
	for text := range w.byText {
		if !slices.Contains(w.lengths, len(text)) {
			w.lengths = append(w.lengths, len(text))
		}
	}
	slices.Sort(w.lengths)
	slices.Reverse(w.lengths)
}

// find returns the virtual host of a name in lower case, nil if there is none. A wildcard stands for one byte at least.
func (h *hosts) find(name string) *VirtualHost {
	if v, ok := h.exact[name]; ok {
		return v
	}
	for _, n := range h.suffixes.lengths {
		if n < len(name) {
			if v, ok := h.suffixes.byText[name[len(name)-n:]]; ok {
				return v
			}
		}
	}
	for _, n := range h.prefixes.lengths {
		if n < len(name) {
			if v, ok := h.prefixes.byText[name[:n]]; ok {
				return v
			}
		}
	}
	return h.fallback
}
