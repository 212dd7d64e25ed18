package mtls

import (
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/test/harness"
)

// matrix makes the certificates and the cases that use them.
type matrix struct {
	t     *testing.T
	dir   string
	pages harness.Pages
}

// downstream is a client that shakes hands with a listener.
type downstream struct {
	name       string
	require    bool
	validation string // YAML of a CertificateValidationContext
	params     string // YAML of TlsParameters
	cert       *pkitest.Certificate
	version    uint16 // the client's maximum; 0: TLS 1.3
	alpn       []string
}

// upstream is a cluster that shakes hands with a server.
type upstream struct {
	name       string
	context    string // fields of an UpstreamTlsContext
	common     string // fields of its CommonTlsContext
	cert       *pkitest.Certificate
	wants      *pkitest.Certificate // the authority of the client certificate that the server requires
	min        uint16
	plain, shy bool // answers in plain text; closes at once
}

// file writes text and returns a DataSource.
func (m *matrix) file(name, text string) string {
	path := filepath.Join(m.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return "{filename: " + path + "}"
}

func (m *matrix) ca(name string, certs ...*pkitest.Certificate) string {
	text := ""
	for _, c := range certs {
		text += pkitest.PEM(c.Cert)
	}
	return "trusted_ca: " + m.file(name+".pem", text)
}

func hash(c *pkitest.Certificate) string {
	s := sha256.Sum256(c.Cert.Raw)
	return "verify_certificate_hash: ['" + hex.EncodeToString(s[:]) + "']"
}

func spki(c *pkitest.Certificate) string {
	s := sha256.Sum256(c.Cert.RawSubjectPublicKeyInfo)
	return "verify_certificate_spki: ['" + base64.StdEncoding.EncodeToString(s[:]) + "']"
}

func san(kind, matcher string) string {
	return fmt.Sprintf("match_typed_subject_alt_names: [{san_type: %s, matcher: {%s}}]", kind, matcher)
}

const (
	clientAuth = x509.ExtKeyUsageClientAuth
	serverAuth = x509.ExtKeyUsageServerAuth
	v12        = tls.VersionTLS12
)

func (m *matrix) downstreams() []downstream {
	t := m.t
	ca, other := pkitest.Authority(t, "ca"), pkitest.Authority(t, "other")
	named := pkitest.Leaf{
		Name: "client", URIS: []string{"spiffe://mesh.test/client"}, DNS: []string{"client.test", "*.wild.test"}, IPS: []string{"10.1.2.3", "fd00::1"},
		Emails: []string{"a@client.test"}, Usages: []x509.ExtKeyUsage{clientAuth},
	}
	good, stranger, self := ca.Issue(t, named), other.Issue(t, named), pkitest.Sign(t, nil, named)
	expired := ca.Issue(t, pkitest.Leaf{Name: "expired", From: -2 * time.Hour, Until: -time.Hour})
	early := ca.Issue(t, pkitest.Leaf{Name: "early", From: time.Hour, Until: 2 * time.Hour})
	between := ca.Intermediate(t, pkitest.Leaf{Name: "between"})
	below := between.Issue(t, named)
	alone := &pkitest.Certificate{Cert: below.Cert, Key: below.Key}
	old := ca.Intermediate(t, pkitest.Leaf{Name: "old", From: -2 * time.Hour, Until: -time.Hour})
	oldBelow := old.Issue(t, named)
	byLeaf := good.Issue(t, named)
	byLeaf.Above = []*x509.Certificate{good.Cert}
	whole := other.Issue(t, named)
	whole.Above = []*x509.Certificate{other.Cert}
	trust := m.ca("ca", ca)
	with := func(more string) string { return trust + "\n" + more }
	crl := func(name, text string) string { return "crl: " + m.file(name+".crl", text) }
	spiffe := func(domain string, of *pkitest.Certificate) string {
		return "custom_validator_config:\n  name: envoy.tls.cert_validator.spiffe\n  typed_config:\n    '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig\n" +
			"    trust_domains: [{name: " + domain + ", trust_bundle: " + m.file("bundle-"+domain+of.Cert.Subject.CommonName, pkitest.PEM(of.Cert)) + "}]"
	}
	accept := "trust_chain_verification: ACCEPT_UNTRUSTED"
	caLeaf := ca.Issue(t, pkitest.Leaf{Name: "ca leaf", CA: true, URIS: []string{"spiffe://mesh.test/x"}})
	return []downstream{
		{name: "no certificate, 1.3", require: true, validation: trust},
		{name: "no certificate, 1.2", require: true, validation: trust, version: v12},
		{name: "no certificate, optional", validation: trust},
		{name: "good, 1.3", require: true, validation: trust, cert: good},
		{name: "good, 1.2", require: true, validation: trust, cert: good, version: v12},
		{name: "good, optional", validation: trust, cert: good},
		{name: "good, RSA", require: true, validation: trust, cert: ca.Issue(t, pkitest.Leaf{Name: "rsa", RSA: true})},
		{name: "good, P-384", require: true, validation: trust, cert: ca.Issue(t, pkitest.Leaf{Name: "p384", Curve: elliptic.P384()})},
		{name: "wrong CA, 1.3", require: true, validation: trust, cert: stranger},
		{name: "wrong CA, 1.2", require: true, validation: trust, cert: stranger, version: v12},
		{name: "wrong CA, optional", validation: trust, cert: stranger},
		{name: "two CAs", validation: m.ca("both", ca, other), cert: stranger},
		{name: "expired", validation: trust, cert: expired},
		{name: "expired, 1.2", validation: trust, cert: expired, version: v12},
		{name: "expired, allowed", validation: with("allow_expired_certificate: true"), cert: expired},
		{name: "not yet valid", validation: trust, cert: early},
		{name: "self signed", validation: trust, cert: self},
		{name: "self signed, trusted", validation: m.ca("self", self), cert: self},
		{name: "usage of a server", validation: trust, cert: ca.Issue(t, pkitest.Leaf{Name: "server", Usages: []x509.ExtKeyUsage{serverAuth}})},
		{name: "no usage", validation: trust, cert: ca.Issue(t, pkitest.Leaf{Name: "any"})},
		{name: "intermediate", validation: trust, cert: below},
		{name: "intermediate missing", validation: trust, cert: alone},
		{name: "intermediate trusted", validation: m.ca("between", between), cert: alone},
		{name: "intermediate expired", validation: trust, cert: oldBelow},
		{name: "signed by a leaf", validation: trust, cert: byLeaf},
		{name: "foreign root in the chain", validation: trust, cert: whole},
		{name: "depth reached", validation: with("max_verify_depth: 2"), cert: below},
		{name: "depth exceeded", validation: with("max_verify_depth: 1"), cert: below},
		{name: "SAN URI", validation: with(san("URI", "exact: 'spiffe://mesh.test/client'")), cert: good},
		{name: "SAN URI prefix", validation: with(san("URI", "prefix: 'spiffe://mesh.test/'")), cert: good},
		{name: "SAN URI wrong", validation: with(san("URI", "exact: 'spiffe://mesh.test/other'")), cert: good},
		{name: "SAN URI wrong, 1.2", validation: with(san("URI", "exact: 'spiffe://mesh.test/other'")), cert: good, version: v12},
		{name: "SAN without certificate", validation: with(san("URI", "exact: 'spiffe://mesh.test/other'"))},
		{name: "SAN DNS", validation: with(san("DNS", "exact: client.test")), cert: good},
		{name: "SAN DNS by wildcard", validation: with(san("DNS", "exact: a.wild.test")), cert: good},
		{name: "SAN DNS too deep", validation: with(san("DNS", "exact: a.b.wild.test")), cert: good},
		{name: "SAN DNS case", validation: with(san("DNS", "exact: CLIENT.test")), cert: good},
		{name: "SAN DNS suffix", validation: with(san("DNS", "suffix: .test")), cert: good},
		{name: "SAN DNS regex", validation: with(san("DNS", "safe_regex: {regex: 'client\\..*'}")), cert: good},
		{name: "SAN of another kind", validation: with(san("DNS", "prefix: 'spiffe://'")), cert: good},
		{name: "SAN IP", validation: with(san("IP_ADDRESS", "exact: 10.1.2.3")), cert: good},
		{name: "SAN IPv6", validation: with(san("IP_ADDRESS", "exact: 'fd00::1'")), cert: good},
		{name: "SAN IP wrong", validation: with(san("IP_ADDRESS", "exact: 10.1.2.4")), cert: good},
		{name: "SAN email", validation: with(san("EMAIL", "suffix: '@client.test'")), cert: good},
		{name: "SAN and wrong CA", validation: with(san("DNS", "exact: client.test")), cert: stranger},
		{name: "hash", validation: with(hash(good)), cert: good},
		{name: "hash wrong", validation: with(hash(stranger)), cert: good},
		{name: "hash without CA", validation: hash(self), cert: self},
		{name: "hash wrong without CA", validation: hash(good), cert: self},
		{name: "hash without certificate", validation: hash(self)},
		{name: "SPKI", validation: with(spki(good)), cert: good},
		{name: "SPKI wrong", validation: with(spki(stranger)), cert: good},
		{name: "SPKI instead of hash", validation: with(hash(stranger) + "\n" + spki(good)), cert: good},
		{name: "revoked", validation: with(crl("revoked", ca.Revoke(t, time.Hour, good))), cert: good},
		{name: "revoked, 1.2", validation: with(crl("revoked12", ca.Revoke(t, time.Hour, good))), cert: good, version: v12},
		{name: "another one revoked", validation: with(crl("other", ca.Revoke(t, time.Hour, expired))), cert: good},
		{name: "CRL expired", validation: with(crl("stale", ca.Revoke(t, -time.Minute))), cert: good},
		{name: "CRL of another CA", validation: with(crl("foreign", other.Revoke(t, time.Hour))), cert: good},
		{name: "CRL of the root alone", validation: with(crl("root", ca.Revoke(t, time.Hour))), cert: below},
		{name: "CRLs of all", validation: with(crl("all", ca.Revoke(t, time.Hour)+between.Revoke(t, time.Hour))), cert: below},
		{name: "intermediate revoked", validation: with(crl("between", ca.Revoke(t, time.Hour, between)+between.Revoke(t, time.Hour))), cert: below},
		{name: "CRL for leaves alone", validation: with("only_verify_leaf_cert_crl: true\n" + crl("leaf", ca.Revoke(t, time.Hour, between)+between.Revoke(t, time.Hour))), cert: below},
		{name: "untrusted accepted", validation: with(accept), cert: stranger},
		{name: "expired accepted", validation: with(accept), cert: expired},
		{name: "nothing accepted", validation: with(accept)},
		{name: "accepted, but required", require: true, validation: with(accept)},
		{name: "wrong SAN accepted", validation: with(accept + "\n" + san("DNS", "exact: no.test")), cert: good},
		{name: "accepted without CA", validation: accept, cert: self},
		{name: "required without CA", require: true, cert: self},
		{name: "required without CA, none", require: true},
		{name: "not asked for", cert: self},
		{name: "SPIFFE", validation: spiffe("mesh.test", ca), cert: good},
		{name: "SPIFFE, wrong CA", validation: spiffe("mesh.test", other), cert: good},
		{name: "SPIFFE, wrong domain", validation: spiffe("elsewhere.test", ca), cert: good},
		{name: "SPIFFE, CA as leaf", validation: spiffe("mesh.test", ca), cert: caLeaf},
		{name: "SPIFFE, expired", validation: spiffe("mesh.test", ca), cert: ca.Issue(t, pkitest.Leaf{URIS: named.URIS, From: -2 * time.Hour, Until: -time.Hour})},
		{name: "TLS 1.1", version: tls.VersionTLS11},
		{name: "TLS 1.2 against 1.3", params: "tls_minimum_protocol_version: TLSv1_3", version: v12},
		{name: "no common cipher", params: "cipher_suites: [ECDHE-RSA-AES128-GCM-SHA256]", version: v12},
		{name: "no common protocol", alpn: []string{"foo"}},
	}
}

func (m *matrix) upstreams() []upstream {
	t := m.t
	ca, other := pkitest.Authority(t, "up ca"), pkitest.Authority(t, "up other")
	named := pkitest.Leaf{Name: "server", DNS: []string{"server.test"}, URIS: []string{"spiffe://mesh.test/server"}, Usages: []x509.ExtKeyUsage{serverAuth}}
	good, stranger, self := ca.Issue(t, named), other.Issue(t, named), pkitest.Sign(t, nil, named)
	between := ca.Intermediate(t, pkitest.Leaf{Name: "between"})
	below := between.Issue(t, named)
	alone := &pkitest.Certificate{Cert: below.Cert, Key: below.Key}
	client := ca.Issue(t, pkitest.Leaf{Name: "client", Usages: []x509.ExtKeyUsage{clientAuth}})
	trust := "validation_context: {" + m.ca("upca", ca)
	show := "tls_certificates: [{certificate_chain: " + m.file("up.crt", client.Chain()) + ", private_key: " + m.file("up.key", client.KeyPEM(t)) + "}]"
	return []upstream{
		{name: "not verified", cert: self},
		{name: "good", common: trust + "}", cert: good},
		{name: "wrong CA", common: trust + "}", cert: stranger},
		{name: "self signed", common: trust + "}", cert: self},
		{name: "expired", common: trust + "}", cert: ca.Issue(t, pkitest.Leaf{Name: "expired", From: -2 * time.Hour, Until: -time.Hour})},
		{name: "expired, allowed", common: trust + ", allow_expired_certificate: true}", cert: ca.Issue(t, pkitest.Leaf{Name: "expired", From: -2 * time.Hour, Until: -time.Hour})},
		{name: "not yet valid", common: trust + "}", cert: ca.Issue(t, pkitest.Leaf{Name: "early", From: time.Hour, Until: 2 * time.Hour})},
		{name: "usage of a client", common: trust + "}", cert: client},
		{name: "intermediate", common: trust + "}", cert: below},
		{name: "intermediate missing", common: trust + "}", cert: alone},
		{name: "SAN", common: trust + ", " + san("DNS", "exact: server.test") + "}", cert: good},
		{name: "SAN wrong", common: trust + ", " + san("DNS", "exact: other.test") + "}", cert: good},
		{name: "SAN of the SNI", context: "sni: server.test, auto_sni_san_validation: true", common: trust + "}", cert: good},
		{name: "SAN of the SNI wrong", context: "sni: other.test, auto_sni_san_validation: true", common: trust + "}", cert: good},
		{name: "hash wrong", common: trust + ", " + hash(stranger) + "}", cert: good},
		{name: "revoked", common: trust + ", crl: " + m.file("up.crl", ca.Revoke(t, time.Hour, good)) + "}", cert: good},
		{name: "untrusted accepted", common: trust + ", trust_chain_verification: ACCEPT_UNTRUSTED}", cert: stranger},
		{name: "client certificate", common: trust + "}, " + show, cert: good, wants: ca},
		{name: "no client certificate", common: trust + "}", cert: good, wants: ca},
		{name: "client certificate of another CA", common: trust + "}, " + show, cert: good, wants: other},
		{name: "plain text", common: trust + "}", plain: true},
		{name: "closes at once", common: trust + "}", shy: true},
		{name: "TLS 1.3 alone", common: trust + "}", cert: good, min: tls.VersionTLS13},
		{name: "TLS 1.3 alone, allowed", common: trust + "}, tls_params: {tls_maximum_protocol_version: TLSv1_3}", cert: good, min: tls.VersionTLS13},
	}
}
