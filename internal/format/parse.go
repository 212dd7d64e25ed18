package format

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// call is an operator as it is written: %NAME(PARAM):MAX%.
type call struct {
	name, param string
	max         int // -1: not given
}

// parse splits text into literals and operators; adjacent literals are one.
func parse(text string, o Options) ([]piece, error) {
	var pieces []piece
	literal := ""
	flush := func() {
		if literal != "" {
			pieces = append(pieces, piece{literal: literal})
			literal = ""
		}
	}
	for at := 0; at < len(text); {
		percent := strings.IndexByte(text[at:], '%')
		if percent < 0 {
			literal += text[at:]
			break
		}
		literal += text[at : at+percent]
		at += percent
		if strings.HasPrefix(text[at:], "%%") {
			literal += "%"
			at += 2
			continue
		}
		c, length, ok := parseCall(text[at:])
		if !ok {
			return nil, fmt.Errorf("Incorrect configuration: %s. Couldn't find valid command at position %d", text, at)
		}
		op, err := build(c, o)
		if err != nil {
			return nil, err
		}
		flush()
		pieces = append(pieces, piece{op: op})
		at += length
	}
	flush()
	return pieces, nil
}

// parseCall reads the operator that text begins with, and how long it is. A parameter ends at the first bracket that closes the
// operator, so it may hold brackets and percent signs of its own.
func parseCall(text string) (c call, length int, ok bool) {
	end := 1
	for end < len(text) && isCommandByte(text[end]) {
		end++
	}
	if end == 1 || end == len(text) {
		return c, 0, false
	}
	c.name = text[1:end]
	if text[end] != '(' {
		c.max, length, ok = parseEnd(text[end:])
		return c, end + length, ok
	}
	for i := end + 1; i < len(text) && text[i] != '\n'; i++ {
		if text[i] != ')' {
			continue
		}
		if c.max, length, ok = parseEnd(text[i+1:]); ok {
			c.param = text[end+1 : i]
			return c, i + 1 + length, true
		}
	}
	return c, 0, false
}

func isCommandByte(b byte) bool { return b == '_' || '0' <= b && b <= '9' || 'A' <= b && b <= 'Z' }

// parseEnd reads `%` or `:12%`.
func parseEnd(text string) (limit, length int, ok bool) {
	if strings.HasPrefix(text, "%") {
		return -1, 1, true
	}
	if !strings.HasPrefix(text, ":") {
		return 0, 0, false
	}
	end := strings.IndexByte(text, '%')
	if end < 0 || end > 1 && text[1] == '+' {
		return 0, 0, false
	}
	n, err := strconv.ParseInt(text[1:max(end, 1)], 10, 63)
	return int(n), end + 1, err == nil && n >= 0
}

// syntax says what a command may be written with.
type syntax uint8

const (
	bare          syntax = 0
	paramRequired syntax = 1 << iota
	paramOptional
	lengthAllowed
)

func (y syntax) check(c call) error {
	switch {
	case y == bare && (c.param != "" || c.max >= 0):
		return errors.New(c.name + " does not take any parameters or length")
	case y&paramRequired != 0 && c.param == "":
		return errors.New(c.name + " requires parameters")
	case y&lengthAllowed == 0 && c.max >= 0:
		return errors.New(c.name + " does not allow length to be specified.")
	}
	return nil
}

// command is what the table knows of a name.
type command struct {
	syntax syntax
	build  func(c call) (*operator, error)
}

// build compiles one operator.
func build(c call, o Options) (*operator, error) {
	cmd, ok := commands[c.name]
	switch {
	case c.name == "COALESCE":
		cmd, ok = command{paramRequired | lengthAllowed, func(c call) (*operator, error) { return coalesce(c, o) }}, true
	case c.name == "REQ_WITHOUT_QUERY" && o.withoutQuery:
		cmd, ok = command{paramRequired | lengthAllowed, withoutQuery}, true
	case c.name == "CEL", c.name == "TYPED_CEL", c.name == "DOWNSTREAM_CX_RTT":
		return nil, errors.New(c.name + " is not supported")
	}
	if !ok {
		return nil, errors.New("Not supported field in StreamInfo: " + c.name)
	}
	if err := cmd.syntax.check(c); err != nil {
		return nil, err
	}
	op, err := cmd.build(c)
	if err != nil {
		return nil, err
	}
	op.max = c.max
	return op, nil
}
