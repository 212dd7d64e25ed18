package http1

import (
	"bytes"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

const usualEnd = " HTTP/1.1\r\n"

// usualLine takes in the first line of a request of the usual form, with single spaces and a target that is a path, and returns where the
// next line begins. It returns 0 for any other, which requestLine judges.
func (p *parser) usualLine(b []byte, q *stream.Request) int {
	i := 0
	for i < len(b) && b[i] >= 'A' && b[i] <= 'Z' {
		i++
	}
	if i+1 >= len(b) || b[i] != ' ' || b[i+1] != '/' {
		return 0
	}
	end := blank(b, i+2)
	next := end + len(usualEnd)
	if next > len(b) || string(b[end:next]) != usualEnd {
		return 0
	}
	m, known := method(b[:i])
	if !known {
		return 0
	}
	q.Method, q.Path, q.Authority = m, str(b[i+1:end]), ""
	p.frame.protocol = stream.HTTP11
	return next
}

// requestLine takes in the first line of a request; next is 0 if it has not ended, and then only what is sure to be wrong is.
func (p *parser) requestLine(line []byte, next int, q *stream.Request) error {
	i := 0
	for i < len(line) && token[line[i]] != 0 {
		i++
	}
	if i == 0 && len(line) > 0 || i < len(line) && line[i] != ' ' && line[i] != '\t' && (next > 0 || line[i] != '\r') {
		return ErrMethod
	}
	if next == 0 {
		return nil
	}
	m, known := method(line[:i])
	if !known && !p.o.CustomMethods {
		return ErrMethod
	}
	target, rest := word(line[i:])
	version, rest := word(rest)
	if len(target) == 0 || len(skipSpace(rest)) != 0 {
		return ErrProtocol
	}
	if !targetValid(target, m == "CONNECT") {
		return ErrProtocol
	}
	q.Method, q.Path, q.Authority = m, str(target), ""
	p.frame.protocol = stream.HTTP10
	if len(version) == 0 { // HTTP/0.9
		return nil
	}
	return p.version(version)
}

func (p *parser) version(v []byte) error {
	if len(v) != 8 || string(v[:5]) != "HTTP/" || v[6] != '.' || v[5]-'0' > 9 || v[7]-'0' > 9 {
		return ErrProtocol
	}
	p.frame.protocol = stream.HTTP10
	if v[5] == '1' && v[7] == '1' {
		p.frame.protocol = stream.HTTP11
	}
	return nil
}

// word cuts the next word off b; any number of spaces and tabs may stand before it.
func word(b []byte) (w, rest []byte) {
	b = skipSpace(b)
	i := 0
	for i < len(b) && b[i] != ' ' && b[i] != '\t' {
		i++
	}
	return b[:i], b[i:]
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

// statusLine takes in the first line of a response; next is 0 if it has not ended.
func (p *parser) statusLine(line []byte, next int, r *stream.Response) error {
	if next == 0 {
		if n := min(len(line), 5); string(line[:n]) != "HTTP/"[:n] {
			return ErrProtocol
		}
		return nil
	}
	if len(line) < 12 || line[8] != ' ' {
		return ErrProtocol
	}
	if err := p.version(line[:8]); err != nil {
		return err
	}
	code, reason := word(line[9:])
	if len(code) != 3 || line[9] == ' ' {
		return ErrProtocol
	}
	r.Status = 0
	for _, c := range code {
		if c < '0' || c > '9' {
			return ErrProtocol
		}
		r.Status = r.Status*10 + int(c-'0')
	}
	if r.Status < 100 {
		return ErrProtocol
	}
	if p.o.KeepCase && p.o.KeepReason {
		from := len(p.joins)
		p.joins = append(p.joins, bytes.TrimSpace(reason)...)
		p.spelling.Reason = str(p.joins[from:])
	}
	return nil
}

// method returns a registered method as a constant, others as they are.
func method(b []byte) (m string, known bool) {
	switch string(b) {
	case "GET":
		return "GET", true
	case "POST":
		return "POST", true
	case "PUT":
		return "PUT", true
	case "HEAD":
		return "HEAD", true
	case "DELETE":
		return "DELETE", true
	case "OPTIONS":
		return "OPTIONS", true
	case "PATCH":
		return "PATCH", true
	case "CONNECT":
		return "CONNECT", true
	case "TRACE":
		return "TRACE", true
	case "ACL", "BIND", "CHECKOUT", "COPY", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE", "M-SEARCH", "NOTIFY",
		"PROPFIND", "PROPPATCH", "PURGE", "QUERY", "REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE", "UNBIND", "UNLINK", "UNLOCK",
		"UNSUBSCRIBE":
		return str(b), true
	}
	return str(b), false
}
