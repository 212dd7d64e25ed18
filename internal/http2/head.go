package http2

import (
	"math"
	"math/bits"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/header"
)

// head is a header section that is being decoded, or waits to be read. It is judged field by field (RFC 9113, 8.2 and 8.3), so what no
// message may have is never kept.
type head struct {
	method, path, authority, scheme, protocol string
	host                                      string // of a host field, where there is no :authority
	status                                    int
	fields                                    header.Map
	arena                                     []byte // of strings that are in no table; those of a stream's earlier heads stay valid
	end                                       bool   // the message has nothing but this head

	o       *Options
	trailer bool
	request bool
	regular bool   // a field has come that is no pseudo field
	hasHost bool   // :authority or host
	seen    uint16 // pseudo fields, a bit per kind
	length  int64  // content-length; -1: not said
	count   int
	size    int
	cookies int // where the cookie field stands in fields, -1: nowhere
	err     *Error
	refused bool // underscores
}

func (h *head) begin(o *Options, request, trailer bool) {
	fields, arena := h.fields, h.arena
	*h = head{fields: fields, arena: arena, o: o, request: request, trailer: trailer, length: -1, cookies: -1}
	h.fields.Reset()
	if h.fields.Become(header.Response); request {
		h.fields.Become(header.Request)
	}
}

// recycle makes the memory of the head ready for another stream.
func (h *head) recycle() {
	if h.arena = h.arena[:0]; cap(h.arena) > keepArena {
		h.arena = nil
	}
}

// room makes room for n bytes at the end of the arena. A full arena is left to those who hold its strings.
func (h *head) room(n int) []byte {
	if cap(h.arena)-len(h.arena) < n {
		h.arena = make([]byte, 0, max(n, min(2*cap(h.arena), 8<<10), 256))
	}
	return h.arena
}

// take takes in a field. After an error it does nothing: the block is decoded on for the sake of the table.
func (h *head) take(f *field) {
	if h.err != nil {
		return
	}
	h.size += len(f.name) + len(f.value)
	if h.count++; h.count > h.o.FieldLimit+pseudos { // and what is left of it in settle: crumbs of cookies are one
		h.err = errTooMany
		return
	}
	if h.size > h.o.HeadLimit {
		h.err = errTooLong
		return
	}
	if f.kind >= method {
		if !h.pseudo(f) {
			h.err = errField
		}
		return
	}
	h.regular = true
	if h.o.NoObsText && !ascii(f.value) {
		h.err = errField
		return
	}
	if f.kind == plain {
		h.add(f.id, f.name, f.value)
		return
	}
	if !h.special(f) {
		h.err = errField
	}
}

const pseudos = 5 // that do not count as fields

// add puts a field into the map; one that a message of this kind holds once is joined to the first.
func (h *head) add(id header.ID, name, value string) {
	if !h.trailer && id != header.Other && h.fields.Once(id) {
		if had, ok := h.fields.Find(id); ok {
			h.fields.SetID(id, h.join(had, ",", value))
			return
		}
	}
	h.fields.Put(id, name, value)
}

func (h *head) join(a, between, b string) string {
	r := h.room(len(a) + len(between) + len(b))
	h.arena = append(append(append(r, a...), between...), b...)
	return str(h.arena[len(r):])
}

// special takes in a field that means something to the codec.
func (h *head) special(f *field) bool {
	switch f.kind {
	case underscore:
		return h.underscore(f)
	case cookie:
		h.cookie(f.value)
	case host:
		return h.hostField(f.value)
	case length:
		return h.contentLength(f.value)
	case te:
		if !strings.EqualFold(f.value, "trailers") {
			return false
		}
		h.add(f.id, f.name, f.value)
	default: // bad, forbidden
		return false
	}
	return true
}

func (h *head) underscore(f *field) bool {
	switch {
	case h.o.Underscores == AllowUnderscores || !h.request:
		h.add(f.id, f.name, f.value)
	case h.o.Underscores == DropUnderscores:
		h.o.Stats.DroppedUnderscores.Inc()
	default:
		h.refused = true
	}
	return true
}

// cookie joins the crumbs that a peer may have made (RFC 9113, 8.2.3).
func (h *head) cookie(value string) {
	if h.cookies < 0 || h.trailer {
		h.cookies = h.fields.Len()
		h.fields.Put(header.Other, "cookie", value)
		return
	}
	f := &h.fields.All()[h.cookies]
	if f.Value == "" {
		f.Value = value
		return
	}
	f.Value = h.join(f.Value, "; ", value)
}

