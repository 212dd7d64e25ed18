package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// suite is a cipher suite by its number, with the name that BoringSSL has for it.
type suite struct {
	id   uint16
	name string
}

// suites are those of TLS 1.2 and before that crypto/tls has.
var suites = []suite{
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256"},
	{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305"},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256"},
	{tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384"},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, "ECDHE-ECDSA-AES128-SHA"},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, "ECDHE-RSA-AES128-SHA"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, "ECDHE-ECDSA-AES256-SHA"},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "ECDHE-RSA-AES256-SHA"},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, "ECDHE-RSA-AES128-SHA256"},
	{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, "AES128-GCM-SHA256"},
	{tls.TLS_RSA_WITH_AES_256_GCM_SHA384, "AES256-GCM-SHA384"},
	{tls.TLS_RSA_WITH_AES_128_CBC_SHA, "AES128-SHA"},
	{tls.TLS_RSA_WITH_AES_256_CBC_SHA, "AES256-SHA"},
	{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, "DES-CBC3-SHA"},
}

// defaultSuites is how many of suites are used unless cipher_suites says otherwise.
const defaultSuites = 6

// cipherName is the name in logs and statistics; those of TLS 1.3 have the standard one.
func cipherName(id uint16) string {
	for _, s := range suites {
		if s.id == id {
			return s.name
		}
	}
	if id == 0 {
		return ""
	}
	return tls.CipherSuiteName(id)
}

func findSuite(name string) (uint16, bool) {
	for _, s := range suites {
		if s.name == name || tls.CipherSuiteName(s.id) == name || name == "ECDHE-ECDSA-CHACHA20-POLY1305-SHA256" && s.name == "ECDHE-ECDSA-CHACHA20-POLY1305" {
			return s.id, true
		}
	}
	return 0, false
}

func versionName(v uint16) string {
	switch v {
	case tls.VersionTLS10:
		return "TLSv1"
	case tls.VersionTLS11:
		return "TLSv1.1"
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return ""
}

func groups() map[string]tls.CurveID {
	return map[string]tls.CurveID{
		"X25519": tls.X25519, "P-256": tls.CurveP256, "P-384": tls.CurveP384, "P-521": tls.CurveP521,
		"prime256v1": tls.CurveP256, "secp384r1": tls.CurveP384, "secp521r1": tls.CurveP521, "X25519MLKEM768": tls.X25519MLKEM768,
		"P256": tls.CurveP256, "P384": tls.CurveP384, "P521": tls.CurveP521, "x25519": tls.X25519,
	}
}

func groupName(id tls.CurveID) string {
	switch id {
	case 0:
		return ""
	case tls.CurveP256:
		return "P-256"
	case tls.CurveP384:
		return "P-384"
	case tls.CurveP521:
		return "P-521"
	}
	return id.String()
}

// params are TlsParameters: what every handshake of a context may use.
type params struct {
	min, max uint16
	suites   []uint16
	groups   []tls.CurveID
}

// parseParams reads p over what base says; a field that is absent keeps base's.
func parseParams(p *tlsv3.TlsParameters, base params) (params, error) {
	if v := p.GetTlsMinimumProtocolVersion(); v != tlsv3.TlsParameters_TLS_AUTO {
		base.min = version(v)
	}
	if v := p.GetTlsMaximumProtocolVersion(); v != tlsv3.TlsParameters_TLS_AUTO {
		base.max = version(v)
	}
	switch {
	case base.min > base.max:
		return base, fmt.Errorf("tls_minimum_protocol_version: %s is more than the maximum, %s", versionName(base.min), versionName(base.max))
	case len(p.GetSignatureAlgorithms()) > 0:
		return base, errors.New("signature_algorithms: crypto/tls chooses them itself")
	case len(p.GetCompliancePolicies()) > 0:
		return base, errors.New("compliance_policies: not supported by this build; set versions, cipher_suites and ecdh_curves")
	}
	if l := p.GetCipherSuites(); len(l) > 0 {
		s, err := parseSuites(l)
		if err != nil {
			return base, fmt.Errorf("cipher_suites%w", err)
		}
		base.suites = s
	}
	if l := p.GetEcdhCurves(); len(l) > 0 {
		g, err := parseGroups(l)
		if err != nil {
			return base, err
		}
		base.groups = g
	}
	return base, nil
}

func version(v tlsv3.TlsParameters_TlsProtocol) uint16 {
	return tls.VersionTLS10 + uint16(v-tlsv3.TlsParameters_TLSv1_0)
}

// parseSuites reads BoringSSL's list: names, and groups of equal preference in brackets. crypto/tls has an order of its own.
func parseSuites(l []string) ([]uint16, error) {
	var out []uint16
	for i, entry := range l {
		for _, name := range strings.FieldsFunc(entry, func(r rune) bool { return r == ':' || r == '|' || r == '[' || r == ']' }) {
			if strings.HasPrefix(name, "TLS_AES_") || strings.HasPrefix(name, "TLS_CHACHA20_") {
				continue // of TLS 1.3, which has no choice
			}
			id, ok := findSuite(name)
			if !ok {
				return nil, fmt.Errorf("[%d]: Failed to initialize cipher suites %s. The following ciphers were rejected when tried individually: %s",
					i, strings.Join(l, ":"), name)
			}
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func parseGroups(l []string) ([]tls.CurveID, error) {
	known := groups()
	var out []tls.CurveID
	for i, entry := range l {
		for name := range strings.SplitSeq(entry, ":") {
			id, ok := known[name]
			if !ok {
				return nil, fmt.Errorf("ecdh_curves[%d]: Failed to initialize ECDH curves %s", i, strings.Join(l, ":"))
			}
			out = append(out, id)
		}
	}
	return out, nil
}

func defaultParams(server bool) params {
	p := params{min: tls.VersionTLS12, max: tls.VersionTLS12, groups: []tls.CurveID{tls.X25519, tls.CurveP256}}
	if server {
		p.max = tls.VersionTLS13
	}
	for _, s := range suites[:defaultSuites] {
		p.suites = append(p.suites, s.id)
	}
	return p
}

func (p *params) apply(c *tls.Config) {
	c.MinVersion, c.MaxVersion, c.CipherSuites, c.CurvePreferences = p.min, p.max, p.suites, p.groups
}
