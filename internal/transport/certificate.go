package transport

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"golang.org/x/crypto/ocsp"
	"software.sslmate.com/src/go-pkcs12"
)

// identity is a certificate with its key, and what is asked of it again and again. It does not change.
type identity struct {
	cert    tls.Certificate
	leaf    *x509.Certificate
	path    string // where it came from
	name    string // in statistics
	params  *tlsv3.TlsParameters
	names   []string // server names that it is for, in lower case; "*.x" for all below x
	ecdsa   bool
	slow    bool // a signature takes long
	subject string
	uris    []string
	staple  *ocsp.Response // nil: none
	must    bool           // the certificate asks for a staple (RFC 7633)
}

// loadIdentity reads a TlsCertificate. Its errors begin with the field.
func loadIdentity(p *tlsv3.TlsCertificate) (*identity, error) {
	if err := refuseCertificate(p); err != nil {
		return nil, err
	}
	chain, key, path, err := loadPair(p)
	if err != nil {
		return nil, err
	}
	i := &identity{leaf: chain[0], path: path, params: p.GetTlsParams()}
	i.cert = tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		i.cert.Certificate = append(i.cert.Certificate, c.Raw)
	}
	if err := i.describe(key); err != nil {
		return nil, fmt.Errorf("Failed to load certificate chain from %s, %w", path, err)
	}
	if p.GetOcspStaple() != nil {
		if err := i.loadStaple(p.GetOcspStaple(), chain); err != nil {
			return nil, fmt.Errorf("ocsp_staple: %w", err)
		}
	}
	return i, nil
}

func refuseCertificate(p *tlsv3.TlsCertificate) error {
	pair := p.GetCertificateChain() != nil || p.GetPrivateKey() != nil
	switch {
	case p.GetPrivateKeyProvider() != nil && !p.GetPrivateKeyProvider().GetFallback():
		return fmt.Errorf("private_key_provider: Failed to load private key provider: %s", p.GetPrivateKeyProvider().GetProviderName())
	case p.GetPkcs12() != nil && (pair || p.GetPrivateKeyProvider() != nil):
		return errors.New("pkcs12: certificate_chain, private_key and private_key_provider cannot be set beside it")
	case p.GetPkcs12() == nil && p.GetCertificateChain() == nil:
		return errors.New("certificate_chain: no certificate is given")
	case len(p.GetSignedCertificateTimestamp()) > 0:
		return errors.New("signed_certificate_timestamp: not implemented, in Envoy neither")
	}
	return nil
}

