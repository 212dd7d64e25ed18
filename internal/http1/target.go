package http1

import (
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

const (
	inHost      = 1 << iota // may stand in the host of a target (with user information and port)
	inAuthority             // may stand in a Host field
	inName                  // may stand in the host name of a target
	inPath                  // may stand in a path or query
)

var class = func() (t [256]uint8) {
	for c := range 256 {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			t[c] = inHost | inAuthority | inName
		case strings.IndexByte("!$%&'()*+,-.:;=@[]_~", byte(c)) >= 0:
			t[c] = inHost | inAuthority
		}
		if c > ' ' && c < 127 {
			t[c] |= inPath
		}
	}
	t['.'] |= inName
	t['-'] |= inName
	return t
}()

func all(b string, mask uint8) bool {
	for i := 0; i < len(b); i++ {
		if class[b[i]]&mask == 0 {
			return false
		}
	}
	return true
}

// targetValid says whether a target has one of the four forms of RFC 9112, 3.2, as far as Envoy's parser looks.
func targetValid(b []byte, connect bool) bool {
	t := str(b)
	if t[0] == '/' || t[0] == '*' {
		return all(t, inPath)
	}
	if !connect {
		i := 0
		for i < len(t) && (t[i] >= 'a' && t[i] <= 'z' || t[i] >= 'A' && t[i] <= 'Z' ||
			i > 0 && (t[i] >= '0' && t[i] <= '9' || t[i] == '+' || t[i] == '-' || t[i] == '.')) {
			i++
		}
		if i == 0 || !strings.HasPrefix(t[i:], "://") {
			return false
		}
		t = t[i+3:]
	}
	end := strings.IndexAny(t, "/?")
	if end < 0 {
		end = len(t)
	}
	return all(t[:end], inHost) && !strings.Contains(t[:end], "@@") && all(t[end:], inPath)
}

// target splits a target in absolute form, and takes one in authority form for CONNECT (RFC 9112, 3.2); others stay.
func (c *Conn) target(q *stream.Request) error {
	connect := q.Method == "CONNECT"
	t := q.Path
	if !connect && (t[0] == '/' || q.Method == "OPTIONS" && t[0] == '*' || c.parse.o.NoAbsoluteURL) {
		return nil
	}
	scheme, rest, ok := strings.Cut(t, "://")
	if connect {
		rest, ok = t, true
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host := rest[:end]
	if at := strings.LastIndexByte(host, '@'); at >= 0 && !connect {
		host = host[at+1:]
	}
	if !ok || connect && end < len(rest) || !hostPort(host, connect) {
		return ErrURL
	}
	c.HasHost, q.Authority = true, host
	if connect {
		q.Path = ""
		return nil
	}
	switch {
	case strings.EqualFold(scheme, "http"):
		q.Scheme = "http"
	case strings.EqualFold(scheme, "https"):
		q.Scheme = "https"
	default:
		return ErrScheme
	}
	c.Absolute = true
	if q.Path = rest[end:]; q.Path == "" {
		q.Path = "/"
	}
	return nil
}

// hostPort says whether h is a host name or bracketed IPv6 address with a port, which CONNECT must have.
func hostPort(h string, needPort bool) bool {
	var port string
	var hasPort bool
	if strings.HasPrefix(h, "[") {
		i := strings.IndexByte(h, ']')
		if i < 2 || strings.Trim(h[1:i], "0123456789abcdefABCDEF:.%") != "" {
			return false
		}
		if port = h[i+1:]; port != "" {
			if port[0] != ':' {
				return false
			}
			port, hasPort = port[1:], true
		}
	} else {
		var name string
		if name, port, hasPort = strings.Cut(h, ":"); name == "" || !all(name, inName) {
			return false
		}
	}
	if !hasPort {
		return !needPort
	}
	n := 0
	for i := 0; i < len(port); i++ {
		if n = n*10 + int(port[i]-'0'); port[i] < '0' || port[i] > '9' || n > 65535 {
			return false
		}
	}
	return port != ""
}
