package transport

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
	"sync/atomic"
	"testing"
	"time"
)

var serials atomic.Int64

// issued is a certificate with its key and what stands above it.
type issued struct {
	cert  *x509.Certificate
	key   crypto.Signer
	above []*x509.Certificate // intermediates that it is shown with
}

// leaf says what a certificate is to be.
type leaf struct {
	name        string
	dns, uris   []string
	ips         []string
	emails      []string
	from, until time.Duration // from now on; 0: an hour ago, in an hour
	usages      []x509.ExtKeyUsage
	ca          bool
	rsa         bool
	curve       elliptic.Curve
}

func newKey(t testing.TB, l *leaf) crypto.Signer {
	t.Helper()
	var k crypto.Signer
	var err error
	switch {
	case l.rsa:
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	case l.curve != nil:
		k, err = ecdsa.GenerateKey(l.curve, rand.Reader)
	default:
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (l *leaf) template(t testing.TB) *x509.Certificate {
	t.Helper()
	from, until := l.from, l.until
	if from == 0 {
		from = -time.Hour
	}
	if until == 0 {
		until = time.Hour
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1) + 1000), Subject: pkix.Name{CommonName: l.name, Organization: []string{"test"}},
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(until), DNSNames: l.dns, EmailAddresses: l.emails, ExtKeyUsage: l.usages,
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: l.ca,
	}
	for _, u := range l.uris {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		c.URIs = append(c.URIs, parsed)
	}
	for _, ip := range l.ips {
		c.IPAddresses = append(c.IPAddresses, net.ParseIP(ip))
	}
	if l.ca {
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	return c
}

// sign makes a certificate; a nil authority signs itself.
func sign(t testing.TB, by *issued, l leaf) *issued {
	t.Helper()
	key, template := newKey(t, &l), l.template(t)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	i := &issued{cert: c, key: key}
	if by != nil {
		i.above = by.above
	}
	return i
}

func newAuthority(t testing.TB, name string) *issued {
	t.Helper()
	return sign(t, nil, leaf{name: name, ca: true})
}

// issue signs a certificate.
func (i *issued) issue(t testing.TB, l leaf) *issued { t.Helper(); return sign(t, i, l) }

// intermediate signs an authority whose certificates are shown with it.
func (i *issued) intermediate(t testing.TB, l leaf) *issued {
	t.Helper()
	l.ca = true
	c := sign(t, i, l)
	c.above = append([]*x509.Certificate{c.cert}, i.above...)
	return c
}

func (i *issued) tls() tls.Certificate {
	c := tls.Certificate{PrivateKey: i.key, Leaf: i.cert, Certificate: [][]byte{i.cert.Raw}}
	for _, a := range i.above {
		c.Certificate = append(c.Certificate, a.Raw)
	}
	return c
}

// chain is PEM of the certificate and of those that it is shown with.
func (i *issued) chain() string {
	text := certPEM(i.cert)
	for _, a := range i.above {
		text += certPEM(a)
	}
	return text
}

func certPEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func (i *issued) keyPEM(t testing.TB) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// revoke makes a revocation list.
func (i *issued) revoke(t testing.TB, next time.Duration, gone ...*issued) string {
	t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(serials.Add(1)), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(next)}
	for _, g := range gone {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: g.cert.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, i.cert, i.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}
