package http2

import (
	"strings"

	"golang.org/x/net/http2/hpack"
)

// The code of RFC 7541, appendix B. Its table is taken from x/net: the length of a code is the number of bytes that eight of it take,
// and its bits are those that one begins with. The code is canonical: among codes of one length the values are consecutive.

const short = 10 // bits that one look-up decodes; longer codes are rare

var (
	// quick[b] is the symbol and length of the code that the 10 bits b begin with: length<<8 | symbol; 0: a longer one.
	quick [1 << short]uint16
	// long[n] are the codes of n bits: the first one left-aligned to 32 bits, how many there are, and where their symbols stand.
	long [31]struct {
		first   uint64
		count   int
		symbols [256]byte
	}
)

var _ = func() bool {
	for s := range 256 {
		sym := string([]byte{byte(s)})
		n := int(hpack.HuffmanEncodeLength(strings.Repeat(sym, 8)))
		code := uint64(0)
		for i, c := range append(hpack.AppendHuffmanString(nil, sym), 0, 0, 0, 0)[:4] {
			code |= uint64(c) << (24 - 8*i)
		}
		code = code >> (32 - n) << (32 - n)
		if n <= short {
			for i := range uint64(1) << (short - n) {
				quick[code>>(32-short)+i] = uint16(n<<8 | s)
			}
			continue
		}
		l := &long[n]
		if l.count == 0 || code < l.first {
			l.first = code
		}
		l.count++
	}
	for s := range 256 {
		sym := string([]byte{byte(s)})
		n := int(hpack.HuffmanEncodeLength(strings.Repeat(sym, 8)))
		if n <= short {
			continue
		}
		code := uint64(0)
		for i, c := range append(hpack.AppendHuffmanString(nil, sym), 0, 0, 0, 0)[:4] {
			code |= uint64(c) << (24 - 8*i)
		}
		long[n].symbols[(code-long[n].first)>>(32-n)&255] = byte(s)
	}
	return true
}()

// unhuffman appends what p decodes to; ok is false for a code that is none, and for padding that is not the beginning of EOS or longer
// than 7 bits (RFC 7541, 5.2).
func unhuffman(dst, p []byte) (_ []byte, ok bool) {
	acc, have := uint64(0), 0 // the next bits, left-aligned
	for {
		for have <= 56 && len(p) > 0 {
			acc |= uint64(p[0]) << (56 - have)
			have += 8
			p = p[1:]
		}
		q := quick[acc>>(64-short)]
		n := int(q >> 8)
		if n == 0 {
			var sym byte
			if sym, n = longCode(acc >> 32); n == 0 || n > have {
				break
			}
			q = uint16(sym)
		}
		if n > have {
			break
		}
		dst = append(dst, byte(q))
		acc <<= n
		have -= n
	}
	return dst, len(p) == 0 && have < 8 && acc == ^uint64(0)<<(64-have)
}

// longCode finds a code of more than 10 bits at the beginning of top, which has 32; n is 0 if there is none: EOS, and what it begins with.
func longCode(top uint64) (sym byte, n int) {
	for n = short + 1; n <= 30; n++ {
		l := &long[n]
		if l.count > 0 && top >= l.first && (top-l.first)>>(32-n) < uint64(l.count) {
			return l.symbols[(top-l.first)>>(32-n)], n
		}
	}
	return 0, 0
}
