package match

import (
	"fmt"
	"strconv"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Header matches one header (envoy.config.route.v3.HeaderMatcher). A header that is there several times matches if any of its
// values does; one that is not there matches nothing, inverted or not, unless it is treated as empty.
type Header struct {
	Name    string // in lower case; a pseudo header begins with a colon
	kind    headerKind
	present bool // for byPresence: it has to be there
	invert  bool
	asEmpty bool
	value   String
	numbers Range
}

type headerKind uint8

const (
	byPresence headerKind = iota
	byValue
	byRange
)

// Headers is a list of header matchers.
type Headers []Header

// CompileHeaders compiles a list; errors begin with the index, as in `[2].range_match: ...`.
func CompileHeaders(list []*routev3.HeaderMatcher) (Headers, error) {
	var all Headers
	for i, m := range list {
		h, err := CompileHeader(m)
		if err != nil {
			return nil, fmt.Errorf("[%d].%w", i, err)
		}
		all = append(all, h)
	}
	return all, nil
}

// CompileHeader compiles a HeaderMatcher. Without a specifier it asks for presence.
func CompileHeader(m *routev3.HeaderMatcher) (Header, error) {
	h := Header{Name: lower(m.GetName()), kind: byValue, invert: m.GetInvertMatch(), asEmpty: m.GetTreatMissingHeaderAsEmpty()}
	var err error
	field := ""
	switch s := m.GetHeaderMatchSpecifier().(type) {
	case nil:
		h.kind, h.present = byPresence, true
	case *routev3.HeaderMatcher_PresentMatch:
		h.kind, h.present = byPresence, s.PresentMatch
	case *routev3.HeaderMatcher_RangeMatch:
		h.kind, h.numbers = byRange, CompileRange(s.RangeMatch)
	case *routev3.HeaderMatcher_StringMatch:
		field = "string_match"
		h.value, err = CompileString(s.StringMatch)
	case *routev3.HeaderMatcher_SafeRegexMatch:
		field = "safe_regex_match"
		h.value.kind = safeRegex
		h.value.re, err = CompileRegex(s.SafeRegexMatch)
	case *routev3.HeaderMatcher_ExactMatch:
		h.value = String{kind: exact, text: s.ExactMatch}
	case *routev3.HeaderMatcher_PrefixMatch:
		h.value = String{kind: prefix, text: s.PrefixMatch}
	case *routev3.HeaderMatcher_SuffixMatch:
		h.value = String{kind: suffix, text: s.SuffixMatch}
	case *routev3.HeaderMatcher_ContainsMatch:
		h.value = String{kind: contains, text: s.ContainsMatch}
	default:
		return h, fmt.Errorf("header_match_specifier: %T is not supported", s)
	}
	if err != nil {
		return h, fmt.Errorf("%s: %w", field, err)
	}
	return h, nil
}

// Match says whether all of the list match a request.
func (list Headers) Match(q *stream.Request) bool {
	for i := range list {
		if !list[i].Match(q) {
			return false
		}
	}
	return true
}

// MatchAny says whether any of the list matches a request.
func (list Headers) MatchAny(q *stream.Request) bool {
	for i := range list {
		if list[i].Match(q) {
			return true
		}
	}
	return false
}

// MatchAnyResponse says whether any of the list matches a response.
func (list Headers) MatchAnyResponse(r *stream.Response) bool {
	for i := range list {
		if list[i].MatchResponse(r) {
			return true
		}
	}
	return false
}

// Match says whether the header of a request matches; pseudo headers and Host are looked up where Request has them.
func (h *Header) Match(q *stream.Request) bool {
	if v, pseudo := pseudoHeader(q, h.Name); pseudo {
		return h.one(v, v != "")
	}
	return h.MatchMap(&q.Header)
}

// MatchResponse says whether the header of a response matches; :status is its status.
func (h *Header) MatchResponse(r *stream.Response) bool {
	if h.Name == ":status" {
		return h.one(strconv.Itoa(r.Status), r.Status != 0)
	}
	return h.MatchMap(&r.Header)
}

// MatchMap says whether the header matches in a map that has no pseudo headers, such as trailers.
func (h *Header) MatchMap(m *header.Map) bool {
	there, hit := false, false
	for _, f := range m.All() {
		if f.Name != h.Name {
			continue
		}
		if there = true; h.kind == byPresence || h.matches(f.Value) {
			hit = true
			break
		}
	}
	return h.verdict(there, hit)
}

func (h *Header) one(v string, there bool) bool {
	return h.verdict(there, there && h.kind != byPresence && h.matches(v))
}

func (h *Header) verdict(there, hit bool) bool {
	if h.kind == byPresence {
		return (there || h.asEmpty) == h.present != h.invert
	}
	if !there {
		if !h.asEmpty {
			return false
		}
		hit = h.matches("")
	}
	return hit != h.invert
}

func (h *Header) matches(v string) bool {
	if h.kind == byRange {
		return h.numbers.MatchText(v)
	}
	return h.value.Match(v)
}

// HeaderValue returns the first value of a header of a request; name is in lower case and may be that of a pseudo header or "host".
func HeaderValue(q *stream.Request, name string) (string, bool) {
	if v, pseudo := pseudoHeader(q, name); pseudo {
		return v, v != ""
	}
	return q.Header.Get(name)
}

func pseudoHeader(q *stream.Request, name string) (string, bool) {
	if name == "" || name[0] != ':' && name[0] != 'h' {
		return "", false
	}
	switch name {
	case ":path":
		return q.Path, true
	case ":method":
		return q.Method, true
	case ":authority", "host":
		return q.Authority, true
	case ":scheme":
		return q.Scheme, true
	}
	return "", false
}

// Range is a half-open interval of integers (envoy.type.v3.Int64Range).
type Range struct{ Start, End int64 }

// CompileRange compiles an Int64Range.
func CompileRange(r *typev3.Int64Range) Range { return Range{r.GetStart(), r.GetEnd()} }

// Match says whether Start <= n < End.
func (r Range) Match(n int64) bool { return r.Start <= n && n < r.End }

// MatchText says whether s is a decimal number within the range.
func (r Range) MatchText(s string) bool {
	n, ok := parseInt(s)
	return ok && r.Match(n)
}

// parseInt is strconv.ParseInt in base 10 without its error value, which would be allocated for each miss.
func parseInt(s string) (int64, bool) {
	digits := s
	if s != "" && (s[0] == '-' || s[0] == '+') {
		digits = s[1:]
	}
	if digits == "" || len(digits) > 19 {
		return 0, false
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// joined returns all values of a header, joined by commas in the arena of s where there are several.
func joined(s *stream.Stream, fields []header.Field, name string) (all string, there bool) {
	for i := range fields {
		if fields[i].Name != name {
			continue
		}
		if !there {
			all, there = fields[i].Value, true
		} else {
			all = s.Text(all, ",", fields[i].Value)
		}
	}
	return all, there
}
