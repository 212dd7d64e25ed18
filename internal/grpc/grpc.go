// Package grpc is what a proxy knows of gRPC: content types, timeouts, statuses, the frames of messages, and statistics by method.
// All of it is arithmetic over heads and bodies. The names in parentheses are documents of github.com/grpc/grpc/doc.
package grpc

import (
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// ContentType is that of gRPC without a word about how messages are encoded.
const ContentType = "application/grpc"

// IsContentType says whether a content type is gRPC's: application/grpc, or one that begins with application/grpc+. gRPC-Web is not.
func IsContentType(v string) bool {
	rest, ok := strings.CutPrefix(v, ContentType)
	return ok && (rest == "" || rest[0] == '+')
}

// IsRequest says whether a request is gRPC, by its content type.
func IsRequest(h *header.Map) bool {
	v, _ := h.Find(header.ContentType)
	return IsContentType(v)
}

// IsResponse says whether a response is gRPC: a head that ends the message has a grpc-status (trailers-only); any other has the status
// 200 and the content type.
func IsResponse(r *stream.Response) bool {
	if r.Body == nil {
		_, ok := r.Header.Find(header.GRPCStatus)
		return ok
	}
	return r.Status == 200 && IsRequest(&r.Header)
}

// Method takes the path of a call apart, `/package.Service/Method?query`; ok is false unless it has just these two parts.
func Method(path string) (service, method string, ok bool) {
	path, _, _ = strings.Cut(path, "?")
	for part := range strings.SplitSeq(path, "/") {
		switch {
		case part == "":
		case service == "":
			service = part
		case method == "":
			method = part
		default:
			return "", "", false
		}
	}
	return service, method, method != ""
}

const (
	mostDigits = 99999999 // of a timeout
	// longest is what a timeout that is longer is taken for: so that it can be added to any time.
	longest = time.Duration(1) << 62
)

// ParseTimeout reads a grpc-timeout header: up to eight digits and a unit (PROTOCOL-HTTP2). It is rounded up to whole milliseconds.
func ParseTimeout(v string) (time.Duration, bool) {
	if v == "" {
		return 0, false
	}
	digits := strings.TrimPrefix(strings.TrimSpace(v[:len(v)-1]), "+") // Envoy takes it so
	n, err := strconv.ParseUint(digits, 10, 32)
	unit := units(v[len(v)-1])
	if err != nil || n > mostDigits || unit == 0 {
		return 0, false
	}
	if time.Duration(n) > longest/unit {
		return longest, true
	}
	d := time.Duration(n) * unit
	if short := d % time.Millisecond; short > 0 {
		d += time.Millisecond - short
	}
	return d, true
}

func units(c byte) time.Duration {
	switch c {
	case 'H':
		return time.Hour
	case 'M':
		return time.Minute
	case 'S':
		return time.Second
	case 'm':
		return time.Millisecond
	case 'u':
		return time.Microsecond
	case 'n':
		return time.Nanosecond
	}
	return 0
}

// AppendTimeout appends d as a grpc-timeout header: in milliseconds, or in the first greater unit in which it has eight digits.
func AppendTimeout(b []byte, d time.Duration) []byte {
	if d >= longest {
		return append(strconv.AppendInt(b, mostDigits, 10), 'H')
	}
	n, unit := max(d.Milliseconds(), 0), byte('m')
	for _, u := range []struct {
		per  int64
		unit byte
	}{{1000, 'S'}, {60, 'M'}, {60, 'H'}} {
		if n <= mostDigits {
			break
		}
		n, unit = n/u.per, u.unit
	}
	return append(strconv.AppendInt(b, n, 10), unit)
}

// AppendMessage appends text as a grpc-message header (PROTOCOL-HTTP2: Percent-Encoded).
func AppendMessage(b, text []byte) []byte {
	const hex = "0123456789ABCDEF"
	for _, c := range text {
		if c >= ' ' && c < '~' && c != '%' { // a tilde too, as in Envoy
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return b
}
