package transport

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/outrigger-proxy/outrigger/internal/match"
)

// cause says which statistic a failed verification counts in.
type cause uint8

const (
	failedChain cause = iota + 1 // fail_verify_error
	failedSAN                    // fail_verify_san
	failedHash                   // fail_verify_cert_hash
)

// verdict is what a verification has found.
type verdict struct {
	shown     []*x509.Certificate
	chain     []*x509.Certificate // to a trusted certificate
	validated bool
	err       error // the handshake must fail
	cause     cause
}

// failure is why the peer is not accepted, in Envoy's words.
type failure struct{ text string }

func (f *failure) Error() string { return f.text }

// validator judges the certificates of peers (CertificateValidationContext). It does not change.
type validator struct {
	known        *anchors // read before; nil: they were not
	roots        []*x509.Certificate
	pool         *x509.CertPool // nil: chains are not verified
	path, name   string
	crls         []*x509.RevocationList
	leafOnly     bool // only_verify_leaf_cert_crl
	allowExpired bool
	untrusted    bool // trust_chain_verification ACCEPT_UNTRUSTED
	depth        int  // max_verify_depth
	spkis        map[[32]byte]bool
	hashes       map[[32]byte]bool
	sans         []sanMatcher
	hideCAs      bool // suppress_client_ca_list
	spiffe       *spiffe
}

// sanMatcher is a SubjectAltNameMatcher.
type sanMatcher struct {
	kind  sanKind
	oid   string
	exact string // of a DNS name, which may meet a wildcard
	match match.String
}

const defaultDepth = 100

// newValidator reads p; nil if there is nothing to validate with.
func newValidator(p *tlsv3.CertificateValidationContext) (*validator, error) {
	return newValidatorWith(p, nil)
}

