package format

import (
	"errors"
	"regexp"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// timeCommands are the operators that print a point in time, in UTC or in local time.
func timeCommands() map[string]command {
	return map[string]command{
		"START_TIME":       timeCommand(false, startTime),
		"START_TIME_LOCAL": timeCommand(true, startTime),
		"EMIT_TIME":        timeCommand(false, emitTime),
		"EMIT_TIME_LOCAL":  timeCommand(true, emitTime),
	}
}

func startTime(s *stream.Stream) time.Time {
	if s.Info.StartWall.IsZero() && s.Worker != nil {
		return s.Worker.Wall().Add(time.Duration(s.Info.Start - s.Worker.Now()))
	}
	return s.Info.StartWall
}

func emitTime(s *stream.Stream) time.Time {
	if s.Worker != nil {
		return s.Worker.Wall()
	}
	return time.Now()
}

var newlineVerb = regexp.MustCompile(`%[-_0^#]*[1-9]*(E|O)?n`)

// timeCommand is %START_TIME(FORMAT)% and its like; without a format it is 2006-01-02T15:04:05.000Z, or with the zone's offset
// instead of Z where it is local time.
func timeCommand(local bool, of func(*stream.Stream) time.Time) command {
	return command{paramOptional, func(c call) (*operator, error) {
		if newlineVerb.MatchString(c.param) {
			return nil, errors.New("Invalid header configuration. Format string contains newline.")
		}
		layout := compileTime(c.param)
		if c.param == "" && local {
			layout = compileTime("%Y-%m-%dT%H:%M:%S.%3f%z")
		}
		plain := c.param == "" && !local
		return &operator{text: func(b []byte, s *stream.Stream) ([]byte, bool) {
			t := of(s)
			if t.IsZero() {
				return b, false
			}
			if local {
				t = t.Local() //nolint:gosmopolitan // %START_TIME_LOCAL% is that of the machine
			} else {
				t = t.UTC()
			}
			if plain {
				return appendISO(b, t), true
			}
			return appendTime(b, layout, t), true
		}}, nil
	}}
}

// appendISO appends t, in UTC, as 2006-01-02T15:04:05.000Z. It is what nearly all log lines have.
func appendISO(b []byte, t time.Time) []byte {
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = append(appendPadded(b, year, 4, '0'), '-')
	b = append(append2(b, int(month)), '-')
	b = append(append2(b, day), 'T')
	b = append(append2(b, hour), ':')
	b = append(append2(b, minute), ':')
	b = append(append2(b, second), '.')
	return append(appendPadded(b, t.Nanosecond()/1e6, 3, '0'), 'Z')
}

func append2(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

// appendPadded appends n >= 0 with at least width digits.
func appendPadded(b []byte, n, width int, pad byte) []byte {
	var digits [20]byte
	i := len(digits)
	for n > 0 || i == len(digits) {
		i--
		digits[i] = byte('0' + n%10)
		n /= 10
	}
	for range width - (len(digits) - i) {
		b = append(b, pad)
	}
	return append(b, digits[i:]...)
}
