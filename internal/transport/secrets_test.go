package transport

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"go.uber.org/zap"

	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
)

// files is a folder that secrets come from, and a control loop that the test runs.
type files struct {
	t       *testing.T
	dir     string
	posts   chan func()
	secrets *Secrets
	store   *stats.Store
}

func newFiles(t *testing.T) *files {
	t.Helper()
	f := &files{t: t, dir: t.TempDir(), posts: make(chan func(), 64), store: &stats.Store{}}
	f.secrets = NewSecrets(func(g func()) bool { f.posts <- g; return true }, zap.NewNop(), f.store.Root())
	t.Cleanup(f.secrets.Close)
	return f
}

// put moves a file into its place.
func (f *files) put(name, text string) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// settle runs what was posted until ok, for a second.
func (f *files) settle(ok func() bool) bool {
	late := time.After(time.Second)
	for !ok() {
		select {
		case g := <-f.posts:
			g()
		case <-late:
			return ok()
		}
	}
	return true
}

// sds is a file with the certificate of c.
func (f *files) sds(name string, c *pkitest.Certificate) string {
	f.t.Helper()
	return f.put(name, fmt.Sprintf(`{"version_info": "v", "resources": [{"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
		"name": "cert", "tls_certificate": {"certificate_chain": {"inline_string": %q}, "private_key": {"inline_string": %q}}}]}`, c.Chain(), c.KeyPEM(f.t)))
}

func fromFile(path string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: "cert", SdsConfig: &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{
		PathConfigSource: &corev3.PathConfigSource{Path: path},
	}}}
}

func (f *files) env() Env {
	return Env{Scope: f.store.Root().Sub("listener").Sub("x"), Secrets: f.secrets}
}

func (f *files) server(c *tlsv3.CommonTlsContext) (*Server, error) {
	return NewServer(&tlsv3.DownstreamTlsContext{CommonTlsContext: c}, f.env())
}

// shown is the subject of the certificate that a server shows now.
func shown(s *Server) string {
	st := s.state.Load()
	if st == nil {
		return "none"
	}
	return st.certs[0].id.leaf.Subject.CommonName
}

func TestRotation(t *testing.T) {
	f := newFiles(t)
	ca := pkitest.Authority(t, "ca")
	path := f.sds("sds.json", ca.Issue(t, pkitest.Leaf{Name: "one"}))
	s, err := f.server(&tlsv3.CommonTlsContext{TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{fromFile(path)}})
	if err != nil || shown(s) != "one" {
		t.Fatal(err)
	}
	f.sds("sds.json", ca.Issue(t, pkitest.Leaf{Name: "two"}))
	if !f.settle(func() bool { return shown(s) == "two" }) {
		t.Error("the new certificate is not used within a second")
	}
	sds := stats.New[sdsStats](f.store.Root().Sub("sds").Sub("cert"))
	for _, bad := range []string{"not JSON", "{}", `{"resources": [{"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "name": "other"}]}`} {
		before := sds.Rejected.Value()
		f.put("sds.json", bad)
		if !f.settle(func() bool { return sds.Rejected.Value() > before }) || shown(s) != "two" {
			t.Errorf("%s: %d rejected, shown %s", bad, sds.Rejected.Value(), shown(s))
		}
	}
	f.sds("sds.json", ca.Issue(t, pkitest.Leaf{Name: "three"}))
	if !f.settle(func() bool { return shown(s) == "three" }) {
		t.Error("a good certificate after bad ones is not used")
	}
	if days, ok := f.secrets.FirstExpiry(time.Now()); !ok || days != 0 {
		t.Error(days, ok)
	}
	if u := f.secrets.InUse(); len(u) != 1 || len(u[0].Chain) != 1 || u[0].Chain[0].Path != "<inline>" {
		t.Errorf("%+v", u)
	}
	s.Close()
	if len(f.secrets.InUse()) != 0 || len(f.secrets.Dynamic()) != 0 {
		t.Error("a closed context is still known")
	}
}

