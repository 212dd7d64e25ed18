package format

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// verb is a piece of a time format: a literal, or a conversion with its flags.
type verb struct {
	literal string
	letter  byte // 0: a literal
	flag    byte // - _ 0 ^ # or 0
	width   int  // -1: the conversion's own
	digits  int  // of a fraction of a second; -1: as many as it has
}

// compileTime compiles what strftime takes, with the additions of Envoy (%f, %3f) and of absl::FormatTime (%E3S, %E3f, %E*S, %Ez, %E4Y).
// A conversion that nobody knows stands as it is.
func compileTime(format string) []verb {
	var verbs []verb
	for format != "" {
		v, length, ok := parseVerb(format)
		if !ok {
			length = max(strings.IndexByte(format[1:], '%')+1, 1)
			if length == 1 && strings.IndexByte(format[1:], '%') < 0 {
				length = len(format)
			}
			v = verb{literal: format[:length]}
		}
		verbs = append(verbs, v)
		format = format[length:]
	}
	return verbs
}

// parseVerb reads the conversion that format begins with.
func parseVerb(format string) (v verb, length int, ok bool) {
	if len(format) < 2 || format[0] != '%' {
		return v, 0, false
	}
	v = verb{width: -1, digits: 9}
	rest := format[1:]
	if rest[0] == 'f' || rest[0] >= '1' && rest[0] <= '9' && strings.HasPrefix(rest[1:], "f") {
		v.letter = 'f'
		if rest[0] != 'f' {
			v.digits = int(rest[0] - '0')
			return v, 3, true
		}
		return v, 2, true
	}
	if rest[0] == 'E' {
		if v, length, ok = parseExtended(rest[1:]); ok {
			return v, length + 2, true
		}
		v = verb{width: -1}
	}
	return parsePlain(format, rest, v)
}

// parseExtended reads what absl::FormatTime has after %E.
func parseExtended(rest string) (v verb, length int, ok bool) {
	v.width = -1
	switch {
	case strings.HasPrefix(rest, "z"), strings.HasPrefix(rest, "*z"):
		v.letter = ':'
		return v, 1 + strings.IndexByte(rest, 'z'), true
	case strings.HasPrefix(rest, "T"):
		return verb{literal: "T"}, 1, true
	case strings.HasPrefix(rest, "4Y"):
		v.letter, v.width = 'Y', 4
		return v, 2, true
	case strings.HasPrefix(rest, "*S"), strings.HasPrefix(rest, "*f"):
		v.letter, v.digits = extendedLetter(rest[1]), -1
		return v, 2, true
	}
	end := 0
	for end < len(rest) && end < 4 && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	if end == 0 || end == len(rest) || rest[end] != 'S' && rest[end] != 'f' {
		return v, 0, false
	}
	v.letter = extendedLetter(rest[end])
	v.digits, _ = strconv.Atoi(rest[:end])
	return v, end + 1, true
}

// extendedLetter tells seconds with their fraction from a fraction alone.
func extendedLetter(c byte) byte {
	if c == 'S' {
		return secondsWithFraction
	}
	return 'f'
}

const secondsWithFraction = '.'

func parsePlain(format, rest string, v verb) (verb, int, bool) {
	i := 0
	for i < len(rest) && strings.IndexByte("-_0^#", rest[i]) >= 0 {
		v.flag = rest[i]
		i++
	}
	for from := i; i < len(rest) && i-from < 3 && rest[i] >= '0' && rest[i] <= '9'; i++ {
		v.width = max(v.width, 0)*10 + int(rest[i]-'0')
	}
	if i < len(rest) && (rest[i] == 'E' || rest[i] == 'O') {
		i++
	}
	if i < len(rest) && rest[i] == ':' && strings.HasPrefix(rest[i:], ":z") {
		v.letter = ':'
		return v, i + 3, true
	}
	if i == len(rest) || strings.IndexByte("aAbBcCdDeFgGhHIjklmMpPrRsStTuUVwWxXyYzZ%", rest[i]) < 0 {
		return v, 0, false
	}
	v.letter = rest[i]
	return v, i + 2, true
}

