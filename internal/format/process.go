package format

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// processCommands are the operators whose value is not a matter of the stream. The environment and the host name are read once.
func processCommands() map[string]command {
	return map[string]command{
		"ENVIRONMENT": {paramRequired | lengthAllowed, func(c call) (*operator, error) {
			v, ok := os.LookupEnv(c.param)
			if !ok {
				v = "-"
			}
			return constant(v), nil
		}},
		"HOSTNAME": {bare, func(call) (*operator, error) {
			v, err := os.Hostname()
			if err != nil {
				v = "-"
			}
			return constant(v), nil
		}},
		"UNIQUE_ID": appending(func(b []byte, _ *stream.Stream) ([]byte, bool) { return appendUUID(b), true }),
	}
}

func constant(v string) *operator {
	return &operator{text: func(b []byte, _ *stream.Stream) ([]byte, bool) { return append(b, v...), true }}
}

// appendUUID appends a random UUID (version 4).
func appendUUID(b []byte) []byte {
	var id [16]byte
	for i, n := 0, rand.Uint64(); i < 8; i, n = i+1, n>>8 {
		id[i] = byte(n)
	}
	for i, n := 8, rand.Uint64(); i < 16; i, n = i+1, n>>8 {
		id[i] = byte(n)
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	b = append(hex.AppendEncode(b, id[:4]), '-')
	b = append(hex.AppendEncode(b, id[4:6]), '-')
	b = append(hex.AppendEncode(b, id[6:8]), '-')
	b = append(hex.AppendEncode(b, id[8:10]), '-')
	return hex.AppendEncode(b, id[10:])
}

// coalesce is %COALESCE({"operators": [...]}):Z%: the first of some operators that has a value, even if that is empty.
func coalesce(c call, o Options) (*operator, error) {
	var config struct {
		Operators *[]json.RawMessage `json:"operators"`
	}
	if err := json.Unmarshal([]byte(c.param), &config); err != nil {
		return nil, fmt.Errorf("COALESCE: failed to parse JSON configuration: %w", err)
	}
	switch {
	case config.Operators == nil:
		return nil, errors.New("COALESCE: JSON configuration must contain 'operators' array")
	case len(*config.Operators) == 0:
		return nil, errors.New("COALESCE: 'operators' array must not be empty")
	}
	var choices []*operator
	for i, raw := range *config.Operators {
		op, err := choice(raw, o)
		if err != nil {
			return nil, fmt.Errorf("COALESCE: failed to parse operator at index %d: %w", i, err)
		}
		choices = append(choices, op)
	}
	return firstOf(choices, c.max), nil
}

// choice compiles one of the operators of a COALESCE.
func choice(raw json.RawMessage, o Options) (*operator, error) {
	c := call{max: -1}
	if json.Unmarshal(raw, &c.name) == nil && c.name != "" {
		return known(c, o)
	}
	var entry struct {
		Command string `json:"command"`
		Param   string `json:"param"`
		Max     *int   `json:"max_length"`
	}
	if err := json.Unmarshal(raw, &entry); err != nil {
		return nil, fmt.Errorf("operator entry must be either a string (command name) or an object with 'command' field: %w", err)
	}
	if entry.Command == "" {
		return nil, errors.New("operator object must have 'command' field")
	}
	if entry.Max != nil {
		if c.max = *entry.Max; c.max <= 0 {
			return nil, errors.New("'max_length' must be a positive integer")
		}
	}
	c.name, c.param = entry.Command, entry.Param
	return known(c, o)
}

func known(c call, o Options) (*operator, error) {
	if _, ok := commands[c.name]; !ok && c.name != "COALESCE" {
		return nil, fmt.Errorf("unknown command: '%s'", c.name)
	}
	return build(c, o)
}

// firstOf tries operators in order; in JSON the value keeps its type, and only text has a maximum length.
func firstOf(choices []*operator, limit int) *operator {
	first := func(one func(*operator, []byte, *stream.Stream) ([]byte, bool)) func([]byte, *stream.Stream) ([]byte, bool) {
		return func(b []byte, s *stream.Stream) ([]byte, bool) {
			from := len(b)
			for _, op := range choices {
				var ok bool
				if b, ok = one(op, b[:from], s); ok {
					return b, true
				}
			}
			return b[:from], false
		}
	}
	return &operator{text: first((*operator).appendText), json: first(func(op *operator, b []byte, s *stream.Stream) ([]byte, bool) {
		if op.json != nil || op.number {
			return op.appendJSON(b, s)
		}
		from := len(b)
		b, ok := op.appendText(b, s)
		if limit >= 0 && len(b)-from > limit {
			b = b[:from+limit]
		}
		return quoteTail(b, from), ok
	})}
}

// xfccValue is %XFCC_VALUE(KEY):Z%: a value of the first element of x-forwarded-client-cert.
func xfccValue(c call) (*operator, error) {
	if c.param == "" {
		return nil, errors.New("XFCC_VALUE command requires a subcommand")
	}
	if !slices.Contains([]string{"by", "hash", "cert", "chain", "subject", "uri", "dns"}, strings.ToLower(c.param)) {
		return nil, errors.New("XFCC_VALUE command does not support subcommand: " + c.param)
	}
	return stringOperator(func(s *stream.Stream) (string, bool) {
		v, _ := s.Request.Header.Get("x-forwarded-client-cert")
		return xfcc(v, c.param)
	}), nil
}

// xfcc finds a key in the first element: pairs key=value between semicolons, up to a comma; a value may stand in quotes.
func xfcc(text, key string) (string, bool) {
	for text != "" {
		name, rest, ok := strings.Cut(text, "=")
		if !ok {
			return "", false
		}
		end := unquotedEnd(rest)
		if strings.EqualFold(strings.TrimSpace(name), key) {
			return unquote(strings.TrimSpace(rest[:end])), true
		}
		if end == len(rest) || rest[end] == ',' {
			return "", false
		}
		text = rest[end+1:]
	}
	return "", false
}

// unquotedEnd is where the first comma or semicolon is that is not in quotes.
func unquotedEnd(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && (s[i] == ',' || s[i] == ';'):
			return i
		}
	}
	return len(s)
}

func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	return strings.ReplaceAll(s[1:len(s)-1], `\"`, `"`)
}
