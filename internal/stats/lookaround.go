package stats

import (
	"regexp"
	"time"

	"github.com/dlclark/regexp2"
)

// Envoy reads the expressions of stats_tags with std::regex, which has look-around: istiod's bootstrap needs it. Package regexp has none, for
// a good reason, so an expression that it refuses is given to a matcher that goes back, with a limit to its patience.

// pattern finds groups: pairs of indexes, the whole match first, as regexp.Regexp does.
type pattern interface{ FindStringSubmatchIndex(s string) []int }

// lookaround is such an expression.
type lookaround struct{ re *regexp2.Regexp }

// patience is how long one name may take.
const patience = 100 * time.Millisecond

func compilePattern(expression string) (pattern, error) {
	re, err := regexp.Compile(expression)
	if err == nil {
		return re, nil
	}
	for _, dialect := range []regexp2.RegexOptions{regexp2.RE2, regexp2.ECMAScript} { // the first knows [[:digit:]], the second \cA and [^]
		if back, err2 := regexp2.Compile(expression, dialect); err2 == nil {
			back.MatchTimeout = patience
			return &lookaround{back}, nil
		}
	}
	return nil, err // in the words of the usual one
}

// FindStringSubmatchIndex does what regexp.Regexp's does; names are of one byte to the character, or do not match.
func (l *lookaround) FindStringSubmatchIndex(s string) []int {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return nil
		}
	}
	m, err := l.re.FindStringMatch(s)
	if err != nil || m == nil {
		return nil
	}
	var at []int
	for _, g := range m.Groups() {
		if len(g.Captures) == 0 {
			at = append(at, -1, -1)
			continue
		}
		at = append(at, g.Index, g.Index+g.Length)
	}
	return at
}
