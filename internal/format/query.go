package format

import (
	"fmt"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func rawQuery(s *stream.Stream) (string, bool) {
	_, query, ok := strings.Cut(s.Request.Path, "?")
	return query, ok
}

// queryParam is %QUERY_PARAM(X):Z%: the decoded value of the first parameter of this name.
func queryParam(c call) (*operator, error) {
	return &operator{text: func(b []byte, s *stream.Stream) ([]byte, bool) {
		query, _ := rawQuery(s)
		for query != "" {
			var pair string
			pair, query, _ = strings.Cut(query, "&")
			name, value, _ := strings.Cut(pair, "=")
			if name == c.param || strings.IndexByte(name, '%') >= 0 && string(appendDecoded(nil, name)) == c.param {
				return appendDecoded(b, value), true
			}
		}
		return b, false
	}}, nil
}

// queryParams is %QUERY_PARAMS(X):Z%.
func queryParams(c call) (*operator, error) {
	switch c.param {
	case "", "ORIG":
		return stringOperator(rawQuery), nil
	case "DECODED":
		return &operator{text: func(b []byte, s *stream.Stream) ([]byte, bool) {
			query, ok := rawQuery(s)
			return appendVisible(b, query), ok
		}}, nil
	}
	return nil, fmt.Errorf("Invalid QUERY_PARAMS option: '%s', only 'ORIG'/'DECODED' are allowed", c.param)
}

// appendDecoded undoes the percent encoding; what is none stays as it is.
func appendDecoded(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c, ok := escaped(s[i:]); ok {
			b = append(b, c)
			i += 2
		} else {
			b = append(b, s[i])
		}
	}
	return b
}

// appendVisible undoes the percent encoding of characters that may stand in a URL as they are. A percent sign that begins no
// encoding is left out, as Envoy's url decoder does.
func appendVisible(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		c, ok := escaped(s[i:])
		switch {
		case ok && c > ' ' && c < 0x7f && strings.IndexByte("\"<>\\^{|}", c) < 0:
			b = append(b, c)
			i += 2
		case ok:
			b = append(b, s[i:i+3]...)
			i += 2
		}
	}
	return b
}

// escaped decodes the three characters %XX that s begins with.
func escaped(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	high, low := unhex(s[1]), unhex(s[2])
	return high<<4 | low, high < 16 && low < 16
}

// unhex returns the value of a hexadecimal digit, 255 for anything else.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}