// TestRotationOfFiles: the secret stays as it is, and the files that it names are replaced, one after the other.
func TestRotationOfFiles(t *testing.T) {
	f := newFiles(t)
	one, two := pkitest.Authority(t, "one"), pkitest.Authority(t, "two")
	f.put("tls.crt", one.Chain())
	f.put("tls.key", one.KeyPEM(t))
	other := newFiles(t) // the secret is in a folder of its own
	path := other.put("sds.json", fmt.Sprintf(`{"resources": [{"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
		"name": "cert", "tls_certificate": {"certificate_chain": {"filename": %q}, "private_key": {"filename": %q}}}]}`,
		filepath.Join(f.dir, "tls.crt"), filepath.Join(f.dir, "tls.key")))
	s, err := f.server(&tlsv3.CommonTlsContext{TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{fromFile(path)}})
	if err != nil || shown(s) != "one" {
		t.Fatal(err)
	}
	defer s.Close()
	f.put("tls.crt", two.Chain()) // does not fit the key yet
	f.put("tls.key", two.KeyPEM(t))
	if !f.settle(func() bool { return shown(s) == "two" }) {
		t.Error("the new files are not used within a second")
	}
}

func TestNotReady(t *testing.T) {
	f := newFiles(t)
	path := f.put("sds.json", "{}")
	s, err := f.server(&tlsv3.CommonTlsContext{TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{fromFile(path)}})
	if err != nil || shown(s) != "none" {
		t.Fatal(err)
	}
	defer s.Close()
	if _, _, err := s.Accept(nil, nil); err == nil || s.counts.factory.DownstreamNotReady.Value() != 1 {
		t.Error(err)
	}
	f.sds("sds.json", pkitest.Authority(t, "late"))
	if !f.settle(func() bool { return shown(s) == "late" }) {
		t.Error("a late secret is not used")
	}
}

func inline(text string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: text}}
}

