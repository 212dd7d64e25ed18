package transport

import (
	"crypto/tls"
	"reflect"
	"sync"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// sslStats are listener.<address>.ssl.* and cluster.<name>.ssl.*.
type sslStats struct {
	ConnectionError stats.Counter `stat:"connection_error"`
	Handshake       stats.Counter `stat:"handshake"`
	SessionReused   stats.Counter `stat:"session_reused"`
	NoCertificate   stats.Counter `stat:"no_certificate"`
	FailNoCert      stats.Counter `stat:"fail_verify_no_cert"`
	FailError       stats.Counter `stat:"fail_verify_error"`
	FailSAN         stats.Counter `stat:"fail_verify_san"`
	FailHash        stats.Counter `stat:"fail_verify_cert_hash"`
	StapleFailed    stats.Counter `stat:"ocsp_staple_failed"`
	StapleOmitted   stats.Counter `stat:"ocsp_staple_omitted"`
	StapleResponses stats.Counter `stat:"ocsp_staple_responses"`
	StapleRequests  stats.Counter `stat:"ocsp_staple_requests"`
}

// factoryStats are those of server_ssl_socket_factory. and client_ssl_socket_factory.
type factoryStats struct {
	DownstreamNotReady stats.Counter `stat:"downstream_context_secrets_not_ready"`
	UpstreamNotReady   stats.Counter `stat:"upstream_context_secrets_not_ready"`
	Updates            stats.Counter `stat:"ssl_context_update_by_sds"`
}

// counts are all statistics of a context.
type counts struct {
	*sslStats

	factory *factoryStats
	scope   stats.Scope // ssl.
	detail  sync.Map    // what was agreed on -> *stats.Counter: one look-up per handshake, which takes hundreds of microseconds
}

func newCounts(scope stats.Scope, factory string) *counts {
	s := scope.Sub("ssl")
	return &counts{sslStats: stats.New[sslStats](s), factory: stats.New[factoryStats](scope.Sub(factory)), scope: s}
}

// agreed counts a name below ssl.<kind>.
func (c *counts) agreed(kind, name string) {
	if name == "" {
		return
	}
	key := [2]string{kind, name}
	v, ok := c.detail.Load(key)
	if !ok {
		v, _ = c.detail.LoadOrStore(key, c.scope.Sub(kind).Counter(name))
	}
	v.(*stats.Counter).Inc()
}

// done counts a handshake that came about.
func (c *counts) done(s *tls.ConnectionState) {
	c.Handshake.Inc()
	if s.DidResume {
		c.SessionReused.Inc()
	}
	c.agreed("ciphers", cipherName(s.CipherSuite))
	c.agreed("versions", versionName(s.Version))
	c.agreed("curves", groupName(s.CurveID))
	c.agreed("sigalgs", signature(s))
}

// failed counts why there is none.
func (c *counts) failed(v *verdict, noCertificate, counts bool) {
	switch {
	case noCertificate:
		c.FailNoCert.Inc()
	case v != nil && v.err != nil && v.cause == 0:
	case counts:
		c.ConnectionError.Inc()
	}
}

// judged counts what is wrong with a certificate, also where it is accepted all the same.
func (c *counts) judged(v *verdict) {
	switch v.cause {
	case failedChain:
		c.FailError.Inc()
	case failedSAN:
		c.FailSAN.Inc()
	case failedHash:
		c.FailHash.Inc()
	}
}

// expiry shows until when a certificate is valid.
func (c *counts) expiry(name string, until time.Time) {
	c.scope.Sub("certificate").Sub(name).Gauge("expiration_unix_time_seconds").Set(until.Unix())
}

// signature is the name of the algorithm that the peer has signed with; crypto/tls tells it to nobody, so this looks.
func signature(s *tls.ConnectionState) string {
	v := reflect.ValueOf(s).Elem().FieldByName("testingOnlyPeerSignatureAlgorithm")
	if !v.IsValid() || v.Kind() != reflect.Uint16 {
		return ""
	}
	switch a := tls.SignatureScheme(v.Uint()); a {
	case tls.PKCS1WithSHA256:
		return "rsa_pkcs1_sha256"
	case tls.PKCS1WithSHA384:
		return "rsa_pkcs1_sha384"
	case tls.PKCS1WithSHA512:
		return "rsa_pkcs1_sha512"
	case tls.PKCS1WithSHA1:
		return "rsa_pkcs1_sha1"
	case tls.PSSWithSHA256:
		return "rsa_pss_rsae_sha256"
	case tls.PSSWithSHA384:
		return "rsa_pss_rsae_sha384"
	case tls.PSSWithSHA512:
		return "rsa_pss_rsae_sha512"
	case tls.ECDSAWithP256AndSHA256:
		return "ecdsa_secp256r1_sha256"
	case tls.ECDSAWithP384AndSHA384:
		return "ecdsa_secp384r1_sha384"
	case tls.ECDSAWithP521AndSHA512:
		return "ecdsa_secp521r1_sha512"
	case tls.ECDSAWithSHA1:
		return "ecdsa_sha1"
	case tls.Ed25519:
		return "ed25519"
	}
	return ""
}
