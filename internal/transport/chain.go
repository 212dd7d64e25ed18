package transport

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// verifyChain looks for a chain from shown[0] to a certificate that is trusted. Errors are in OpenSSL's words.
func (v *validator) verifyChain(shown []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) ([]*x509.Certificate, error) {
	pool := v.pool
	if v.spiffe != nil {
		var err error
		if pool, err = v.spiffe.bundle(shown[0]); err != nil {
			return nil, err
		}
	}
	o := x509.VerifyOptions{Roots: pool, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}
	for _, c := range shown[1:] {
		o.Intermediates.AddCert(v.timeless(c))
	}
	chains, err := v.timeless(shown[0]).Verify(o)
	if err != nil {
		return nil, v.explain(err, shown, pool, now)
	}
	var why error
	for _, c := range chains {
		if err := v.acceptable(c, now); err != nil {
			why = err
			continue
		}
		return c, nil
	}
	return nil, why
}

func (v *validator) acceptable(chain []*x509.Certificate, now time.Time) error {
	if len(chain)-1 > v.depth {
		return at(v.depth, "unable to get local issuer certificate") // further up than it looks
	}
	if len(v.crls) == 0 {
		return nil
	}
	n := len(chain)
	if v.leafOnly {
		n = 1
	}
	for i := range n {
		issuer := chain[min(i+1, len(chain)-1)]
		if err := v.revoked(i, chain[i], issuer, now); err != nil {
			return err
		}
	}
	return nil
}

// revoked looks for c in the list of its issuer, which must be there.
func (v *validator) revoked(depth int, c, issuer *x509.Certificate, now time.Time) error {
	why := "unable to get certificate CRL"
	for _, l := range v.crls {
		if !sameIssuer(l, issuer) {
			continue
		}
		switch {
		case l.CheckSignatureFrom(issuer) != nil:
			why = "CRL signature failure"
			continue
		case !v.allowExpired && now.Before(l.ThisUpdate):
			why = "CRL is not yet valid"
			continue
		case !v.allowExpired && !l.NextUpdate.IsZero() && now.After(l.NextUpdate):
			why = "CRL has expired"
			continue
		}
		for i := range l.RevokedCertificateEntries {
			if l.RevokedCertificateEntries[i].SerialNumber.Cmp(c.SerialNumber) == 0 {
				return at(depth, checked+"certificate revoked")
			}
		}
		return nil
	}
	return at(depth, checked+why)
}

const checked = "certificate revocation check against provided CRLs failed: "

// at is an error about the certificate of this depth.
func at(depth int, why string) error {
	return fmt.Errorf("X509_verify_cert: certificate verification error at depth %d: %s", depth, why)
}

// explain says in OpenSSL's words why there is no chain.
func (v *validator) explain(err error, shown []*x509.Certificate, roots *x509.CertPool, now time.Time) error {
	leaf := shown[0]
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid):
		return explainInvalid(invalid, shown, now)
	case errors.As(err, &unknown) && selfSigned(leaf):
		return at(0, "self signed certificate")
	case errors.As(err, &unknown):
		last := leaf
		depth := 0
		for i, c := range shown[1:] {
			if bytes.Equal(last.RawIssuer, c.RawSubject) && maySign(c) {
				last, depth = c, i+1
			}
		}
		if selfSigned(last) {
			return at(depth, "self signed certificate in certificate chain")
		}
		if _, signed := unknown.Cert, last != leaf; signed && unknown.Cert != nil && expired(unknown.Cert, now) != "" {
			return at(depth, expired(unknown.Cert, now))
		}
		return at(depth, "unable to get local issuer certificate")
	}
	return at(0, err.Error())
}

// selfSigned is OpenSSL's idea of it: the key must be allowed to sign certificates.
func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && maySign(c)
}

func maySign(c *x509.Certificate) bool {
	return c.KeyUsage == 0 || c.KeyUsage&x509.KeyUsageCertSign != 0
}

func explainInvalid(e x509.CertificateInvalidError, shown []*x509.Certificate, now time.Time) error {
	depth := 0
	for i, c := range shown {
		if e.Cert != nil && c.Equal(e.Cert) {
			depth = i
		}
	}
	switch e.Reason {
	case x509.Expired:
		if e.Cert != nil && now.Before(e.Cert.NotBefore) {
			return at(depth, "certificate is not yet valid")
		}
		return at(depth, "certificate has expired")
	case x509.IncompatibleUsage:
		return at(depth, "unsupported certificate purpose")
	case x509.NotAuthorizedToSign:
		return at(max(depth, 1), "invalid CA certificate")
	case x509.TooManyIntermediates:
		return at(depth, "path length constraint exceeded")
	case x509.CANotAuthorizedForThisName:
		return at(depth, "permitted subtree violation")
	case x509.CANotAuthorizedForExtKeyUsage:
		return at(depth, "unsupported certificate purpose")
	}
	return at(depth, e.Error())
}

// expired says what is wrong with the validity of c; empty: nothing.
func expired(c *x509.Certificate, now time.Time) string {
	switch {
	case now.After(c.NotAfter):
		return "certificate has expired"
	case now.Before(c.NotBefore):
		return "certificate is not yet valid"
	}
	return ""
}
