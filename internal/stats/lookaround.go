package stats

import (
	"regexp"
	"time"

	"github.com/dlclark/regexp2"
)

// Envoy reads the expressions of stats_tags with std::regex, which has look-around: istiod's bootstrap needs it. Package regexp has none, for
// a good reason, so an expression that it refuses is given to a matcher that goes back, with a limit to its patience.

// lookaround is such an expression.
type lookaround struct {
	re     *regexp2.Regexp
	groups int
}

// patience is how long one name may take.
const patience = 100 * time.Millisecond

func compilePattern(expression string) (pattern, error) {
	re, err := regexp.Compile(expression)
	if err == nil {
		return re, nil
	}
	back, err2 := regexp2.Compile(expression, regexp2.RE2)
	if err2 != nil {
		return nil, err // in the words of the usual one
	}
	back.MatchTimeout = patience
	return &lookaround{back, len(back.GetGroupNumbers()) - 1}, nil
}

func (l *lookaround) NumSubexp() int { return l.groups }

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
