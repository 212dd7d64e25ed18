package format

import (
	"maps"
	"strconv"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// commands is the table of all operators.
var commands = func() map[string]command {
	all := map[string]command{}
	for _, part := range []map[string]command{
		httpCommands(), streamCommands(), addressCommands(), upstreamCommands(),
		tlsCommands(), metadataCommands(), timeCommands(), durationCommands(), processCommands(),
	} {
		maps.Copy(all, part)
	}
	return all
}()

// text makes a command without parameters whose value is a string; an empty one is missing.
func text(value func(s *stream.Stream) string) command {
	return command{bare, func(call) (*operator, error) {
		return &operator{text: func(b []byte, s *stream.Stream) ([]byte, bool) {
			v := value(s)
			return append(b, v...), v != ""
		}}, nil
	}}
}

// textAlways is text where an empty value is a value.
func textAlways(value func(s *stream.Stream) string) command {
	return command{bare, func(call) (*operator, error) {
		return &operator{text: func(b []byte, s *stream.Stream) ([]byte, bool) { return append(b, value(s)...), true }}, nil
	}}
}

// number makes a command without parameters whose value is a number.
func number(value func(s *stream.Stream) int64) command {
	return command{bare, func(call) (*operator, error) {
		return &operator{number: true, text: func(b []byte, s *stream.Stream) ([]byte, bool) {
			return strconv.AppendInt(b, value(s), 10), true
		}}, nil
	}}
}

// optional makes a command without parameters whose value is a number that may be missing.
func optional(value func(s *stream.Stream) (int64, bool)) command {
	return command{bare, func(call) (*operator, error) { return optionalOperator(value), nil }}
}

func optionalOperator(value func(s *stream.Stream) (int64, bool)) *operator {
	return &operator{number: true, text: func(b []byte, s *stream.Stream) ([]byte, bool) {
		n, ok := value(s)
		if !ok {
			return b, false
		}
		return strconv.AppendInt(b, n, 10), true
	}}
}

// appending makes a command without parameters from what appends its value.
func appending(f func(b []byte, s *stream.Stream) ([]byte, bool)) command {
	return command{bare, func(call) (*operator, error) { return &operator{text: f}, nil }}
}
