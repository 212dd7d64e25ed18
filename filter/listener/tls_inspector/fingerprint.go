package tlsinspector

import (
	"crypto/md5" //nolint:gosec // JA3 is defined by it
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// grease says whether v is one of the values of RFC 8701, which mean nothing.
func grease(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

// values are the numbers in a list of pairs of bytes, without GREASE.
func values(b []byte) []uint16 {
	var l []uint16
	for ; len(b) >= 2; b = b[2:] {
		if v := binary.BigEndian.Uint16(b); !grease(v) {
			l = append(l, v)
		}
	}
	return l
}

func sensible(l []uint16) []uint16 {
	return slices.DeleteFunc(slices.Clone(l), grease)
}

// fingerprint3 is JA3: https://github.com/salesforce/ja3.
func (h *hello) fingerprint3() string {
	points := make([]uint16, len(h.points))
	for i, p := range h.points {
		points[i] = uint16(p)
	}
	var text strings.Builder
	text.WriteString(strconv.Itoa(int(h.version)))
	for _, l := range [][]uint16{values(h.ciphers), sensible(h.extensions), values(h.groups), points} {
		text.WriteString("," + join(l, "-", func(v uint16) string { return strconv.Itoa(int(v)) }))
	}
	sum := md5.Sum([]byte(text.String())) //nolint:gosec // see above
	return hex.EncodeToString(sum[:])
}

func join(l []uint16, separator string, f func(uint16) string) string {
	texts := make([]string, len(l))
	for i, v := range l {
		texts[i] = f(v)
	}
	return strings.Join(texts, separator)
}

// fingerprint4 is JA4: https://github.com/FoxIO-LLC/ja4/blob/main/technical_details/JA4.md.
func (h *hello) fingerprint4() string {
	ciphers, extensions := values(h.ciphers), sensible(h.extensions)
	to := byte('i')
	if len(h.sni) > 0 {
		to = 'd'
	}
	return fmt.Sprintf("t%s%c%02d%02d%s_%s_%s", h.version4(), to, min(len(ciphers), 99), min(len(extensions), 99), h.alpn4(), hash4(ciphers, nil),
		hash4(slices.DeleteFunc(extensions, func(v uint16) bool { return v == extServerName || v == extALPN }), values(h.schemes)))
}

func (h *hello) version4() string {
	highest := h.version
	if l := values(h.versions); len(l) > 0 {
		highest = slices.Max(l)
	}
	switch highest {
	case 0x0304:
		return "13"
	case 0x0303:
		return "12"
	case 0x0302:
		return "11"
	case 0x0301:
		return "10"
	case 0x0300:
		return "s3"
	}
	return "00"
}

// alpn4 is the first and the last character of the first protocol, in hex where they are no letters or digits.
func (h *hello) alpn4() string {
	first, _, ok := vector(h.alpn, 1)
	if !ok || len(first) == 0 {
		return "00"
	}
	a, z := first[0], first[len(first)-1]
	if alphanumeric(a) && alphanumeric(z) {
		return string([]byte{a, z})
	}
	return hex.EncodeToString([]byte{a})[:1] + hex.EncodeToString([]byte{z})[1:]
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// hash4 is a part of JA4: sorted numbers, then others as they came.
func hash4(sorted, rest []uint16) string {
	if len(sorted) == 0 {
		return "000000000000"
	}
	four := func(v uint16) string { return fmt.Sprintf("%04x", v) }
	slices.Sort(sorted)
	text := join(sorted, ",", four)
	if len(rest) > 0 {
		text += "_" + join(rest, ",", four)
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:12]
}