func TestRefused(t *testing.T) {
	f := newFiles(t)
	ca := pkitest.Authority(t, "ca")
	good := &tlsv3.TlsCertificate{CertificateChain: inline(ca.Chain()), PrivateKey: inline(ca.KeyPEM(t))}
	trusted := &tlsv3.CertificateValidationContext{TrustedCa: inline(ca.Chain())}
	with := func(change func(c *tlsv3.CommonTlsContext)) *tlsv3.CommonTlsContext {
		c := &tlsv3.CommonTlsContext{TlsCertificates: []*tlsv3.TlsCertificate{good}}
		change(c)
		return c
	}
	validation := func(change func(v *tlsv3.CertificateValidationContext)) *tlsv3.CommonTlsContext {
		v := &tlsv3.CertificateValidationContext{TrustedCa: trusted.GetTrustedCa()}
		change(v)
		return with(func(c *tlsv3.CommonTlsContext) {
			c.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: v}
		})
	}
	for want, c := range map[string]*tlsv3.CommonTlsContext{
		"No TLS certificates found for server context":                {},
		"tls_certificates[0].private_key: Failed to load private key": {TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: inline(ca.Chain()), PrivateKey: inline("x")}}},
		"KEY_VALUES_MISMATCH": {TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: inline(ca.Chain()), PrivateKey: inline(pkitest.Authority(t, "x").KeyPEM(t))}}},
		"tls_certificates[0].certificate_chain.filename: Invalid path: /none": {TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: "/none"}}}}},
		"environment_variable: Environment variable doesn't exist":            {TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: &corev3.DataSource{Specifier: &corev3.DataSource_EnvironmentVariable{EnvironmentVariable: "NO_SUCH"}}}}},
		"tls_params.cipher_suites[0]: Failed to initialize cipher suites": with(func(c *tlsv3.CommonTlsContext) {
			c.TlsParams = &tlsv3.TlsParameters{CipherSuites: []string{"PSK-AES128-CBC-SHA"}}
		}),
		"tls_params.ecdh_curves[0]: Failed to initialize ECDH curves": with(func(c *tlsv3.CommonTlsContext) { c.TlsParams = &tlsv3.TlsParameters{EcdhCurves: []string{"X448"}} }),
		"tls_params.signature_algorithms": with(func(c *tlsv3.CommonTlsContext) {
			c.TlsParams = &tlsv3.TlsParameters{SignatureAlgorithms: []string{"ed25519"}}
		}),
		"tls_params.tls_minimum_protocol_version": with(func(c *tlsv3.CommonTlsContext) {
			c.TlsParams = &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_2}
		}),
		"custom_handshaker": with(func(c *tlsv3.CommonTlsContext) { c.CustomHandshaker = &corev3.TypedExtensionConfig{Name: "x"} }),
		"validation_context.trusted_ca: Failed to load trusted CA":   validation(func(v *tlsv3.CertificateValidationContext) { v.TrustedCa = inline("nothing") }),
		"validation_context.crl: Failed to load CRL":                 validation(func(v *tlsv3.CertificateValidationContext) { v.Crl = inline("nothing") }),
		"verify_certificate_hash[0]: Invalid hex-encoded SHA-256":    validation(func(v *tlsv3.CertificateValidationContext) { v.VerifyCertificateHash = []string{"zz"} }),
		"verify_certificate_spki[0]: Invalid base64-encoded":         validation(func(v *tlsv3.CertificateValidationContext) { v.VerifyCertificateSpki = []string{"zz"} }),
		"tls_certificate_sds_secret_configs[0].name: Unknown static": {TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: "none"}}},
		"there is no control plane to ask":                           {TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: "x", SdsConfig: &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{}}}}},
		"paths must refer to an existing path":                       {TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{fromFile("/no/such/file")}},
	} {
		s, err := f.server(c)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "common_tls_context") {
			t.Errorf("want %s\n got %v", want, err)
		}
		if s != nil {
			s.Close()
		}
	}
	if len(f.secrets.contexts) != 0 || len(f.secrets.dynamic) != 0 {
		t.Error("contexts that were refused are still known")
	}
}

func TestStaticSecrets(t *testing.T) {
	f := newFiles(t)
	ca := pkitest.Authority(t, "static")
	secret := &tlsv3.Secret{Name: "cert", Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(ca.Chain()), PrivateKey: inline(ca.KeyPEM(t))}}}
	if err := f.secrets.Add([]*tlsv3.Secret{secret}); err != nil {
		t.Fatal(err)
	}
	s, err := f.server(&tlsv3.CommonTlsContext{TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: "cert"}}})
	if err != nil || shown(s) != "static" {
		t.Fatal(err)
	}
	s.Close()
	if err := f.secrets.Add([]*tlsv3.Secret{secret}); err == nil || !strings.HasPrefix(err.Error(), "[0]: Duplicate static") {
		t.Error(err)
	}
	if r := Redacted(f.secrets.Static()[0]); strings.Contains(r.String(), "PRIVATE KEY") || !strings.Contains(r.String(), "[redacted]") {
		t.Error("the key is shown")
	}
}

func TestBinaryResponse(t *testing.T) {
	a := []byte("\x0a\x01u\x12\x01v") // an Any
	b := append([]byte("\x0a\x02v1\x12\x06"), a...)
	version, resources, err := binaryResponse(append(b, "\x22\x01t"...)) // and a type_url
	if err != nil || version != "v1" || len(resources) != 1 || resources[0].GetTypeUrl() != "u" || string(resources[0].GetValue()) != "v" {
		t.Error(version, resources, err)
	}
	for _, bad := range []string{"\x0a\x05v", "\x12\x01\xff", "\xff"} {
		if _, _, err := binaryResponse([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
