package transport

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
)

// spiffe is envoy.tls.cert_validator.spiffe: which certificates are trusted depends on the trust domain in the peer's SPIFFE id.
type spiffe struct {
	bundles map[string]*x509.CertPool // by trust domain
}

const spiffeScheme = "spiffe://"

// parseCustom reads custom_validator_config.
func (v *validator) parseCustom(p *tlsv3.CertificateValidationContext) error {
	c := p.GetCustomValidatorConfig()
	if c == nil {
		return nil
	}
	m, _, err := protofile.Unpack(c.GetTypedConfig())
	if err != nil {
		return fmt.Errorf("custom_validator_config: %w", err)
	}
	s, ok := m.(*tlsv3.SPIFFECertValidatorConfig)
	if !ok {
		return fmt.Errorf("custom_validator_config: didn't find a registered implementation for '%s' with type URL: '%s'", c.GetName(), c.GetTypedConfig().GetTypeUrl())
	}
	if v.spiffe, err = v.newSPIFFE(s); err != nil {
		return fmt.Errorf("custom_validator_config.typed_config.%w", err)
	}
	return nil
}

func (v *validator) newSPIFFE(p *tlsv3.SPIFFECertValidatorConfig) (*spiffe, error) {
	s := &spiffe{bundles: map[string]*x509.CertPool{}}
	if p.GetTrustBundles() != nil {
		text, err := material(p.GetTrustBundles())
		if err != nil {
			return nil, fmt.Errorf("trust_bundles.%w", err)
		}
		if err := s.parseMap(v, text); err != nil {
			return nil, fmt.Errorf("trust_bundles: %w", err)
		}
		return s, nil
	}
	if len(p.GetTrustDomains()) == 0 {
		return nil, errors.New("trust_domains: SPIFFE cert validator requires at least one trust domain")
	}
	for i, d := range p.GetTrustDomains() {
		text, err := material(d.GetTrustBundle())
		if err != nil {
			return nil, fmt.Errorf("trust_domains[%d].trust_bundle.%w", i, err)
		}
		l, err := certificates(text)
		switch {
		case err != nil || len(l) == 0:
			return nil, fmt.Errorf("trust_domains[%d].trust_bundle: Failed to load trusted CA certificate for %s%s", i, d.GetName(), because(err))
		case d.GetWorkloadTrustDomain() != "":
			return nil, fmt.Errorf("trust_domains[%d].workload_trust_domain: is not supported", i)
		case s.bundles[d.GetName()] != nil:
			return nil, fmt.Errorf("trust_domains[%d].name: Multiple trust bundles are given for one trust domain for %s", i, d.GetName())
		}
		s.bundles[d.GetName()] = v.poolOf(l)
		v.roots = append(v.roots, l...)
	}
	return s, nil
}

// parseMap reads a SPIFFE trust bundle map.
func (s *spiffe) parseMap(v *validator, text []byte) error {
	var m struct {
		Domains map[string]struct {
			Keys []struct {
				Use string   `json:"use"`
				X5C []string `json:"x5c"`
			} `json:"keys"`
		} `json:"trust_domains"`
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("Invalid JSON in SPIFFE bundle map: %w", err)
	}
	if len(m.Domains) == 0 {
		return errors.New("No trust domains found in SPIFFE bundle")
	}
	for name, d := range m.Domains {
		var l []*x509.Certificate
		for _, k := range d.Keys {
			if k.Use != "x509-svid" {
				continue
			}
			for _, text := range k.X5C {
				der, err := base64.StdEncoding.DecodeString(text)
				if err != nil {
					return fmt.Errorf("trust domain %q: x5c: %w", name, err)
				}
				c, err := x509.ParseCertificate(der)
				if err != nil {
					return fmt.Errorf("trust domain %q: x5c: %w", name, err)
				}
				l = append(l, c)
			}
		}
		if len(l) == 0 {
			return fmt.Errorf("No certificate found in the bundle of trust domain %q", name)
		}
		s.bundles[name] = v.poolOf(l)
		v.roots = append(v.roots, l...)
	}
	return nil
}

// bundle returns what is trusted for this certificate (SPIFFE X509-SVID sections 2 and 5).
func (s *spiffe) bundle(leaf *x509.Certificate) (*x509.CertPool, error) {
	if leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return nil, errors.New("leaf certificate should not have CA flag nor keyCertSign or cRLSign usage")
	}
	for _, u := range texts(sans(leaf), uriName) {
		rest, ok := strings.CutPrefix(u, spiffeScheme)
		if !ok {
			continue
		}
		domain, _, ok := strings.Cut(rest, "/")
		if p := s.bundles[domain]; ok && p != nil {
			return p, nil
		}
	}
	return nil, errors.New("no trust bundle store")
}
