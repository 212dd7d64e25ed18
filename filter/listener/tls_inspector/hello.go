package tlsinspector

import (
	"encoding/binary"
	"errors"
	"slices"
)

// hello is a ClientHello (RFC 8446 section 4.1.2). What it holds aliases the input.
type hello struct {
	version    uint16
	ciphers    []byte // pairs of bytes, as below
	extensions []uint16
	groups     []byte
	points     []byte // single bytes
	schemes    []byte
	versions   []byte
	sni        []byte
	alpn       []byte // a list of strings with their lengths
}

var errNotTLS = errors.New("not a ClientHello")

// The parts of a record and of a handshake message (RFC 8446 sections 4 and 5.1).
const (
	recordHeader    = 5
	handshakeRecord = 22
	messageHeader   = 4
	clientHello     = 1
	maxRecord       = 16 << 10
)

// parseHello reads a ClientHello, which may be spread over records, from the beginning of a stream. size is how many bytes of the stream
// it takes, as far as that is known; more, if not 0, how many there must be to get on.
func parseHello(b []byte) (h hello, size, more int, err error) {
	var message []byte
	want, pos := messageHeader, 0
	for len(message) < want {
		n, more, err := record(b[pos:])
		if err != nil {
			return h, 0, 0, err
		}
		at := pos + recordHeader
		if more > 0 { // look into what there is of the last record all the same: its first byte tells what it is not
			if len(message) == 0 && len(b) > at && b[at] != clientHello {
				return h, 0, 0, errNotTLS
			}
			return h, pos + max(n+recordHeader, more), pos + more, nil
		}
		if message == nil {
			message = b[at : at+n : at+n]
		} else {
			message = append(message, b[at:at+n]...) // copies: the capacity above is the length
		}
		pos = at + n
		if message[0] != clientHello {
			return h, 0, 0, errNotTLS
		}
		if len(message) >= messageHeader {
			want = messageHeader + int(message[1])<<16 + int(message[2])<<8 + int(message[3])
			if missing := want - len(message); missing > 0 && pos+missing > maxHello {
				return h, pos + missing, pos + missing, nil
			}
		}
	}
	return h, pos, 0, h.parse(message[messageHeader:want])
}

// record returns the length of the record that begins here; more: how many bytes there must be for all of it.
func record(b []byte) (n, more int, err error) {
	if len(b) > 0 && b[0] != handshakeRecord || len(b) > 1 && b[1] != 3 {
		return 0, 0, errNotTLS
	}
	if len(b) < recordHeader {
		return 0, recordHeader, nil
	}
	n = int(binary.BigEndian.Uint16(b[3:5]))
	if n == 0 || n > maxRecord {
		return 0, 0, errNotTLS
	}
	if len(b) < recordHeader+n {
		return n, recordHeader + n, nil
	}
	return n, 0, nil
}

// vector takes a vector with a length of size bytes off b.
func vector(b []byte, size int) (v, rest []byte, ok bool) {
	if len(b) < size {
		return nil, nil, false
	}
	n := 0
	for _, c := range b[:size] {
		n = n<<8 | int(c)
	}
	if len(b) < size+n {
		return nil, nil, false
	}
	return b[size : size+n], b[size+n:], true
}

func (h *hello) parse(b []byte) error {
	const random = 32
	if len(b) < 2+random {
		return errNotTLS
	}
	h.version = binary.BigEndian.Uint16(b)
	session, b, ok := vector(b[2+random:], 1)
	if !ok || len(session) > 32 || h.version>>8 != 3 {
		return errNotTLS
	}
	if h.ciphers, b, ok = vector(b, 2); !ok || len(h.ciphers) < 2 || len(h.ciphers)%2 != 0 {
		return errNotTLS
	}
	compression, b, ok := vector(b, 1)
	if !ok || len(compression) == 0 {
		return errNotTLS
	}
	if len(b) == 0 {
		return nil
	}
	extensions, rest, ok := vector(b, 2)
	if !ok || len(rest) > 0 {
		return errNotTLS
	}
	return h.parseExtensions(extensions)
}

// The extensions that are looked into.
const (
	extServerName   = 0
	extGroups       = 10
	extPointFormats = 11
	extSignatures   = 13
	extALPN         = 16
	extVersions     = 43
)

func (h *hello) parseExtensions(b []byte) error {
	for len(b) > 0 {
		if len(b) < 2 {
			return errNotTLS
		}
		kind := binary.BigEndian.Uint16(b)
		v, rest, ok := vector(b[2:], 2)
		if !ok || contains(h.extensions, kind) || !h.extension(kind, v) {
			return errNotTLS
		}
		h.extensions = append(h.extensions, kind)
		b = rest
	}
	return nil
}

func contains(l []uint16, v uint16) bool {
	return slices.Contains(l, v)
}

func (h *hello) extension(kind uint16, v []byte) (ok bool) {
	whole := func(to *[]byte, size int) bool {
		list, rest, ok := vector(v, size)
		*to = list
		return ok && len(rest) == 0
	}
	switch kind {
	case extServerName:
		return h.serverName(v)
	case extGroups:
		return whole(&h.groups, 2)
	case extPointFormats:
		return whole(&h.points, 1)
	case extSignatures:
		return whole(&h.schemes, 2)
	case extALPN:
		return whole(&h.alpn, 2) && h.validALPN()
	case extVersions:
		return whole(&h.versions, 1)
	}
	return true
}

// serverName is RFC 6066 section 3, with one name, as BoringSSL wants it.
func (h *hello) serverName(v []byte) bool {
	list, rest, ok := vector(v, 2)
	if !ok || len(rest) > 0 || len(list) < 1 || list[0] != 0 {
		return false
	}
	name, rest, ok := vector(list[1:], 2)
	if !ok || len(rest) > 0 || len(name) == 0 || len(name) > 255 {
		return false
	}
	if slices.Contains(name, 0) {
		return false
	}
	h.sni = name
	return true
}

func (h *hello) validALPN() bool {
	for b := h.alpn; len(b) > 0; {
		p, rest, ok := vector(b, 1)
		if !ok || len(p) == 0 {
			return false
		}
		b = rest
	}
	return len(h.alpn) > 0
}

// protocols are the ALPN names.
func (h *hello) protocols() []string {
	var l []string
	for b := h.alpn; len(b) > 0; {
		p, rest, _ := vector(b, 1)
		l = append(l, string(p))
		b = rest
	}
	return l
}
