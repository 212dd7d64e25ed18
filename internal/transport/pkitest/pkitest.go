// Package pkitest makes the certificates of tests.
package pkitest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var serials atomic.Int64

// Certificate is a certificate with its key and what stands above it.
type Certificate struct {
	Cert  *x509.Certificate
	Key   crypto.Signer
	Above []*x509.Certificate // intermediates that it is shown with
}

// Leaf says what a certificate is to be.
type Leaf struct {
	Name        string
	DNS, URIS   []string
	IPS         []string
	Emails      []string
	From, Until time.Duration // from now on; 0: an hour ago, in an hour
	Usages      []x509.ExtKeyUsage
	CA, RSA     bool
	Curve       elliptic.Curve
}

func newKey(tb testing.TB, l *Leaf) crypto.Signer {
	tb.Helper()
	var k crypto.Signer
	var err error
	switch {
	case l.RSA:
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	case l.Curve != nil:
		k, err = ecdsa.GenerateKey(l.Curve, rand.Reader)
	default:
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func (l *Leaf) template(tb testing.TB) *x509.Certificate {
	tb.Helper()
	from, until := l.From, l.Until
	if from == 0 {
		from = -time.Hour
	}
	if until == 0 {
		until = time.Hour
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1) + 1000), Subject: pkix.Name{CommonName: l.Name, Organization: []string{"test"}},
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(until), DNSNames: l.DNS, EmailAddresses: l.Emails, ExtKeyUsage: l.Usages,
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: l.CA,
	}
	for _, u := range l.URIS {
		parsed, err := url.Parse(u)
		if err != nil {
			tb.Fatal(err)
		}
		c.URIs = append(c.URIs, parsed)
	}
	for _, ip := range l.IPS {
		c.IPAddresses = append(c.IPAddresses, net.ParseIP(ip))
	}
	if l.CA {
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	return c
}

// Sign makes a certificate; a nil authority signs itself.
func Sign(tb testing.TB, by *Certificate, l Leaf) *Certificate {
	tb.Helper()
	key, template := newKey(tb, &l), l.template(tb)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.Cert, by.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	i := &Certificate{Cert: c, Key: key}
	if by != nil {
		i.Above = by.Above
	}
	return i
}

// Authority makes one that signs itself.
func Authority(tb testing.TB, name string) *Certificate {
	tb.Helper()
	return Sign(tb, nil, Leaf{Name: name, CA: true})
}

// Issue signs a certificate.
func (i *Certificate) Issue(tb testing.TB, l Leaf) *Certificate { tb.Helper(); return Sign(tb, i, l) }

// Intermediate signs an authority whose certificates are shown with it.
func (i *Certificate) Intermediate(tb testing.TB, l Leaf) *Certificate {
	tb.Helper()
	l.CA = true
	c := Sign(tb, i, l)
	c.Above = append([]*x509.Certificate{c.Cert}, i.Above...)
	return c
}

// TLS is what crypto/tls wants.
func (i *Certificate) TLS() tls.Certificate {
	c := tls.Certificate{PrivateKey: i.Key, Leaf: i.Cert, Certificate: [][]byte{i.Cert.Raw}}
	for _, a := range i.Above {
		c.Certificate = append(c.Certificate, a.Raw)
	}
	return c
}

// Chain is PEM of the certificate and of those that it is shown with.
func (i *Certificate) Chain() string {
	var text strings.Builder
	text.WriteString(PEM(i.Cert))
	for _, a := range i.Above {
		text.WriteString(PEM(a))
	}
	return text.String()
}

// PEM is the certificate in PEM.
func PEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// KeyPEM is the key in PEM.
func (i *Certificate) KeyPEM(tb testing.TB) string {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(i.Key)
	if err != nil {
		tb.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// Revoke makes a revocation list.
func (i *Certificate) Revoke(tb testing.TB, next time.Duration, gone ...*Certificate) string {
	tb.Helper()
	l := &x509.RevocationList{Number: big.NewInt(serials.Add(1)), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(next)}
	for _, g := range gone {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: g.Cert.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, i.Cert, i.Key)
	if err != nil {
		tb.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}
