package protofile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// parseJSON reads a JSON document with the leniencies of Envoy's reader: strings in single quotes, keys without quotes, a comma after the
// last element, and control characters in strings.
func parseJSON(raw []byte) (*node, error) {
	p := &jsonParser{s: string(raw)}
	if !utf8.ValidString(p.s) {
		return nil, errors.New("the text is not valid UTF-8")
	}
	n, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.peek() != 0 || p.i < len(p.s) {
		return nil, p.fail("extraneous characters after end of JSON object")
	}
	return n, nil
}

type jsonParser struct {
	s       string
	i       int
	counted int // how far the lines have been counted
	lines   int
}

func (p *jsonParser) line() int {
	p.lines += strings.Count(p.s[p.counted:p.i], "\n")
	p.counted = p.i
	return 1 + p.lines
}

func (p *jsonParser) fail(reason string) error {
	return fmt.Errorf("invalid JSON: %s (line %d)", reason, p.line())
}

// peek skips white space and returns the next character, 0 at the end.
func (p *jsonParser) peek() byte {
	for p.i < len(p.s) {
		switch c := p.s[p.i]; c {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return c
		}
	}
	return 0
}

func (p *jsonParser) value(depth int) (*node, error) {
	if depth > maxDepth {
		return nil, p.fail(fmt.Sprintf("nested deeper than %d levels", maxDepth))
	}
	switch c := p.peek(); {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"' || c == '\'':
		line := p.line()
		s, err := p.str()
		return &node{kind: text, text: s, line: line}, err
	case c == '-' || c >= '0' && c <= '9':
		return p.num()
	}
	return p.word()
}

func (p *jsonParser) word() (*node, error) {
	for _, w := range []string{"true", "false", "null"} {
		if strings.HasPrefix(p.s[p.i:], w) {
			n := &node{kind: boolean, bool: w == "true", line: p.line()}
			if w == "null" {
				n.kind = null
			}
			p.i += len(w)
			return n, nil
		}
	}
	if p.i >= len(p.s) {
		return nil, p.fail("unexpected end of file")
	}
	r, _ := utf8.DecodeRuneInString(p.s[p.i:])
	return nil, p.fail(fmt.Sprintf("unexpected character: %q", r))
}

// num reads a number by JSON's grammar, as text.
func (p *jsonParser) num() (*node, error) {
	line, start := p.line(), p.i
	if p.s[p.i] == '-' {
		p.i++
	}
	whole := p.digits()
	ok := whole == 1 || whole > 1 && p.s[p.i-whole] != '0'
	if p.accept(".") {
		ok = p.digits() > 0 && ok
	}
	if p.accept("eE") {
		p.accept("+-")
		ok = p.digits() > 0 && ok
	}
	if !ok {
		return nil, p.fail("invalid number")
	}
	return &node{kind: number, text: p.s[start:p.i], line: line}, nil
}

func (p *jsonParser) digits() int {
	start := p.i
	for p.i < len(p.s) && p.s[p.i] >= '0' && p.s[p.i] <= '9' {
		p.i++
	}
	return p.i - start
}

// accept takes the next character if it is one of set.
func (p *jsonParser) accept(set string) bool {
	if p.i < len(p.s) && strings.IndexByte(set, p.s[p.i]) >= 0 {
		p.i++
		return true
	}
	return false
}

func (p *jsonParser) array(depth int) (*node, error) {
	n := &node{kind: list, line: p.line()}
	p.i++
	for p.peek() != ']' {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, v)
		if c := p.peek(); c == ',' {
			p.i++
		} else if c != ']' {
			return nil, p.fail("expected ',' or ']'")
		}
	}
	p.i++
	return n, nil
}

func (p *jsonParser) object(depth int) (*node, error) {
	n := &node{kind: mapping, line: p.line()}
	p.i++
	for p.peek() != '}' {
		k, err := p.key()
		if err != nil {
			return nil, err
		}
		if p.peek() != ':' {
			return nil, p.fail("expected ':'")
		}
		p.i++
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.keys, n.items = append(n.keys, k), append(n.items, v)
		if c := p.peek(); c == ',' {
			p.i++
		} else if c != '}' {
			return nil, p.fail("expected ',' or '}'")
		}
	}
	p.i++
	return n, nil
}

func (p *jsonParser) key() (string, error) {
	if c := p.peek(); c == '"' || c == '\'' {
		return p.str()
	}
	start := p.i
	for p.i < len(p.s) && bare(p.s[p.i], p.i > start) {
		p.i++
	}
	if p.i == start {
		return "", p.fail("expected a key")
	}
	return p.s[start:p.i], nil
}

func bare(c byte, later bool) bool {
	return c == '_' || c == '$' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || later && c >= '0' && c <= '9'
}

func (p *jsonParser) str() (string, error) {
	quote := p.s[p.i]
	p.i++
	var b strings.Builder
	for p.i < len(p.s) {
		c := p.s[p.i]
		p.i++
		switch c {
		case quote:
			return b.String(), nil
		case '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
		default:
			b.WriteByte(c)
		}
	}
	return "", p.fail("a string does not end")
}

func (p *jsonParser) escape() (rune, error) {
	if p.i >= len(p.s) {
		return 0, p.fail("a string does not end")
	}
	c := p.s[p.i]
	p.i++
	if c == 'u' {
		return p.unicode()
	}
	if k := strings.IndexByte(`"\/'bfnrt`, c); k >= 0 {
		return rune("\"\\/'\b\f\n\r\t"[k]), nil
	}
	return 0, p.fail(fmt.Sprintf("invalid escape: %q", "\\"+string(rune(c))))
}

func (p *jsonParser) unicode() (rune, error) {
	r, err := p.hex4()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if strings.HasPrefix(p.s[p.i:], `\u`) {
		p.i += 2
		low, err := p.hex4()
		if err != nil {
			return 0, err
		}
		if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
			return r, nil
		}
	}
	return 0, p.fail("unpaired surrogate")
}

func (p *jsonParser) hex4() (rune, error) {
	if p.i+4 > len(p.s) {
		return 0, p.fail("invalid escape")
	}
	v, err := strconv.ParseUint(p.s[p.i:p.i+4], 16, 16)
	if err != nil {
		return 0, p.fail("invalid escape")
	}
	p.i += 4
	return rune(v), nil
}
