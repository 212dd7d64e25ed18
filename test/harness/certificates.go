package harness

import (
	"fmt"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
)

// Identity is a TlsCertificate with a certificate and its key, in YAML.
func Identity(tb testing.TB, c *pkitest.Certificate) string {
	tb.Helper()
	return fmt.Sprintf("{certificate_chain: {inline_string: %q}, private_key: {inline_string: %q}}", c.Chain(), c.KeyPEM(tb))
}
