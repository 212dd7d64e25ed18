package http2

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/net/http2/hpack"

	"github.com/outrigger-proxy/outrigger/internal/header"
)

// encoder compresses header blocks. A field is put into the dynamic table when it is sent for the second time, so what is different
// in every message (request IDs, times, lengths) pushes nothing out of it, whatever its name is.
type encoder struct {
	table  table
	limit  uint32      // of the table, configured
	lowest uint32      // the table was this small since the last block
	told   uint32      // the size that the peer knows of
	resize bool        // it is to be told another
	never  bool        // no Huffman coding
	always bool        // Huffman coding also for what is not put into the table
	whole  [256]uint32 // serial of the entry whose name and value hash so, or to one of the slots before
	names  [64]uint32  // and of one whose name does
	seen   [256]uint32 // hashes of fields that were sent
}

// setMax takes in SETTINGS_HEADER_TABLE_SIZE.
func (e *encoder) setMax(n uint32) {
	n = min(n, e.limit)
	if n == e.table.max {
		return
	}
	if !e.resize {
		e.resize, e.lowest, e.told = true, e.table.max, e.table.max
	}
	e.lowest = min(e.lowest, n)
	e.table.resize(n)
}

// begin begins a block.
func (e *encoder) begin(b []byte) []byte {
	if !e.resize {
		return b
	}
	e.resize = false
	if e.lowest < e.table.max && e.lowest < e.told {
		b = appendInteger(b, 32, 5, e.lowest)
	}
	return appendInteger(b, 32, 5, e.table.max)
}

func appendInteger(b []byte, first byte, bits uint, n uint32) []byte {
	mask := uint32(1)<<bits - 1
	if n < mask {
		return append(b, first|byte(n))
	}
	b = append(b, first|byte(mask))
	for n -= mask; n >= 128; n >>= 7 {
		b = append(b, byte(n)|128)
	}
	return append(b, byte(n))
}

// text appends a string.
func (e *encoder) text(b []byte, s string, huffman bool) []byte {
	if huffman && !e.never {
		if n := hpack.HuffmanEncodeLength(s); n < uint64(len(s)) {
			return hpack.AppendHuffmanString(appendInteger(b, 128, 7, uint32(n)), s)
		}
	}
	return append(appendInteger(b, 0, 7, uint32(len(s))), s...)
}

// some is eight bytes of s from i on, or what it has.
func some(s string, i int) uint64 {
	if i+8 <= len(s) {
		return binary.LittleEndian.Uint64(unsafe.Slice(unsafe.StringData(s[i:]), 8))
	}
	v := uint64(0)
	for ; i < len(s); i++ {
		v = v<<8 | uint64(s[i])
	}
	return v
}

// hash looks at the beginning, the middle and the end of a string: fields that differ elsewhere only are compared in vain.
func hash(h uint64, s string) uint64 {
	const k = 0x9E3779B97F4A7C15
	h = (h ^ uint64(len(s))) * k
	h = (h ^ h>>29 ^ some(s, 0)) * k
	if len(s) > 8 {
		h = (h ^ h>>31 ^ some(s, len(s)-8)) * k
		if len(s) > 16 {
			h = (h ^ h>>30 ^ some(s, len(s)/2-4)) * k
		}
	}
	return h ^ h>>32
}

const probes = 4

// find finds the entry of a field.
func (e *encoder) find(h uint64, name, value string) (i int, ok bool) {
	for p := range uint64(probes) {
		if f, i := e.table.bySerial(e.whole[(h+p)&255]); f != nil && f.value == value && f.name == name {
			return i, true
		}
	}
	return 0, false
}

// enter notes where the newest entry is.
func (e *encoder) enter(nh, h uint64, serial uint32) {
	e.names[nh&63] = serial
	for p := range uint64(probes) {
		if f, _ := e.table.bySerial(e.whole[(h+p)&255]); f == nil {
			e.whole[(h+p)&255] = serial
			return
		}
	}
	e.whole[h&255] = serial
}

// field appends a field.
func (e *encoder) field(b []byte, id header.ID, name, value string) []byte {
	nh := hash(0, name)
	h := hash(nh, value)
	if i, ok := e.find(h, name, value); ok {
		return appendInteger(b, 128, 7, uint32(len(static)+i))
	}
	index := uint32(staticID[id])
	if id == header.Other {
		index = uint32(staticName[name])
	}
	if index == 0 {
		if f, i := e.table.bySerial(e.names[nh&63]); f != nil && f.name == name {
			index = uint32(len(static) + i)
		}
	}
	return e.literal(b, index, nh, h, name, value)
}

// literal appends a field that is not in a table as a whole; index is where its name is, 0: nowhere.
func (e *encoder) literal(b []byte, index uint32, nh, h uint64, name, value string) []byte {
	if sensitive(name, value) {
		return e.spell(b, 16, 4, index, name, value, e.always)
	}
	tag := uint32(h >> 16)
	if seen := &e.seen[h>>8&255]; *seen != tag || uint32(len(name)+len(value))+overhead > e.table.max/2 {
		*seen = tag
		return e.spell(b, 0, 4, index, name, value, e.always)
	}
	b = e.spell(b, 64, 6, index, name, value, true)
	e.table.room(len(name) + len(value))
	e.enter(nh, h, e.table.add(field{name: e.table.keep(name), value: e.table.keep(value)}))
	return b
}

func (e *encoder) spell(b []byte, first byte, bits uint, index uint32, name, value string, huffman bool) []byte {
	b = appendInteger(b, first, bits, index)
	if index == 0 {
		b = e.text(b, name, huffman)
	}
	return e.text(b, value, huffman)
}

// sensitive says that a field must never be put into a table, by us or by who passes it on (RFC 7541, 7.1.3).
func sensitive(name, value string) bool {
	switch len(name) {
	case 6:
		return len(value) < 20 && name == "cookie"
	case 13:
		return name == "authorization"
	case 19:
		return name == "proxy-authorization"
	}
	return false
}

// pseudo appends a pseudo field, of which i is the first static entry; the one behind it may have another value.
func (e *encoder) pseudo(b []byte, i uint32, value string) []byte {
	for j := i; static[j].name == static[i].name; j++ {
		if static[j].value == value {
			return append(b, byte(128|j))
		}
	}
	nh := uint64(i)
	h := hash(nh, value)
	name := static[i].name
	if at, ok := e.find(h, name, value); ok {
		return appendInteger(b, 128, 7, uint32(len(static)+at))
	}
	return e.literal(b, i, nh, h, name, value)
}

// fields appends all fields of m but those that HTTP/2 does not have.
func (e *encoder) fields(b []byte, m *header.Map) []byte {
	all, ids := m.All(), m.IDs()
	for i := range all {
		switch id := ids[i]; id {
		case header.Connection, header.KeepAlive, header.ProxyConnection, header.TransferEncoding, header.Upgrade, header.HTTP2Settings:
			continue
		default:
			b = e.field(b, id, all[i].Name, all[i].Value)
		}
	}
	return b
}
