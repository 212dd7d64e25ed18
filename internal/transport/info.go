package transport

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Info is what is known of a TLS connection. It is a stream.TLSInfo; what is read for every request is computed once.
type Info struct {
	// set at construction
	version, cipher  uint16
	group            tls.CurveID
	serverName, alpn string
	chain            []*x509.Certificate // as the peer has sent it
	local            *identity           // nil: we showed none
	validated        bool
	issuer           *x509.Certificate // of the leaf, in the verified chain
	session          string
	// owned by the worker; computed at first use
	names              *names
	subject, hash, pem string
}

var _ stream.TLSInfo = (*Info)(nil)

// names are the subject alternative names of a certificate by kind.
type names struct{ uris, dns []string }

func newInfo(s *tls.ConnectionState, local *identity, v *verdict) *Info {
	i := &Info{
		version: s.Version, cipher: s.CipherSuite, group: s.CurveID, serverName: s.ServerName, alpn: s.NegotiatedProtocol,
		chain: s.PeerCertificates, local: local,
	}
	if v != nil && i.chain == nil {
		i.chain = v.shown
	}
	if v != nil && v.err == nil && v.validated {
		i.validated = true
		if len(v.chain) > 1 {
			i.issuer = v.chain[1]
		}
	}
	return i
}

func (i *Info) peer() *x509.Certificate {
	if len(i.chain) == 0 {
		return nil
	}
	return i.chain[0]
}

// Version is the version of the protocol, such as TLSv1.3.
func (i *Info) Version() string { return versionName(i.version) }

// Cipher is the OpenSSL name of the cipher suite.
func (i *Info) Cipher() string { return cipherName(i.cipher) }

// ServerName is the SNI.
func (i *Info) ServerName() string { return i.serverName }

// ALPN is the protocol that was agreed on.
func (i *Info) ALPN() string { return i.alpn }

// PeerSubject is the subject of the peer's certificate.
func (i *Info) PeerSubject() string {
	if p := i.peer(); p != nil && i.subject == "" {
		i.subject = distinguishedName(p.RawSubject)
	}
	return i.subject
}

func (i *Info) peerNames() *names {
	if i.names == nil {
		i.names = &names{}
		if p := i.peer(); p != nil {
			l := sans(p)
			i.names.uris, i.names.dns = texts(l, uriName), texts(l, dnsName)
		}
	}
	return i.names
}

// PeerURISANs are the URIs in the peer's certificate.
func (i *Info) PeerURISANs() []string { return i.peerNames().uris }

// PeerDNSSANs are the DNS names in the peer's certificate.
func (i *Info) PeerDNSSANs() []string { return i.peerNames().dns }

// LocalURISANs are the URIs in our certificate.
func (i *Info) LocalURISANs() []string {
	if i.local == nil {
		return nil
	}
	return i.local.uris
}

// LocalSubject is the subject of our certificate.
func (i *Info) LocalSubject() string {
	if i.local == nil {
		return ""
	}
	return i.local.subject
}

// PeerFingerprint is the SHA-256 of the peer's certificate.
func (i *Info) PeerFingerprint() string {
	if p := i.peer(); p != nil && i.hash == "" {
		i.hash = fingerprint256(p)
	}
	return i.hash
}

// PeerValidated says whether the peer's certificate is trusted.
func (i *Info) PeerValidated() bool { return i.validated }

// PeerValidity is from when until when the peer's certificate is valid.
func (i *Info) PeerValidity() (from, until time.Time) {
	if p := i.peer(); p != nil {
		return p.NotBefore, p.NotAfter
	}
	return time.Time{}, time.Time{}
}

// Text is the rest.
func (i *Info) Text(t stream.TLSText) string {
	switch t {
	case stream.TLSSessionID:
		return i.session
	case stream.TLSGroup:
		return groupName(i.group)
	case stream.LocalDNSSANs:
		return i.localSANs(dnsName)
	case stream.LocalIPSANs:
		return i.localSANs(ipName)
	case stream.LocalEmailSANs:
		return i.localSANs(emailName)
	case stream.LocalOtherNameSANs:
		return i.localSANs(otherName)
	}
	if p := i.peer(); p != nil {
		return i.peerText(p, t)
	}
	return ""
}

func (i *Info) localSANs(k sanKind) string {
	if i.local == nil {
		return ""
	}
	return strings.Join(texts(sans(i.local.leaf), k), ",")
}

func (i *Info) peerText(p *x509.Certificate, t stream.TLSText) string {
	switch t {
	case stream.PeerIssuer:
		return distinguishedName(p.RawIssuer)
	case stream.PeerSerial:
		return serial(p)
	case stream.PeerCertificate:
		if i.pem == "" {
			i.pem = urlPEM(p)
		}
		return i.pem
	case stream.PeerCertificateChain:
		return i.each(urlPEM, "")
	case stream.PeerFingerprint1:
		return fingerprint1(p)
	case stream.PeerIPSANs:
		return strings.Join(texts(sans(p), ipName), ",")
	case stream.PeerEmailSANs:
		return strings.Join(texts(sans(p), emailName), ",")
	case stream.PeerOtherNameSANs:
		return strings.Join(texts(sans(p), otherName), ",")
	case stream.PeerIssuerFingerprint256:
		return i.ofIssuer(fingerprint256)
	case stream.PeerIssuerSerial:
		return i.ofIssuer(serial)
	case stream.PeerChainFingerprints256:
		return i.each(fingerprint256, ",")
	case stream.PeerChainFingerprints1:
		return i.each(fingerprint1, ",")
	case stream.PeerChainSerials:
		return i.each(serial, ",")
	}
	return ""
}

func (i *Info) ofIssuer(f func(*x509.Certificate) string) string {
	if i.issuer == nil {
		return ""
	}
	return f(i.issuer)
}

func (i *Info) each(f func(*x509.Certificate) string, separator string) string {
	l := make([]string, len(i.chain))
	for k, c := range i.chain {
		l[k] = f(c)
	}
	return strings.Join(l, separator)
}
