package hcm

import "strings"

// isReferer says whether s is an absolute URL without user information and fragment, or a relative reference without a fragment
// (RFC 9110, 10.1.3), as Envoy reads it.
func isReferer(s string) bool {
	scheme, rest, ok := strings.Cut(s, "://")
	if ok && isScheme(scheme) {
		end := strings.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		host, tail := rest[:end], rest[end:]
		return host != "" && strings.IndexByte(host, '@') < 0 && isHost(host) && strings.IndexByte(tail, '#') < 0 && isPrintable(tail)
	}
	return isRelative(s)
}

// isScheme says whether s is a scheme (RFC 3986, 3.1).
func isScheme(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && (i == 0 || c != '+' && c != '-' && c != '.') {
			return false
		}
	}
	return s != ""
}

// isHost says whether s is made of what stands in a host with its port.
func isHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && strings.IndexByte("-._:[]%", c) < 0 {
			return false
		}
	}
	return true
}

// isRelative says whether s is a relative reference without a fragment: no colon may stand in its first segment.
func isRelative(s string) bool {
	slash := false
	for i := range len(s) {
		switch c := s[i]; {
		case c == '/':
			slash = true
		case c == ':':
			if !slash {
				return false
			}
		case !isAlphanumeric(c) && strings.IndexByte("-._~%!$&'()*+,;=@?", c) < 0:
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// isPrintable says whether s has neither spaces, control characters nor bytes beyond ASCII.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
