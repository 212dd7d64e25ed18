package tls

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &tlsv3.UpstreamTlsContext{}, &tlsv3.CommonTlsContext{}, &tlsv3.TlsKeyLog{}, &tlsv3.TlsParameters{},
		&tlsv3.TlsCertificate{}, &tlsv3.PrivateKeyProvider{}, &tlsv3.CertificateValidationContext{}, &tlsv3.SubjectAltNameMatcher{},
		&tlsv3.SPIFFECertValidatorConfig{}, &tlsv3.SdsSecretConfig{}, &corev3.PathConfigSource{})
}
