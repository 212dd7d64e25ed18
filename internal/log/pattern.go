package log

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"
)

// DefaultFormat is Envoy's: date, thread, level, component, place, message.
const DefaultFormat = "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v"

// record is what a pattern writes down.
type record struct {
	entry   zapcore.Entry
	message string // with its fields
	thread  int
}

type verb func(b []byte, r *record) []byte

// Pattern is a compiled line format in spdlog's syntax.
type Pattern struct {
	verbs   []verb
	thread  bool // asks for the thread
	escaped bool
}

// CompilePattern reads a format: %v is the message, %_ the message with escaped line ends, %j the message as it stands in a JSON string; the
// others are spdlog's flags, with an optional width between % and the flag (%8l, %-8l, %=8l). What is no flag is printed as it stands.
// With escaped, %v is %_ too (--log-format-escaped).
func CompilePattern(format string, escaped bool) *Pattern {
	p := &Pattern{escaped: escaped}
	for format != "" {
		literal, rest, found := strings.Cut(format, "%")
		if literal != "" {
			p.verbs = append(p.verbs, verbatim(literal))
		}
		if !found {
			break
		}
		format = p.flag(rest)
	}
	return p
}

func verbatim(s string) verb {
	return func(b []byte, _ *record) []byte { return append(b, s...) }
}

// flag compiles what follows a % and returns the rest of the format.
func (p *Pattern) flag(s string) (rest string) {
	align := byte('r')
	if s != "" && (s[0] == '-' || s[0] == '=') {
		align, s = s[0], s[1:]
	}
	width := 0
	for s != "" && s[0] >= '0' && s[0] <= '9' {
		width, s = min(width*10+int(s[0]-'0'), 64), s[1:]
	}
	if s == "" {
		return ""
	}
	v := verbOf(s[0])
	if s[0] == 'v' && p.escaped {
		v = verbOf('_')
	}
	if v == nil {
		v = verbatim("%" + s[:1])
	}
	p.thread = p.thread || s[0] == 't'
	if width > 0 {
		v = padded(v, width, align)
	}
	p.verbs = append(p.verbs, v)
	return s[1:]
}

func padded(v verb, width int, align byte) verb {
	return func(b []byte, r *record) []byte {
		start := len(b)
		b = v(b, r)
		missing := width - (len(b) - start)
		if missing <= 0 {
			return b
		}
		left := missing
		switch align {
		case '-':
			left = 0
		case '=':
			left = missing / 2
		}
		field := strings.Repeat(" ", left) + string(b[start:]) + strings.Repeat(" ", missing-left)
		return append(b[:start], field...)
	}
}

// verbOf returns the verb of a flag, nil if there is none.
func verbOf(c byte) verb {
	if layout, ok := timeLayout(c); ok {
		return func(b []byte, r *record) []byte { return r.entry.Time.AppendFormat(b, layout) }
	}
	switch c {
	case 'v':
		return func(b []byte, r *record) []byte { return append(b, r.message...) }
	case '_':
		return func(b []byte, r *record) []byte { return append(b, escapeLines(r.message)...) }
	case 'j':
		return func(b []byte, r *record) []byte { return appendJSON(b, r.message) }
	case 'n':
		return func(b []byte, r *record) []byte { return append(b, r.entry.LoggerName...) }
	case 'l':
		return func(b []byte, r *record) []byte { return append(b, LevelName(r.entry.Level)...) }
	case 'L':
		return func(b []byte, r *record) []byte { return append(b, strings.ToUpper(LevelName(r.entry.Level))[0]) }
	case 't':
		return func(b []byte, r *record) []byte { return strconv.AppendInt(b, int64(r.thread), 10) }
	case 'P':
		return func(b []byte, _ *record) []byte { return strconv.AppendInt(b, int64(pid()), 10) }
	case '%':
		return verbatim("%")
	case '^', '$', '*', '+': // colours and tags are not there
		return verbatim("")
	}
	if v := placeVerb(c); v != nil {
		return v
	}
	return clockVerb(c)
}

// placeVerb returns the verbs about where the line was logged.
func placeVerb(c byte) verb {
	switch c {
	case 'g':
		return func(b []byte, r *record) []byte { return append(b, place(r.entry.Caller)...) }
	case 's':
		return func(b []byte, r *record) []byte { return append(b, filepath.Base(r.entry.Caller.File)...) }
	case '#':
		return func(b []byte, r *record) []byte { return strconv.AppendInt(b, int64(r.entry.Caller.Line), 10) }
	case '@':
		return func(b []byte, r *record) []byte {
			return strconv.AppendInt(append(b, place(r.entry.Caller)+":"...), int64(r.entry.Caller.Line), 10)
		}
	case '!':
		return func(b []byte, r *record) []byte { return append(b, filepath.Base(r.entry.Caller.Function)...) }
	}
	return nil
}

// place is the file with its folder, as in source/server/server.cc.
func place(c zapcore.EntryCaller) string {
	return filepath.Base(filepath.Dir(c.File)) + "/" + filepath.Base(c.File)
}

// clockVerb returns the verbs about the time that Go's layouts do not have.
func clockVerb(c byte) verb {
	switch c {
	case 'e':
		return fraction(3)
	case 'f':
		return fraction(6)
	case 'F':
		return fraction(9)
	case 'E':
		return func(b []byte, r *record) []byte { return strconv.AppendInt(b, r.entry.Time.Unix(), 10) }
	}
	return nil
}

// fraction writes the part of the second in digits digits.
func fraction(digits int) verb {
	return func(b []byte, r *record) []byte {
		return append(b, fmt.Sprintf("%09d", r.entry.Time.Nanosecond())[:digits]...)
	}
}

func timeLayout(c byte) (string, bool) {
	switch c {
	case 'Y':
		return "2006", true
	case 'C':
		return "06", true
	case 'm':
		return "01", true
	case 'd':
		return "02", true
	case 'H':
		return "15", true
	case 'I':
		return "03", true
	case 'M':
		return "04", true
	case 'S':
		return "05", true
	case 'T', 'X':
		return time.TimeOnly, true
	case 'R':
		return "15:04", true
	case 'r':
		return "03:04:05 PM", true
	case 'D', 'x':
		return "01/02/06", true
	case 'a':
		return "Mon", true
	case 'A':
		return "Monday", true
	case 'b', 'h':
		return "Jan", true
	case 'B':
		return "January", true
	case 'c':
		return time.ANSIC, true
	case 'p':
		return "PM", true
	case 'z':
		return "-07:00", true
	}
	return "", false
}

func escapeLines(s string) string {
	return strings.NewReplacer("\n", `\n`, "\r", `\r`, "\t", `\t`, "\v", `\v`, "\f", `\f`, "\a", `\a`, "\b", `\b`, `\`, `\\`, "'", `\'`, `"`, `\"`,
		"\x00", `\0`).Replace(s)
}

// appendJSON appends s as it stands between the quotes of a JSON string.
func appendJSON(b []byte, s string) []byte {
	var quoted bytes.Buffer
	enc := json.NewEncoder(&quoted)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return b
	}
	return append(b, quoted.Bytes()[1:quoted.Len()-2]...) // without the quotes and the end of the line
}

// append writes a line without its end.
func (p *Pattern) append(b []byte, r *record) []byte {
	for _, v := range p.verbs {
		b = v(b, r)
	}
	return b
}