func appendTime(b []byte, verbs []verb, t time.Time) []byte {
	for i := range verbs {
		v := &verbs[i]
		if v.letter == 0 {
			b = append(b, v.literal...)
			continue
		}
		from := len(b)
		b = v.append(b, t)
		if v.flag == '^' || v.flag == '#' && v.letter != 'Z' && v.letter != 'p' {
			copy(b[from:], bytes.ToUpper(b[from:]))
		}
	}
	return b
}

// number appends n with the width and padding of the conversion, unless its flags say otherwise.
func (v *verb) number(b []byte, n, width int, pad byte) []byte {
	if v.width >= 0 {
		width = v.width
	}
	switch v.flag {
	case '-':
		width = 0
	case '_':
		pad = ' '
	case '0':
		pad = '0'
	}
	return appendPadded(b, n, width, pad)
}

func (v *verb) append(b []byte, t time.Time) []byte {
	switch v.letter {
	case 'Y':
		return v.number(b, t.Year(), 0, '0')
	case 'C':
		return v.number(b, t.Year()/100, 2, '0')
	case 'y':
		return v.number(b, t.Year()%100, 2, '0')
	case 'm':
		return v.number(b, int(t.Month()), 2, '0')
	case 'd':
		return v.number(b, t.Day(), 2, '0')
	case 'e':
		return v.number(b, t.Day(), 2, ' ')
	case 'H':
		return v.number(b, t.Hour(), 2, '0')
	case 'k':
		return v.number(b, t.Hour(), 2, ' ')
	case 'I':
		return v.number(b, hour12(t), 2, '0')
	case 'l':
		return v.number(b, hour12(t), 2, ' ')
	case 'M':
		return v.number(b, t.Minute(), 2, '0')
	case 'S':
		return v.number(b, t.Second(), 2, '0')
	case 's':
		return strconv.AppendInt(b, t.Unix(), 10)
	case 'f':
		return appendFraction(b, t.Nanosecond(), v.digits)
	case secondsWithFraction:
		return appendSeconds(b, t, v.digits)
	}
	return v.appendCalendar(b, t)
}

func (v *verb) appendCalendar(b []byte, t time.Time) []byte {
	switch v.letter {
	case 'j':
		return v.number(b, t.YearDay(), 3, '0')
	case 'u':
		return v.number(b, (int(t.Weekday())+6)%7+1, 1, '0')
	case 'w':
		return v.number(b, int(t.Weekday()), 1, '0')
	case 'U':
		return v.number(b, (t.YearDay()+6-int(t.Weekday()))/7, 2, '0')
	case 'W':
		return v.number(b, (t.YearDay()+6-(int(t.Weekday())+6)%7)/7, 2, '0')
	case 'V':
		_, week := t.ISOWeek()
		return v.number(b, week, 2, '0')
	case 'G':
		year, _ := t.ISOWeek()
		return v.number(b, year, 0, '0')
	case 'g':
		year, _ := t.ISOWeek()
		return v.number(b, year%100, 2, '0')
	}
	return t.AppendFormat(b, layouts[v.letter])
}

// layouts are the conversions that the standard library can print.
var layouts = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'h': "Jan", 'B': "January", 'p': "PM", 'P': "pm",
	'c': "Mon Jan _2 15:04:05 2006", 'x': "01/02/06", 'D': "01/02/06", 'X': "15:04:05", 'T': "15:04:05", 'R': "15:04",
	'r': "03:04:05 PM", 'F': "2006-01-02", 'z': "-0700", ':': "-07:00", 'Z': "MST", 't': "\t", '%': "%",
}

func hour12(t time.Time) int { return (t.Hour()+11)%12 + 1 }

// appendFraction appends the first digits of the fraction of a second; -1: as many as are not zero, at least one.
func appendFraction(b []byte, nanos, digits int) []byte {
	from := len(b)
	b = appendPadded(b, nanos, 9, '0')
	switch {
	case digits < 0:
		for len(b) > from+1 && b[len(b)-1] == '0' {
			b = b[:len(b)-1]
		}
		return b
	case digits <= 9:
		return b[:from+digits]
	}
	for range digits - 9 {
		b = append(b, '0')
	}
	return b
}

func appendSeconds(b []byte, t time.Time, digits int) []byte {
	b = append2(b, t.Second())
	if digits == 0 || digits < 0 && t.Nanosecond() == 0 {
		return b
	}
	return appendFraction(append(b, '.'), t.Nanosecond(), digits)
}