// loadPair reads the chain and the key.
func loadPair(p *tlsv3.TlsCertificate) (chain []*x509.Certificate, key crypto.Signer, path string, err error) {
	password, err := material(p.GetPassword())
	if err != nil {
		return nil, nil, "", fmt.Errorf("password.%w", err)
	}
	if p.GetPkcs12() != nil {
		return loadPKCS12(p.GetPkcs12(), password)
	}
	path = whence(p.GetCertificateChain())
	text, err := material(p.GetCertificateChain())
	if err != nil {
		return nil, nil, "", fmt.Errorf("certificate_chain.%w", err)
	}
	if chain, err = certificates(text); err != nil || len(chain) == 0 {
		return nil, nil, "", fmt.Errorf("certificate_chain: Failed to load certificate chain from %s%s", path, because(err))
	}
	text, err = material(p.GetPrivateKey())
	if err != nil {
		return nil, nil, "", fmt.Errorf("private_key.%w", err)
	}
	if key, err = parseKey(text, password); err != nil {
		return nil, nil, "", fmt.Errorf("private_key: Failed to load private key from %s, Cause: %w", whence(p.GetPrivateKey()), err)
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(chain[0].PublicKey) {
		return nil, nil, "", fmt.Errorf("private_key: Failed to load private key from %s, Cause: error:0b000074:X.509 certificate routines:OPENSSL_internal:KEY_VALUES_MISMATCH", whence(p.GetPrivateKey()))
	}
	return chain, key, path, nil
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

func loadPKCS12(s *corev3.DataSource, password []byte) ([]*x509.Certificate, crypto.Signer, string, error) {
	der, err := material(s)
	if err != nil {
		return nil, nil, "", fmt.Errorf("pkcs12.%w", err)
	}
	k, leaf, rest, err := pkcs12.DecodeChain(der, string(password))
	if err != nil {
		return nil, nil, "", fmt.Errorf("pkcs12: Failed to load pkcs12 from %s: %w", whence(s), err)
	}
	key, ok := k.(crypto.Signer)
	if !ok {
		return nil, nil, "", fmt.Errorf("pkcs12: Failed to load pkcs12 from %s: no key that signs", whence(s))
	}
	return append([]*x509.Certificate{leaf}, rest...), key, whence(s), nil
}

// certificates reads all certificates in PEM; other blocks are left out.
func certificates(text []byte) ([]*x509.Certificate, error) {
	var l []*x509.Certificate
	for {
		b, rest := pem.Decode(text)
		if b == nil {
			return l, nil
		}
		if b.Type == "CERTIFICATE" || b.Type == "TRUSTED CERTIFICATE" || b.Type == "X509 CERTIFICATE" {
			c, err := x509.ParseCertificate(b.Bytes)
			if err != nil {
				return nil, err
			}
			l = append(l, c)
		}
		text = rest
	}
}

var oidMustStaple = "1.3.6.1.5.5.7.1.24"

func (i *identity) describe(key crypto.Signer) error {
	if err := checkKey(i.leaf.PublicKey); err != nil {
		return err
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		i.slow = true // 0.6 ms for 2048 bits, 4 ms for 4096
	case *ecdsa.PrivateKey:
		i.ecdsa = true
		i.slow = k.Curve != elliptic.P256()
	}
	l := sans(i.leaf)
	i.uris, i.subject = texts(l, uriName), distinguishedName(i.leaf.RawSubject)
	i.names = texts(l, dnsName)
	if len(i.names) == 0 && i.leaf.Subject.CommonName != "" {
		i.names = []string{i.leaf.Subject.CommonName}
	}
	for k, n := range i.names {
		i.names[k] = strings.ToLower(n)
	}
	for _, e := range i.leaf.Extensions {
		i.must = i.must || e.Id.String() == oidMustStaple
	}
	return nil
}

func (i *identity) loadStaple(s *corev3.DataSource, chain []*x509.Certificate) error {
	if s.GetInlineString() != "" {
		return errors.New("inline_string: is not for DER; use inline_bytes or filename")
	}
	der, err := material(s)
	if err != nil {
		return err
	}
	var issuer *x509.Certificate
	if len(chain) > 1 {
		issuer = chain[1]
	}
	r, err := ocsp.ParseResponseForCert(der, i.leaf, issuer)
	if err != nil {
		r, err = ocsp.ParseResponseForCert(der, i.leaf, nil)
	}
	if err != nil {
		return fmt.Errorf("OCSP response does not match its TLS certificate: %w", err)
	}
	i.staple, i.cert.OCSPStaple = r, der
	return nil
}

// expired says whether the staple is no longer to be used.
func (i *identity) expired(now time.Time) bool {
	return i.staple != nil && !i.staple.NextUpdate.IsZero() && now.After(i.staple.NextUpdate)
}

// unnamed is the name in statistics of what has none of its own: Envoy hashes the name, which is empty.
func unnamed(kind, name string) string {
	if name != "" {
		return name
	}
	h := sha256.Sum256(nil)
	return "unnamed_" + kind + "_" + hex.EncodeToString(h[:4])
}

// crls reads certificate revocation lists in PEM.
func crls(text []byte) ([]*x509.RevocationList, error) {
	var l []*x509.RevocationList
	for {
		b, rest := pem.Decode(text)
		if b == nil {
			return l, nil
		}
		if b.Type == "X509 CRL" {
			c, err := x509.ParseRevocationList(b.Bytes)
			if err != nil {
				return nil, err
			}
			l = append(l, c)
		}
		text = rest
	}
}

func sameIssuer(l *x509.RevocationList, issuer *x509.Certificate) bool {
	return bytes.Equal(l.RawIssuer, issuer.RawSubject)
}
