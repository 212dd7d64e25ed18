package http2

import (
	"math"

	"github.com/outrigger-proxy/outrigger/internal/header"
)

// decoder decompresses header blocks.
type decoder struct {
	table   table
	limit   uint32 // of what the peer may make the table
	longest uint32 // bytes of a name or a value as it comes; 0: no limit
}

// integer reads an integer with a prefix of bits (RFC 7541, 5.1). ok is false if it does not end, or is beyond 2^32-1.
func integer(p []byte, bits uint) (n uint32, rest []byte, ok bool) {
	mask := byte(1)<<bits - 1
	n = uint32(p[0] & mask)
	if p = p[1:]; n < uint32(mask) {
		return n, p, true
	}
	v := uint64(n)
	for shift := uint(0); len(p) > 0 && shift <= 28; shift += 7 {
		c := p[0]
		p = p[1:]
		if v += uint64(c&127) << shift; v > math.MaxUint32 {
			return 0, nil, false
		}
		if c < 128 {
			return uint32(v), p, true
		}
	}
	return 0, nil, false
}

// block decodes a whole header block into h; its strings stand in the table and in the arena of h.
func (d *decoder) block(p []byte, h *head) bool {
	fields := false
	for len(p) > 0 {
		if h.err != nil {
			if n := d.references(p); n > 0 {
				p, fields = p[n:], true
				continue
			}
		}
		var f field
		var ok bool
		switch c := p[0]; {
		case c >= 128:
			p, ok = d.indexed(p, &f)
		case c >= 64:
			p, ok = d.literal(p, 6, true, h, &f)
		case c >= 32:
			if p, ok = d.sizeUpdate(p); !ok || fields {
				return false
			}
			continue
		default:
			p, ok = d.literal(p, 4, false, h, &f)
		}
		if !ok {
			return false
		}
		fields = true
		h.take(&f)
	}
	return true
}

// references counts the fields at the beginning of p that are a byte each, which says where in the tables they stand: those of a head
// that is refused already cost nothing more.
func (d *decoder) references(p []byte) (n int) {
	most := byte(min(len(static)+d.table.n, 127))
	for n < len(p) && p[n] > 128 && p[n]-128 < most {
		n++
	}
	return n
}

func (d *decoder) sizeUpdate(p []byte) (rest []byte, ok bool) {
	n, rest, ok := integer(p, 5)
	if !ok || n > d.limit {
		return nil, false
	}
	d.table.resize(n)
	return rest, true
}

func (d *decoder) lookup(i uint32) *field {
	if i == 0 || i >= uint32(len(static)+d.table.n) {
		return nil
	}
	if i < uint32(len(static)) {
		return &static[i]
	}
	return d.table.at(int(i) - len(static))
}

func (d *decoder) indexed(p []byte, f *field) (rest []byte, ok bool) {
	i, rest, ok := integer(p, 7)
	if !ok {
		return nil, false
	}
	e := d.lookup(i)
	if e == nil {
		return nil, false
	}
	*f = *e
	return rest, true
}

// literal reads a field whose value, and perhaps name, is spelt out.
func (d *decoder) literal(p []byte, bits uint, index bool, h *head, f *field) (rest []byte, ok bool) {
	i, p, ok := integer(p, bits)
	if !ok {
		return nil, false
	}
	if i > 0 {
		e := d.lookup(i)
		if e == nil {
			return nil, false
		}
		f.name, f.id, f.kind = e.name, e.id, kindOf2(e)
		if i >= uint32(len(static)) && !index {
			f.name = e.name // in a chunk, which lives on
		}
	} else {
		if f.name, p, ok = d.text(p, index, h); !ok {
			return nil, false
		}
		f.kind = kindOf(f.name)
		if f.kind != bad {
			f.id = header.Lookup(f.name)
		}
	}
	if f.value, p, ok = d.text(p, index, h); !ok {
		return nil, false
	}
	if !valid(f.value) {
		f.kind = bad
	}
	if index {
		d.table.add(*f)
	}
	return p, true
}

// kindOf2 is the kind of the name of an entry, whose value may be what makes it bad.
func kindOf2(e *field) kind {
	if e.kind == bad {
		return kindOf(e.name)
	}
	return e.kind
}

// text reads a string into the table's chunk or the arena of h.
func (d *decoder) text(p []byte, index bool, h *head) (s string, rest []byte, ok bool) {
	if len(p) == 0 {
		return "", nil, false
	}
	huffman := p[0] >= 128
	n, p, ok := integer(p, 7)
	if !ok || int64(n) > int64(len(p)) || d.longest > 0 && n > d.longest {
		return "", nil, false
	}
	most := int(n)
	if huffman {
		most = most*8/5 + 1
	}
	var b []byte
	switch {
	case index:
		b = d.table.room(most)
	case h.err != nil: // nobody will look at it
		h.arena = h.arena[:0]
		fallthrough
	default:
		b = h.room(most)
	}
	from := len(b)
	if !huffman {
		b = append(b, p[:n]...)
	} else if b, ok = unhuffman(b, p[:n]); !ok {
		return "", nil, false
	}
	if index {
		d.table.chunk = b
	} else {
		h.arena = b
	}
	return str(b[from:]), p[n:], true
}
