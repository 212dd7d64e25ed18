// Package urlpath normalises the paths and hosts of requests as a connection manager is told to (normalize_path, merge_slashes,
// path_with_escaped_slashes_action, strip_any_host_port, strip_matching_host_port, strip_trailing_host_dot). All functions are pure; they
// return their argument, without allocating, where nothing is to be done. The results are those of Envoy, which a differential
// test has compared.
//
// The connection manager calls Options.Apply once per request, before it looks for a route, and StripPort and StripDot on the authority.
package urlpath

import "strings"

// EscapedSlashes says what happens to a path with %2F, %2f, %5C or %5c in it (path_with_escaped_slashes_action).
type EscapedSlashes uint8

// The actions; Keep is the default.
const (
	Keep EscapedSlashes = iota
	Reject
	UnescapeAndRedirect
	UnescapeAndForward
)

// Outcome says what becomes of the request.
type Outcome uint8

// The outcomes. A refused request gets 400 with the details path_normalization_failed, a redirected one 307 to the new path.
const (
	Forward Outcome = iota
	Refuse
	Redirect
)

// Options are what a connection manager says of paths. The zero Options leave them alone.
type Options struct {
	Normalize      bool
	MergeSlashes   bool
	EscapedSlashes EscapedSlashes
}

// Apply normalises a :path, query and all; only what stands before the first "?" is changed.
func (o Options) Apply(path string) (string, Outcome) {
	if o == (Options{}) || path == "" {
		return path, Forward
	}
	outcome := Forward
	if o.EscapedSlashes != Keep {
		if plain := UnescapeSlashes(path); plain != path {
			path = plain
			switch o.EscapedSlashes {
			case Reject:
				return path, Refuse
			case UnescapeAndRedirect:
				outcome = Redirect
			}
		}
	}
	if o.Normalize {
		var ok bool
		if path, ok = Normalize(path); !ok {
			return path, Refuse
		}
	}
	if o.MergeSlashes {
		path = MergeSlashes(path)
	}
	return path, outcome
}

func split(path string) (before, query string) {
	if i := strings.IndexByte(path, '?'); i >= 0 {
		return path[:i], path[i:]
	}
	return path, ""
}

// UnescapeSlashes turns the escapes of slash and backslash into what they stand for.
func UnescapeSlashes(path string) string {
	before, query := split(path)
	if found := strings.Contains(before, "%"); !found {
		return path
	}
	b := make([]byte, 0, len(path))
	for i := 0; i < len(before); i++ {
		switch c := escape(before[i:]); c {
		case '/', '\\':
			b = append(b, byte(c))
			i += 2
		default:
			b = append(b, before[i])
		}
	}
	if len(b) == len(before) {
		return path
	}
	return string(append(b, query...))
}

// escape returns the byte that a percent escape at the beginning of s stands for, -1 if there is none.
func escape(s string) int {
	if len(s) < 3 || s[0] != '%' {
		return -1
	}
	h, l := hex(s[1]), hex(s[2])
	if h < 0 || l < 0 {
		return -1
	}
	return h<<4 | l
}

func hex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// MergeSlashes leaves one slash of each run of them. A path of nothing but slashes keeps two, as in Envoy.
func MergeSlashes(path string) string {
	before, query := split(path)
	if !strings.Contains(before, "//") {
		return path
	}
	b := make([]byte, 0, len(path))
	for i := range len(before) {
		if before[i] != '/' || i == 0 || before[i-1] != '/' {
			b = append(b, before[i])
		}
	}
	if len(b) == 1 {
		b = append(b, '/')
	}
	return string(append(b, query...))
}

// Normalize canonicalises the path as RFC 3986 section 6 and the WHATWG URL standard say: dot segments are resolved, escapes of unreserved
// characters undone, characters that may not stand in a path escaped, backslashes become slashes. ok is false if it cannot be done.
func Normalize(path string) (normal string, ok bool) {
	before, query := split(path)
	if isNormal(before) {
		return path, true
	}
	b, ok := canonical(make([]byte, 0, len(path)+8), cutDotParameters(before))
	if !ok {
		return path, false
	}
	return string(append(b, query...)), true
}

// cutDotParameters removes the ";parameters" of segments that are "." or "..", so that they count as dot segments.
func cutDotParameters(s string) string {
	if !strings.Contains(s, "/.;") && !strings.Contains(s, "/..;") {
		return s
	}
	segments := strings.Split(s, "/")
	for i, g := range segments {
		if name, _, _ := strings.Cut(g, ";"); name == "." || name == ".." {
			segments[i] = name
		}
	}
	return strings.Join(segments, "/")
}

