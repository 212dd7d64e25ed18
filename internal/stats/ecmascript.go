package stats

import (
	"errors"
	"regexp"
	"strings"
)

var repetition = regexp.MustCompile(`^\{\d+(,\d*)?\}`)

// ecmascript refuses what other dialects know and ECMAScript (ECMA-262 section 15.10.1, as std::regex reads it) does not: flags, named groups,
// look-behind, classes of Perl and Unicode, and brackets that stand for themselves.
func ecmascript(expression string) error {
	groups := 0
	for s := expression; s != ""; {
		n := 1
		switch s[0] {
		case '\\':
			if len(s) < 2 || !escapes(s[1], groups) {
				return errors.New("invalid escaped character, or a trailing escape")
			}
			n = 2
		case '[':
			if n = class(s); n < 0 {
				return errors.New("mismatched [ and ]")
			}
		case '(':
			switch {
			case !strings.HasPrefix(s, "(?"):
				groups++
			case len(s) < 3 || !strings.ContainsRune(":=!", rune(s[2])):
				return errors.New("a group that begins with (? is none of (?:, (?= and (?!")
			default:
				n = 3
			}
		case '{':
			if n = len(repetition.FindString(s)); n == 0 {
				return errors.New("invalid range in a {} expression")
			}
		case '}', ']':
			return errors.New("mismatched " + s[:1])
		}
		s = s[n:]
	}
	return nil
}

// escapes says whether a backslash may stand before c.
func escapes(c byte, groups int) bool {
	switch {
	case '1' <= c && c <= '9':
		return int(c-'0') <= groups
	case 'a' <= c|0x20 && c|0x20 <= 'z':
		return strings.IndexByte("bBdDsSwWfnrtvcxu", c) >= 0
	}
	return true
}

// class returns the length of the character class that s begins with, -1 if it does not end. [] is empty, and [^] is anything.
func class(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case ']':
			return i + 1
		case '\\':
			i++
		case '[':
			if i+1 < len(s) && strings.IndexByte(":=.", s[i+1]) >= 0 {
				end := strings.Index(s[i+2:], s[i+1:i+2]+"]")
				if end < 0 {
					return -1
				}
				i += 2 + end + 1
			}
		}
	}
	return -1
}
