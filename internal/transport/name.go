package transport

import (
	"crypto/sha1" //nolint:gosec // a fingerprint that operators ask for by name
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// attributes are the short names of attribute types, as OpenSSL has them.
var attributes = func() map[string]string {
	m := map[string]string{"0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC", "1.2.840.113549.1.9.1": "emailAddress"}
	for i, n := range []string{
		3: "CN", 4: "SN", 5: "serialNumber", 6: "C", 7: "L", 8: "ST", 9: "street", 10: "O", 11: "OU", 12: "title", 13: "description",
		15: "businessCategory", 17: "postalCode", 41: "name", 42: "GN", 43: "initials", 44: "generationQualifier", 46: "dnQualifier", 65: "pseudonym",
	} {
		if n != "" {
			m["2.5.4."+strconv.Itoa(i)] = n
		}
	}
	return m
}()

// distinguishedName prints a name as RFC 2253 says and OpenSSL does: the last part first.
func distinguishedName(raw []byte) string {
	var parts []asn1.RawValue
	if _, err := asn1.Unmarshal(raw, &parts); err != nil {
		return ""
	}
	var b strings.Builder
	for _, part := range slices.Backward(parts) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		relativeName(&b, part.FullBytes)
	}
	return b.String()
}

func relativeName(b *strings.Builder, raw []byte) {
	var set []struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	if _, err := asn1.UnmarshalWithParams(raw, &set, "set"); err != nil {
		return
	}
	for i, a := range set {
		if i > 0 {
			b.WriteByte('+')
		}
		oid := a.Type.String()
		if name := attributes[oid]; name != "" {
			b.WriteString(name + "=")
			escape(b, directoryString(a.Value))
		} else {
			b.WriteString(oid + "=#" + strings.ToUpper(hex.EncodeToString(a.Value.FullBytes)))
		}
	}
}

// directoryString is the text of an attribute in UTF-8.
func directoryString(v asn1.RawValue) string {
	switch v.Tag {
	case asn1.TagBMPString:
		var b strings.Builder
		for i := 0; i+1 < len(v.Bytes); i += 2 {
			b.WriteRune(rune(v.Bytes[i])<<8 | rune(v.Bytes[i+1]))
		}
		return b.String()
	case asn1.TagT61String:
		var b strings.Builder
		for _, c := range v.Bytes {
			b.WriteRune(rune(c))
		}
		return b.String()
	}
	return string(v.Bytes)
}

// escape writes s as RFC 2253 section 2.4 wants it; what is not ASCII as bytes in hex.
func escape(b *strings.Builder, s string) {
	for i := range len(s) {
		c := s[i]
		switch {
		case strings.IndexByte(`,+"\<>;`, c) >= 0, i == 0 && (c == '#' || c == ' '), i == len(s)-1 && c == ' ':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			b.WriteByte('\\')
			b.WriteString(strings.ToUpper(hex.EncodeToString([]byte{c})))
		default:
			b.WriteByte(c)
		}
	}
}

// sanKind is the kind of a subject alternative name, by its tag in RFC 5280 section 4.2.1.6.
type sanKind uint8

const (
	otherName sanKind = 0
	emailName sanKind = 1
	dnsName   sanKind = 2
	uriName   sanKind = 6
	ipName    sanKind = 7
)

// san is a subject alternative name.
type san struct {
	kind sanKind
	text string
	oid  string // of an otherName
}

var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

// sans reads the subject alternative names of c, in their order. Kinds that nobody asks for are left out.
func sans(c *x509.Certificate) []san {
	var l []san
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidSAN) {
			continue
		}
		var names []asn1.RawValue
		if _, err := asn1.Unmarshal(e.Value, &names); err != nil {
			return nil
		}
		for _, n := range names {
			if s, ok := generalName(n); ok {
				l = append(l, s)
			}
		}
	}
	return l
}

func generalName(n asn1.RawValue) (san, bool) {
	if n.Class != asn1.ClassContextSpecific {
		return san{}, false
	}
	switch k := sanKind(n.Tag); k {
	case emailName, dnsName, uriName:
		return san{kind: k, text: string(n.Bytes)}, true
	case ipName:
		return san{kind: k, text: net.IP(n.Bytes).String()}, true
	case otherName:
		return other(n)
	}
	return san{}, false
}

// other reads an otherName: an object identifier and a value of any type.
func other(n asn1.RawValue) (san, bool) {
	var oid asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(n.Bytes, &oid)
	if err != nil {
		return san{}, false
	}
	var wrapped, v asn1.RawValue
	if _, err := asn1.Unmarshal(rest, &wrapped); err != nil {
		return san{}, false
	}
	if _, err := asn1.Unmarshal(wrapped.Bytes, &v); err != nil {
		return san{}, false
	}
	text, ok := value(v)
	return san{kind: otherName, text: text, oid: oid.String()}, ok
}

// value is how Envoy matches a value of this ASN.1 type.
func value(v asn1.RawValue) (string, bool) {
	switch v.Tag {
	case asn1.TagOID:
		var oid asn1.ObjectIdentifier
		_, err := asn1.Unmarshal(v.FullBytes, &oid)
		return oid.String(), err == nil
	case asn1.TagBoolean:
		return strconv.FormatBool(len(v.Bytes) == 1 && v.Bytes[0] != 0), true
	case asn1.TagInteger, asn1.TagEnum:
		n := new(big.Int).SetBytes(v.Bytes)
		if len(v.Bytes) > 0 && v.Bytes[0]&0x80 != 0 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(v.Bytes))))
		}
		return n.String(), true
	case asn1.TagNull:
		return "", true
	}
	s := directoryString(v)
	return s, utf8.ValidString(s)
}

// texts are the names of one kind.
func texts(l []san, k sanKind) []string {
	var out []string
	for _, s := range l {
		if s.kind == k {
			out = append(out, s.text)
		}
	}
	return out
}

// serial is a serial number in hex.
func serial(c *x509.Certificate) string { return hex.EncodeToString(c.SerialNumber.Bytes()) }

func fingerprint256(c *x509.Certificate) string {
	h := sha256.Sum256(c.Raw)
	return hex.EncodeToString(h[:])
}

func fingerprint1(c *x509.Certificate) string {
	h := sha1.Sum(c.Raw) //nolint:gosec // not for security
	return hex.EncodeToString(h[:])
}

// urlPEM is a certificate as PEM in URL encoding.
func urlPEM(c *x509.Certificate) string {
	return strings.ReplaceAll(url.QueryEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))), "+", "%20")
}