// isNormal says whether canonical would change nothing; it may err on the side of no.
func isNormal(s string) bool {
	if s == "" || s[0] != '/' {
		return false
	}
	for i := range len(s) {
		switch classes[s[i]] {
		case pass:
		case dot:
			if s[i-1] == '/' {
				return false
			}
		default:
			return false
		}
	}
	return true
}

type class uint8

const (
	pass class = iota
	dot
	escaped
	percent
	slash
	invalid
)

// classes says what a byte means in a path.
var classes = func() (t [256]class) {
	for c := range 256 {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"#<>?^`{|}", byte(c)) >= 0 {
			t[c] = escaped
		}
	}
	t['.'], t['%'], t['\\'], t[0] = dot, percent, slash, invalid
	return t
}()

func unreserved(c int) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '~' || c == '.'
}

const upperHex = "0123456789ABCDEF"

// canonical appends the canonical form of s.
func canonical(b []byte, s string) ([]byte, bool) {
	if s == "" || s[0] != '/' && s[0] != '\\' {
		b = append(b, '/')
	}
	bare := -1 // index in b of the last percent sign that begins no escape
	for i := 0; i < len(s); {
		if n, dots := dotSegment(s[i:]); dots > 0 && len(b) > 0 && b[len(b)-1] == '/' {
			if i += n; dots == 2 {
				b = parent(b)
			}
			continue
		}
		c := s[i]
		i++
		switch classes[c] {
		case pass, dot:
			b = append(b, c)
		case slash:
			b = append(b, '/')
		case escaped:
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		case invalid:
			return b, false
		case percent:
			switch e := escape(s[i-1:]); {
			case e == 0:
				return b, false
			case e < 0:
				bare = len(b)
				b = append(b, '%')
			case unreserved(e):
				i += 2
				b = unnest(append(b, byte(e)), bare, s[i:])
			default:
				b = append(b, s[i-1:i+2]...)
				i += 2
			}
		}
	}
	return b, true
}

// unnest escapes the bare percent sign if what was just unescaped behind it makes an escape of it, as in "%%34%31" or "%%341".
func unnest(b []byte, bare int, rest string) []byte {
	n := len(b)
	switch {
	case bare < 0 || bare >= n || b[bare] != '%': // a dot segment may have removed it
		return b
	case bare == n-2 && rest != "" && hex(b[n-1]) >= 0 && hex(rest[0]) >= 0:
		return append(b[:n-1], '2', '5', b[n-1])
	case bare == n-3 && hex(b[n-1]) >= 0 && hex(b[n-2]) >= 0:
		return append(b[:n-2], '2', '5', b[n-2], b[n-1])
	}
	return b
}

// dotSegment looks for "." or ".." (dots may be escaped) as a whole segment at the beginning of s; n is its length with the slash behind it.
func dotSegment(s string) (n, dots int) {
	i := 0
	for dots < 3 {
		switch {
		case i < len(s) && s[i] == '.':
			i++
		case i < len(s) && escape(s[i:]) == '.':
			i += 3
		case dots == 0:
			return 0, 0
		case i == len(s):
			return i, dots
		case s[i] == '/' || s[i] == '\\':
			return i + 1, dots
		default:
			return 0, 0
		}
		dots++
	}
	return 0, 0
}

// parent removes the last segment of b, which ends in a slash.
func parent(b []byte) []byte {
	if len(b) <= 1 {
		return b
	}
	i := len(b) - 2
	for i > 0 && b[i] != '/' {
		i--
	}
	return b[:i+1]
}

// StripPort removes the port of a host. With port not 0 only that port is removed (strip_matching_host_port); with 0, any number is.
// The caller does not strip the authority of a CONNECT.
func StripPort(host string, port uint16) string {
	i := portStart(host)
	if i < 0 {
		return host
	}
	n, ok := number(host[i+1:])
	if !ok || port != 0 && n != uint64(port) {
		return host
	}
	return host[:i]
}

// portStart returns the index of the colon before the port of host, -1 if there is none.
func portStart(host string) int {
	i := strings.LastIndexByte(host, ':')
	if i < strings.LastIndexByte(host, ']') {
		return -1
	}
	return i
}

// number reads a port as absl::SimpleAtoi does.
func number(s string) (n uint64, ok bool) {
	s = strings.TrimPrefix(s, "+")
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' || n > 1<<32 {
			return 0, false
		}
		n = 10*n + uint64(s[i]-'0')
	}
	return n, s != "" && n < 1<<32
}

// StripDot removes a dot at the end of a host or before its port (strip_trailing_host_dot).
func StripDot(host string) string {
	switch i := strings.LastIndexByte(host, '.'); {
	case i < 0:
		return host
	case i == len(host)-1:
		return host[:i]
	case host[i+1] == ':':
		return host[:i] + host[i+1:]
	}
	return host
}
