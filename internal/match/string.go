// Package match holds the matchers that Envoy's configuration is written in (envoy.type.matcher.v3, xds.type.matcher.v3 and
// envoy.config.route.v3.HeaderMatcher and its like), compiled. A compiled matcher is immutable, serves all workers, and does not allocate.
package match

import (
	"errors"
	"fmt"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// String matches a string (envoy.type.matcher.v3.StringMatcher). The zero String matches the empty string only.
type String struct {
	kind kind
	fold bool
	text string // in lower case if fold
	re   *Regex
}

type kind uint8

const (
	exact kind = iota
	prefix
	suffix
	contains
	safeRegex
	anything
)

// Exactly returns the matcher of one string.
func Exactly(s string) String { return String{text: s} }

// CompileString compiles a StringMatcher.
func CompileString(m *matcherv3.StringMatcher) (String, error) {
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		return newString(exact, p.Exact, m.GetIgnoreCase()), nil
	case *matcherv3.StringMatcher_Prefix:
		return newString(prefix, p.Prefix, m.GetIgnoreCase()), nil
	case *matcherv3.StringMatcher_Suffix:
		return newString(suffix, p.Suffix, m.GetIgnoreCase()), nil
	case *matcherv3.StringMatcher_Contains:
		return newString(contains, p.Contains, m.GetIgnoreCase()), nil
	case *matcherv3.StringMatcher_SafeRegex:
		if m.GetIgnoreCase() {
			return String{}, errors.New("ignore_case: has no effect for safe_regex")
		}
		re, err := CompileRegex(p.SafeRegex)
		if err != nil {
			return String{}, fmt.Errorf("safe_regex: %w", err)
		}
		return String{kind: safeRegex, re: re}, nil
	case *matcherv3.StringMatcher_Custom:
		return String{}, fmt.Errorf("custom: %w", unknown(p.Custom))
	}
	return String{}, errors.New("match_pattern: is required")
}

// CompileStrings compiles a list of which any matches (envoy.type.matcher.v3.ListStringMatcher).
func CompileStrings(list []*matcherv3.StringMatcher) ([]String, error) {
	var all []String
	for i, m := range list {
		s, err := CompileString(m)
		if err != nil {
			return nil, fmt.Errorf("[%d].%w", i, err)
		}
		all = append(all, s)
	}
	return all, nil
}

// Any says whether any of list matches s.
func Any(list []String, s string) bool {
	for i := range list {
		if list[i].Match(s) {
			return true
		}
	}
	return false
}

func compileXDSString(m *xdsmatcherv3.StringMatcher) (String, error) {
	switch p := m.GetMatchPattern().(type) {
	case *xdsmatcherv3.StringMatcher_Exact:
		return newString(exact, p.Exact, m.GetIgnoreCase()), nil
	case *xdsmatcherv3.StringMatcher_Prefix:
		return newString(prefix, p.Prefix, m.GetIgnoreCase()), nil
	case *xdsmatcherv3.StringMatcher_Suffix:
		return newString(suffix, p.Suffix, m.GetIgnoreCase()), nil
	case *xdsmatcherv3.StringMatcher_Contains:
		return newString(contains, p.Contains, m.GetIgnoreCase()), nil
	case *xdsmatcherv3.StringMatcher_SafeRegex:
		re, err := NewRegex(p.SafeRegex.GetRegex())
		if err != nil {
			return String{}, fmt.Errorf("safe_regex: %w", err)
		}
		return String{kind: safeRegex, re: re}, nil
	case *xdsmatcherv3.StringMatcher_Custom:
		return String{}, fmt.Errorf("custom: %w", unknown(p.Custom))
	}
	return String{}, errors.New("match_pattern: is required")
}

func newString(k kind, text string, fold bool) String {
	if fold {
		text = lower(text)
	}
	return String{kind: k, text: text, fold: fold}
}

// unknown is Envoy's wording for an extension that is not built in.
func unknown(c *xdscorev3.TypedExtensionConfig) error {
	return fmt.Errorf("didn't find a registered implementation for '%s' with type URL: '%s'", c.GetName(), c.GetTypedConfig().GetTypeUrl())
}

// Match says whether s matches. Cases are folded for ASCII only, as Envoy does.
func (m *String) Match(s string) bool {
	if m.fold {
		return m.matchFold(s)
	}
	switch m.kind {
	case exact:
		return s == m.text
	case prefix:
		return strings.HasPrefix(s, m.text)
	case suffix:
		return strings.HasSuffix(s, m.text)
	case contains:
		return strings.Contains(s, m.text)
	case safeRegex:
		return m.re.Match(s)
	case anything:
		return true
	}
	return false
}

func (m *String) matchFold(s string) bool {
	n := len(m.text)
	if len(s) < n {
		return false
	}
	switch m.kind {
	case exact:
		return len(s) == n && equalLower(s, m.text)
	case prefix:
		return equalLower(s[:n], m.text)
	case suffix:
		return equalLower(s[len(s)-n:], m.text)
	case contains:
		for i := 0; i+n <= len(s); i++ {
			if equalLower(s[i:i+n], m.text) {
				return true
			}
		}
	}
	return false
}

// equalLower says whether s in lower case is t; both are of one length.
func equalLower(s, t string) bool {
	for i := range len(s) {
		if lowerByte(s[i]) != t[i] {
			return false
		}
	}
	return true
}

// EqualFold says whether s and t are the same but for the case of ASCII letters.
func EqualFold(s, t string) bool {
	if len(s) != len(t) {
		return false
	}
	for i := range len(s) {
		if lowerByte(s[i]) != lowerByte(t[i]) {
			return false
		}
	}
	return true
}

func lowerByte(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		b += 'a' - 'A'
	}
	return b
}

// lower folds ASCII letters, and no others.
func lower(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] = lowerByte(b[i])
	}
	return string(b)
}
