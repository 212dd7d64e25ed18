package format

import (
	"errors"
	"strings"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

type point func(s *stream.Stream) fiber.Time

// points are the points in time that %COMMON_DURATION% knows.
var points = map[string]point{
	"DS_CX_BEG":      func(s *stream.Stream) fiber.Time { return s.Info.Conn.Start },
	"DS_CX_END":      func(s *stream.Stream) fiber.Time { return s.Info.Conn.End },
	"DS_RX_BEG":      func(s *stream.Stream) fiber.Time { return s.Info.Start },
	"DS_RX_END":      func(s *stream.Stream) fiber.Time { return s.Info.RequestEnd },
	"US_CX_BEG":      func(s *stream.Stream) fiber.Time { return s.Info.Upstream.ConnStart },
	"US_CX_END":      func(s *stream.Stream) fiber.Time { return s.Info.Upstream.Connected },
	"US_HS_END":      func(s *stream.Stream) fiber.Time { return s.Info.Upstream.Handshake },
	"US_TX_BEG":      func(s *stream.Stream) fiber.Time { return s.Info.Upstream.FirstTx },
	"US_TX_END":      func(s *stream.Stream) fiber.Time { return s.Info.Upstream.LastTx },
	"US_RX_BEG":      func(s *stream.Stream) fiber.Time { return s.Info.Upstream.FirstRx },
	"US_RX_BODY_BEG": func(s *stream.Stream) fiber.Time { return s.Info.Upstream.FirstRxBody },
	"US_RX_END":      func(s *stream.Stream) fiber.Time { return s.Info.Upstream.LastRx },
	"DS_TX_BEG":      func(s *stream.Stream) fiber.Time { return s.Info.ResponseStart },
	"DS_TX_END":      func(s *stream.Stream) fiber.Time { return s.Info.ResponseEnd },
}

// pointNamed finds a point; an unknown name is one that a filter may set in Info.Times.
func pointNamed(name string) point {
	if p, ok := points[name]; ok {
		return p
	}
	return func(s *stream.Stream) fiber.Time { return s.Info.Times[name] }
}

// durationCommands are the operators that print how long something took, in milliseconds.
func durationCommands() map[string]command {
	never := optional(func(*stream.Stream) (int64, bool) { return 0, false }) // of QUIC
	return map[string]command{
		"DURATION":                      number(func(s *stream.Stream) int64 { return Duration(s).Milliseconds() }),
		"REQUEST_DURATION":              between("DS_RX_BEG", "DS_RX_END"),
		"REQUEST_TX_DURATION":           between("DS_RX_BEG", "US_TX_END"),
		"RESPONSE_DURATION":             between("DS_RX_BEG", "US_RX_BEG"),
		"RESPONSE_TX_DURATION":          between("US_RX_BEG", "DS_TX_END"),
		"DOWNSTREAM_HANDSHAKE_DURATION": optional(handshake),
		"ROUNDTRIP_DURATION":            never,
		"COMMON_DURATION":               {paramRequired, commonDuration},
	}
}

// Duration is how long s has lasted: to its end, or until now.
func Duration(s *stream.Stream) time.Duration {
	end := s.Info.End
	if end == 0 && s.Worker != nil {
		end = s.Worker.Now()
	}
	return max(time.Duration(end-s.Info.Start), 0)
}

func handshake(s *stream.Stream) (int64, bool) {
	c := s.Info.Conn
	return time.Duration(c.Handshake - c.Start).Milliseconds(), c.Handshake != 0
}

func between(from, to string) command {
	return optional(span(points[from], points[to], time.Millisecond))
}

func span(from, to point, unit time.Duration) func(s *stream.Stream) (int64, bool) {
	return func(s *stream.Stream) (int64, bool) {
		a, b := from(s), to(s)
		if a == 0 || b == 0 || b < a {
			return 0, false
		}
		return int64(b-a) / int64(unit), true
	}
}

// commonDuration is %COMMON_DURATION(START:END:PRECISION)%.
func commonDuration(c call) (*operator, error) {
	parts := strings.Split(c.param, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return nil, errors.New("Invalid common duration configuration: " + c.param + ".")
	}
	unit := time.Millisecond
	if len(parts) == 3 {
		switch parts[2] {
		case "ms":
		case "us":
			unit = time.Microsecond
		case "ns":
			unit = time.Nanosecond
		default:
			return nil, errors.New("Invalid common duration precision: " + parts[2] + ".")
		}
	}
	return optionalOperator(span(pointNamed(parts[0]), pointNamed(parts[1]), unit)), nil
}
