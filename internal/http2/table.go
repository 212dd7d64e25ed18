package http2

import (
	"unsafe"

	"github.com/outrigger-proxy/outrigger/internal/header"
)

// kind is what a name means to the codec.
type kind uint8

const (
	plain      kind = iota
	bad             // name or value that no message may have
	forbidden       // a field of the connection (RFC 9113, 8.2.2)
	underscore      // a plain name with an underscore
	cookie
	host
	length // content-length
	te
	method // the pseudo fields, from here on
	scheme
	authority
	path
	protocol
	status
	pseudo // one that is unknown
)

// field is a header field with what is known of it. Those in a table are looked over once.
type field struct {
	name, value string
	id          header.ID
	kind        kind
}

func str(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

const overhead = 32 // of an entry (RFC 7541, 4.1)

func (f *field) size() uint32 { return uint32(len(f.name)+len(f.value)) + overhead }

// table is a dynamic table (RFC 7541, 2.3.2). Its strings stand in chunks that the collector frees once no entry and no stream
// refers to them: a field that is found in the table costs no copy, one that is put there no allocation of its own.
type table struct {
	max, size uint32
	ring      []field // a power of two
	next, n   int     // ring[next-1] is the newest entry
	first     uint32  // serial of the oldest entry, counted from 1
	chunk     []byte
}

// at returns the i-th newest entry, from 0.
func (t *table) at(i int) *field { return &t.ring[(t.next-1-i)&(len(t.ring)-1)] }

// bySerial returns an entry by when it was added, nil if it has gone.
func (t *table) bySerial(serial uint32) (f *field, i int) {
	age := serial - t.first
	if age >= uint32(t.n) {
		return nil, 0
	}
	i = t.n - 1 - int(age)
	return t.at(i), i
}

// room makes room for n bytes of strings at the end of the chunk.
func (t *table) room(n int) []byte {
	if cap(t.chunk)-len(t.chunk) < n {
		t.chunk = make([]byte, 0, max(n, min(2*cap(t.chunk), 4<<10), 256))
	}
	return t.chunk
}

// keep copies s into the chunk.
func (t *table) keep(s string) string {
	from := len(t.room(len(s)))
	t.chunk = append(t.chunk, s...)
	return str(t.chunk[from:])
}

// add puts f in, whose strings must live as long as the table, and returns its serial; 0: it is too big.
func (t *table) add(f field) uint32 {
	n := f.size()
	t.evict(t.max - min(n, t.max))
	if n > t.max {
		return 0
	}
	if t.n == len(t.ring) {
		t.grow()
	}
	t.ring[t.next&(len(t.ring)-1)] = f
	t.next++
	t.n++
	t.size += n
	return t.first + uint32(t.n) - 1
}

func (t *table) grow() {
	ring := make([]field, max(16, 2*len(t.ring)))
	for i := range t.n {
		ring[t.n-1-i] = *t.at(i)
	}
	t.ring, t.next = ring, t.n
}

// evict drops the oldest entries until no more than limit bytes are left.
func (t *table) evict(limit uint32) {
	for t.size > limit {
		f := t.at(t.n - 1)
		t.size -= f.size()
		*f = field{}
		t.n--
		t.first++
	}
}

func (t *table) resize(to uint32) {
	t.max = to
	t.evict(to)
}

// static is RFC 7541, appendix A, from 1.
var static = func() (t [62]field) {
	for i, p := range [...][2]string{
		{":authority"},
		{":method", "GET"},
		{":method", "POST"},
		{":path", "/"},
		{":path", "/index.html"},
		{":scheme", "http"},
		{":scheme", "https"},
		{":status", "200"},
		{":status", "204"},
		{":status", "206"},
		{":status", "304"},
		{":status", "400"},
		{":status", "404"},
		{":status", "500"},
		{"accept-charset"},
		{"accept-encoding", "gzip, deflate"},
		{"accept-language"},
		{"accept-ranges"},
		{"accept"},
		{"access-control-allow-origin"},
		{"age"},
		{"allow"},
		{"authorization"},
		{"cache-control"},
		{"content-disposition"},
		{"content-encoding"},
		{"content-language"},
		{"content-length"},
		{"content-location"},
		{"content-range"},
		{"content-type"},
		{"cookie"},
		{"date"},
		{"etag"},
		{"expect"},
		{"expires"},
		{"from"},
		{"host"},
		{"if-match"},
		{"if-modified-since"},
		{"if-none-match"},
		{"if-range"},
		{"if-unmodified-since"},
		{"last-modified"},
		{"link"},
		{"location"},
		{"max-forwards"},
		{"proxy-authenticate"},
		{"proxy-authorization"},
		{"range"},
		{"referer"},
		{"refresh"},
		{"retry-after"},
		{"server"},
		{"set-cookie"},
		{"strict-transport-security"},
		{"transfer-encoding"},
		{"user-agent"},
		{"vary"},
		{"via"},
		{"www-authenticate"},
	} {
		f := &t[i+1]
		f.name, f.value = p[0], p[1]
		f.id = header.Lookup(f.name)
		f.kind = kindOf(f.name)
	}
	return t
}()

// staticName finds the first static entry of a name.
var staticName = func() map[string]uint8 {
	m := map[string]uint8{}
	for i := len(static) - 1; i > 0; i-- {
		m[static[i].name] = uint8(i)
	}
	return m
}()

// staticID is staticName for well-known names.
var staticID = func() (t [256]uint8) {
	for i := len(static) - 1; i > 0; i-- {
		if id := static[i].id; id != header.Other {
			t[id] = uint8(i)
		}
	}
	return t
}()

// token is what a name may consist of (RFC 9113, 8.2.1): no upper case.
var token = func() (t [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") {
		t[c] = true
	}
	return t
}()

// kindOf judges a name.
func kindOf(n string) kind {
	if n == "" {
		return bad
	}
	if n[0] == ':' {
		switch n {
		case ":method":
			return method
		case ":scheme":
			return scheme
		case ":authority":
			return authority
		case ":path":
			return path
		case ":protocol":
			return protocol
		case ":status":
			return status
		}
		return pseudo
	}
	under := false
	for i := range len(n) {
		if !token[n[i]] {
			return bad
		}
		under = under || n[i] == '_'
	}
	if under {
		return underscore
	}
	switch n {
	case "cookie":
		return cookie
	case "host":
		return host
	case "content-length":
		return length
	case "te":
		return te
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return forbidden
	}
	return plain
}

// valid says whether v may be a value: no control character but tab, and no space around it.
func valid(v string) bool {
	if v == "" {
		return true
	}
	if blank(v[0]) || blank(v[len(v)-1]) {
		return false
	}
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 127 {
			return false
		}
	}
	return true
}

func blank(c byte) bool { return c == ' ' || c == '\t' }
