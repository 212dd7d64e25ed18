package match

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// Regex is a regular expression in the syntax of RE2 (envoy.type.matcher.v3.RegexMatcher). It runs in linear time and knows no
// look-around or back references.
type Regex struct {
	full *regexp.Regexp // anchored at both ends
	part *regexp.Regexp // as it is written
}

// CompileRegex compiles a RegexMatcher. The program size limit that google_re2 may set is held against the size of our program.
func CompileRegex(m *matcherv3.RegexMatcher) (*Regex, error) {
	r, err := NewRegex(m.GetRegex())
	if err != nil {
		return nil, err
	}
	if limit := m.GetGoogleRe2().GetMaxProgramSize(); limit != nil {
		if n := programSize(m.GetRegex()); n > int(limit.GetValue()) {
			return nil, fmt.Errorf("google_re2.max_program_size: regex '%s' has a program of size %d, more than %d", m.GetRegex(), n, limit.GetValue())
		}
	}
	return r, nil
}

// NewRegex compiles a pattern.
func NewRegex(pattern string) (*Regex, error) {
	part, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("invalid regex '%s': %w", pattern, err)
	}
	full, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("invalid regex '%s': %w", pattern, err)
	}
	return &Regex{full, part}, nil
}

func programSize(pattern string) int {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0
	}
	p, err := syntax.Compile(re.Simplify())
	if err != nil {
		return 0
	}
	return len(p.Inst)
}

// Match says whether all of s matches, as Envoy's RegexMatcher does.
func (r *Regex) Match(s string) bool { return r.full.MatchString(s) }

// Literal returns what every string that matches begins with, as far as that is known.
func (r *Regex) Literal() string {
	s, _ := r.part.LiteralPrefix()
	return s
}

// Find returns the first match of the unanchored pattern and its groups, as regexp.FindStringSubmatch does.
func (r *Regex) Find(s string) []string { return r.part.FindStringSubmatch(s) }

// Groups returns all of s and its groups if all of s matches, else nil.
func (r *Regex) Groups(s string) []string { return r.full.FindStringSubmatch(s) }

// Substitution replaces what a pattern matches (envoy.type.matcher.v3.RegexMatchAndSubstitute).
type Substitution struct {
	re    *regexp.Regexp
	parts []part
	idle  bool // there is nothing that could stand for a match
}

// part is text, or a group if group >= 0.
type part struct {
	text  string
	group int
}

// CompileSubstitution compiles a RegexMatchAndSubstitute. \0 to \9 stand for groups, \\ for a backslash. As with RE2 in Envoy, nothing is
// replaced where a group does not exist, and what follows another escape is left out.
func CompileSubstitution(m *matcherv3.RegexMatchAndSubstitute) (*Substitution, error) {
	r, err := CompileRegex(m.GetPattern())
	if err != nil {
		return nil, fmt.Errorf("pattern: %w", err)
	}
	s := &Substitution{re: r.part}
	s.parse(m.GetSubstitution())
	return s, nil
}

func (s *Substitution) parse(text string) {
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			s.parts = append(s.parts, part{lit.String(), -1})
			lit.Reset()
		}
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			lit.WriteByte(text[i])
			continue
		}
		i++
		switch {
		case i < len(text) && text[i] == '\\':
			lit.WriteByte('\\')
		case i < len(text) && '0' <= text[i] && text[i] <= '9':
			flush()
			s.parts = append(s.parts, part{"", int(text[i] - '0')})
		default:
			i = len(text)
		}
	}
	flush()
	groups := s.re.NumSubexp()
	s.idle = slices.ContainsFunc(s.parts, func(p part) bool { return p.group > groups })
}

// Append appends text with each match that does not overlap another replaced (RE2::GlobalReplace).
func (s *Substitution) Append(b []byte, text string) []byte {
	if s.idle {
		return append(b, text...)
	}
	last := 0
	for _, m := range s.re.FindAllStringSubmatchIndex(text, -1) {
		b = append(b, text[last:m[0]]...)
		for _, p := range s.parts {
			switch {
			case p.group < 0:
				b = append(b, p.text...)
			case m[2*p.group] >= 0:
				b = append(b, text[m[2*p.group]:m[2*p.group+1]]...)
			}
		}
		last = m[1]
	}
	return append(b, text[last:]...)
}