// hostField takes a host field for the authority where there is no :authority; else that one counts.
func (h *head) hostField(value string) bool {
	if h.trailer {
		return true // never does a trailer route a message
	}
	if !h.request {
		h.fields.Put(header.Host, "host", value)
		return true
	}
	if h.host != "" && h.host != value || !validAuthority(value) {
		return false
	}
	h.host, h.hasHost = value, true
	return true
}

// contentLength takes the length of the body; in trailers it means nothing and goes no further (RFC 9110, 6.5.1).
func (h *head) contentLength(value string) bool {
	if h.trailer {
		return true
	}
	n := int64(0)
	for i := range len(value) {
		d := int64(value[i]) - '0'
		if d < 0 || d > 9 || n > (math.MaxInt64-d)/10 {
			return false
		}
		n = n*10 + d
	}
	if value == "" || h.length >= 0 {
		return false
	}
	h.length = n
	h.fields.Put(header.ContentLength, "content-length", value)
	return true
}

// pseudo takes in a pseudo field: before all others, once, and only where it belongs.
func (h *head) pseudo(f *field) bool {
	bit := uint16(1) << (f.kind - method)
	if h.regular || h.trailer || h.seen&bit != 0 || (f.kind == status) == h.request || f.kind == pseudo {
		return false
	}
	h.seen |= bit
	v := f.value
	switch f.kind {
	case method:
		h.method = v
		return v != "" && tokens(v)
	case scheme:
		h.scheme = v
		return v != "" && v[0]|32 >= 'a' && v[0]|32 <= 'z' && schemes(v)
	case authority:
		h.authority, h.hasHost = v, true
		return v != "" && validAuthority(v)
	case path:
		h.path = v
		return v != "" && visible(v)
	case protocol:
		h.protocol = v
		return v != "" && tokens(v) && h.o.Connect
	default:
		return h.setStatus(v)
	}
}

func (h *head) setStatus(v string) bool {
	if len(v) != 3 {
		return false
	}
	for i := range 3 {
		if v[i] < '0' || v[i] > '9' {
			return false
		}
		h.status = h.status*10 + int(v[i]-'0')
	}
	return h.status >= 100
}

func ascii(v string) bool {
	for i := range len(v) {
		if v[i] >= 128 {
			return false
		}
	}
	return true
}

func has(seen uint16, k kind) bool { return seen&(1<<(k-method)) != 0 }

// settle judges the head as a whole.
func (h *head) settle(end bool) *Error {
	h.end = end
	if h.err == nil && h.fields.Len()+bits.OnesCount16(h.seen) > h.o.FieldLimit {
		h.err = errTooMany
	}
	if h.err == nil && !h.whole(end) {
		h.err = errMessage
	}
	return h.err
}

func (h *head) whole(end bool) bool {
	switch {
	case h.trailer:
		return end && h.length < 0 // a trailer frames nothing
	case !h.request:
		return has(h.seen, status) && h.status != 101 && (h.status >= 200 || !end && h.length < 0)
	}
	connect := h.method == "CONNECT"
	extended := has(h.seen, protocol)
	switch {
	case h.method == "", extended && !connect:
		return false
	case connect && !extended:
		return h.authority != "" && !has(h.seen, scheme) && !has(h.seen, path)
	case h.scheme == "" || h.path == "" || h.path[0] != '/' && (h.path != "*" || h.method != "OPTIONS"):
		return false
	}
	if h.authority == "" {
		h.authority = h.host
	}
	if h.authority == "" {
		return false
	}
	return !end || h.length <= 0 || connect
}

const (
	inMethod = 1 << iota
	inScheme
	inAuthority
	inPath
)

var class = func() (t [256]uint8) {
	for c := range 256 {
		alpha := c|32 >= 'a' && c|32 <= 'z'
		digit := c >= '0' && c <= '9'
		if token[c] || alpha {
			t[c] |= inMethod
		}
		if alpha || digit || c == '+' || c == '-' || c == '.' {
			t[c] |= inScheme
		}
		if c > ' ' && c != 127 {
			t[c] |= inPath
		}
	}
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!$%&'()*+,-.:;=[]_~") {
		t[c] |= inAuthority
	}
	return t
}()

func all(v string, mask uint8) bool {
	for i := range len(v) {
		if class[v[i]]&mask == 0 {
			return false
		}
	}
	return true
}

func tokens(v string) bool         { return all(v, inMethod) }
func schemes(v string) bool        { return all(v, inScheme) }
func validAuthority(v string) bool { return all(v, inAuthority) }
func visible(v string) bool        { return all(v, inPath) }