// newValidatorWith is newValidator where trusted_ca was read before: known, if it is not nil.
func newValidatorWith(p *tlsv3.CertificateValidationContext, known *anchors) (*validator, error) {
	if p == nil {
		return nil, nil
	}
	v := &validator{
		known: known,
		depth: defaultDepth, allowExpired: p.GetAllowExpiredCertificate(), leafOnly: p.GetOnlyVerifyLeafCertCrl(),
		untrusted: p.GetTrustChainVerification() == tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED, hideCAs: p.GetSuppressClientCaList(),
		path: whence(p.GetTrustedCa()),
	}
	if d := p.GetMaxVerifyDepth(); d != nil {
		v.depth = int(d.GetValue())
	}
	for _, step := range []func(*tlsv3.CertificateValidationContext) error{refuseValidation, v.parseCA, v.parseCRL, v.parsePins, v.parseSANs, v.parseCustom} {
		if err := step(p); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func refuseValidation(p *tlsv3.CertificateValidationContext) error {
	switch {
	case p.GetRequireSignedCertificateTimestamp() != nil:
		return errors.New("require_signed_certificate_timestamp: not implemented, in Envoy neither")
	case p.GetCaCertificateProviderInstance() != nil:
		return errors.New("ca_certificate_provider_instance: not supported; use trusted_ca or SDS")
	case p.GetTrustedCa() == nil && p.GetSystemRootCerts() == nil && p.GetCustomValidatorConfig() == nil &&
		(len(p.GetMatchTypedSubjectAltNames()) > 0 || len(matchSANs(p)) > 0):
		return errors.New("SAN-based verification of peer certificates without trusted CA is insecure and not allowed")
	}
	return nil
}

func (v *validator) parseCA(p *tlsv3.CertificateValidationContext) error {
	if p.GetTrustedCa() == nil {
		if p.GetSystemRootCerts() == nil {
			return nil
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			return fmt.Errorf("system_root_certs: %w", err)
		}
		v.pool, v.path = pool, "system roots"
		return nil
	}
	a := v.known
	if a == nil {
		var err error
		if a, err = loadAnchors(p.GetTrustedCa()); err != nil {
			return fmt.Errorf("trusted_ca%w", err)
		}
	}
	v.roots, v.crls, v.pool = slices.Clip(a.roots), slices.Clip(a.crls), a.pool
	if v.allowExpired {
		v.pool = v.poolOf(v.roots)
	}
	return nil
}

// anchors are what a file of trusted certificates holds. They do not change: all who trust a secret share them.
type anchors struct {
	roots []*x509.Certificate
	crls  []*x509.RevocationList
	pool  *x509.CertPool
}

func loadAnchors(p *corev3.DataSource) (*anchors, error) {
	text, err := material(p)
	if err != nil {
		return nil, fmt.Errorf(".%w", err)
	}
	a := &anchors{}
	if a.roots, err = certificates(text); err != nil || len(a.roots) == 0 {
		return nil, fmt.Errorf(": Failed to load trusted CA certificates from %s%s", whence(p), because(err))
	}
	if a.crls, err = crls(text); err != nil {
		return nil, fmt.Errorf(": Failed to load CRL from %s: %w", whence(p), err)
	}
	a.pool = (&validator{}).poolOf(a.roots)
	return a, nil
}

func (v *validator) poolOf(l []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range l {
		pool.AddCert(v.timeless(c))
	}
	return pool
}

// timeless makes c valid for ever if expiry is not looked at.
func (v *validator) timeless(c *x509.Certificate) *x509.Certificate {
	if !v.allowExpired {
		return c
	}
	copied := *c
	copied.NotBefore, copied.NotAfter = time.Time{}, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	return &copied
}

func (v *validator) parseCRL(p *tlsv3.CertificateValidationContext) error {
	if p.GetCrl() == nil {
		return nil
	}
	text, err := material(p.GetCrl())
	if err != nil {
		return fmt.Errorf("crl.%w", err)
	}
	l, err := crls(text)
	if err != nil || len(l) == 0 {
		return fmt.Errorf("crl: Failed to load CRL from %s%s", whence(p.GetCrl()), because(err))
	}
	v.crls = append(v.crls, l...)
	return nil
}

func (v *validator) parsePins(p *tlsv3.CertificateValidationContext) error {
	v.spkis, v.hashes = map[[32]byte]bool{}, map[[32]byte]bool{}
	for i, s := range p.GetVerifyCertificateSpki() {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil || len(b) != sha256.Size {
			return fmt.Errorf("verify_certificate_spki[%d]: Invalid base64-encoded SHA-256 %s", i, s)
		}
		v.spkis[[32]byte(b)] = true
	}
	for i, s := range p.GetVerifyCertificateHash() {
		b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
		if err != nil || len(b) != sha256.Size {
			return fmt.Errorf("verify_certificate_hash[%d]: Invalid hex-encoded SHA-256 %s", i, s)
		}
		v.hashes[[32]byte(b)] = true
	}
	return nil
}

func matchSANs(p *tlsv3.CertificateValidationContext) []*tlsv3.SubjectAltNameMatcher {
	var l []*tlsv3.SubjectAltNameMatcher
	for _, m := range p.GetMatchSubjectAltNames() {
		for _, k := range []tlsv3.SubjectAltNameMatcher_SanType{
			tlsv3.SubjectAltNameMatcher_DNS, tlsv3.SubjectAltNameMatcher_URI,
			tlsv3.SubjectAltNameMatcher_EMAIL, tlsv3.SubjectAltNameMatcher_IP_ADDRESS,
		} {
			l = append(l, &tlsv3.SubjectAltNameMatcher{SanType: k, Matcher: m})
		}
	}
	return l
}

func (v *validator) parseSANs(p *tlsv3.CertificateValidationContext) error {
	field, list := "match_typed_subject_alt_names", p.GetMatchTypedSubjectAltNames()
	if len(list) == 0 {
		field, list = "match_subject_alt_names", matchSANs(p)
	}
	kinds := map[tlsv3.SubjectAltNameMatcher_SanType]sanKind{
		tlsv3.SubjectAltNameMatcher_EMAIL: emailName, tlsv3.SubjectAltNameMatcher_DNS: dnsName,
		tlsv3.SubjectAltNameMatcher_URI: uriName, tlsv3.SubjectAltNameMatcher_IP_ADDRESS: ipName, tlsv3.SubjectAltNameMatcher_OTHER_NAME: otherName,
	}
	for i, m := range list {
		compiled, err := match.CompileString(m.GetMatcher())
		if err != nil {
			return fmt.Errorf("%s[%d].matcher: %w", field, i, err)
		}
		s := sanMatcher{kind: kinds[m.GetSanType()], match: compiled, oid: m.GetOid()}
		if s.kind == dnsName && !m.GetMatcher().GetIgnoreCase() {
			s.exact = m.GetMatcher().GetExact()
		}
		if s.kind == otherName && s.oid == "" {
			return fmt.Errorf("%s[%d].oid: is required for OTHER_NAME", field, i)
		}
		v.sans = append(v.sans, s)
	}
	return nil
}

// demand says whether a peer is asked for its certificate, and whether it must have one.
func (v *validator) demand() (asks, requires bool) {
	if v == nil {
		return false, false
	}
	pinned := len(v.sans)+len(v.hashes)+len(v.spkis) > 0
	if v.untrusted {
		return true, false
	}
	return v.verifiesChain() || pinned, pinned
}

func (v *validator) verifiesChain() bool { return v.pool != nil || v.spiffe != nil }

// verify judges the certificates that a peer has shown. want, if not empty, stands in the place of the configured SAN
// matchers: one of these server names must be in the certificate.
func (v *validator) verify(shown []*x509.Certificate, usage x509.ExtKeyUsage, want []string, now time.Time) *verdict {
	r := &verdict{shown: shown}
	if v.verifiesChain() {
		var err error
		if r.chain, err = v.verifyChain(shown, usage, now); err != nil {
			r.cause = failedChain
			if !v.untrusted {
				r.err = &failure{"verify cert failed: " + err.Error()}
			}
			return r
		}
		r.validated = true
	}
	checked, text := v.verifyLeaf(r, shown[0], want)
	switch {
	case v.untrusted:
		r.validated = r.validated && r.cause == 0 || checked && r.cause == 0
	case r.cause != 0:
		r.err, r.validated = &failure{text}, false
	case !v.verifiesChain() && !checked:
		r.err = &failure{"verify cert failed: there is nothing to verify it with"}
	default:
		r.validated = true
	}
	return r
}

// verifyLeaf checks names and pins; checked says that there was something to check.
func (v *validator) verifyLeaf(r *verdict, leaf *x509.Certificate, want []string) (checked bool, text string) {
	if len(want) > 0 || len(v.sans) > 0 {
		l := sans(leaf)
		if len(want) > 0 && !slices.ContainsFunc(want, func(n string) bool { return matchesServer(l, n) }) || len(want) == 0 && !v.matchesAny(l) {
			r.cause = failedSAN
			return true, "verify cert failed: SAN matcher, certificate SANs are [" + strings.Join(allTexts(l), ", ") + "]"
		}
		checked = true
	}
	if len(v.hashes)+len(v.spkis) > 0 {
		if !v.hashes[sha256.Sum256(leaf.Raw)] && !v.spkis[sha256.Sum256(leaf.RawSubjectPublicKeyInfo)] {
			r.cause = failedHash
			return true, "verify cert failed: cert hash and spki"
		}
		checked = true
	}
	return checked, ""
}

func allTexts(l []san) []string {
	var out []string
	for _, s := range l {
		out = append(out, s.text)
	}
	return out
}

func (v *validator) matchesAny(l []san) bool {
	for i := range v.sans {
		if slices.ContainsFunc(l, v.sans[i].matches) {
			return true
		}
	}
	return false
}

func (m *sanMatcher) matches(s san) bool {
	switch {
	case m.kind != s.kind || m.kind == otherName && m.oid != s.oid:
		return false
	case m.exact != "":
		return matchesDNS(s.text, m.exact)
	}
	return m.match.Match(s.text)
}

// matchesServer is auto_sni_san_validation: an IP address meets IP names, all else DNS names.
func matchesServer(l []san, sni string) bool {
	ip := net.ParseIP(sni)
	for _, s := range l {
		if ip == nil && s.kind == dnsName && matchesDNS(s.text, sni) || ip != nil && s.kind == ipName && s.text == ip.String() {
			return true
		}
	}
	return false
}

// matchesDNS is RFC 6125 section 6.4.3 as Envoy has it: a wildcard stands for a part of the first label.
func matchesDNS(pattern, name string) bool {
	pattern, name = strings.ToLower(pattern), strings.ToLower(name)
	if pattern == name {
		return true
	}
	first, rest, ok := strings.Cut(pattern, ".")
	label, domain, ok2 := strings.Cut(name, ".")
	before, after, wild := strings.Cut(first, "*")
	if !ok || !ok2 || !wild || rest != domain || strings.Contains(after, "*") || strings.Contains(first, "xn--") {
		return false
	}
	return len(label) >= len(before)+len(after) && strings.HasPrefix(label, before) && strings.HasSuffix(label, after)
}
