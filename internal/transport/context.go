package transport

import (
	"crypto/sha256"
	"errors"
	"fmt"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/logfile"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// Env is what a context is made for.
type Env struct {
	Scope   stats.Scope // listener.<address>. or cluster.<name>.
	Secrets *Secrets
	Files   *logfile.Set // for key_log
	// Warm, if there is one, is called by a context that waits for secrets of a control plane: ready is called on the control loop when
	// they are there, or have not come in time.
	Warm func() (ready func())
}

// context is what the contexts of servers and clients have in common (CommonTlsContext).
type context struct {
	// set at construction
	env        Env
	counts     *counts
	number     uint64 // of the making
	params     params
	static     []*identity
	dynamic    []*secret
	validation *tlsv3.CertificateValidationContext // the only one, or the default of a combined one
	trust      *secret                             // nil: validation is all
	tickets    *secret
	alpn       []string
	keyLog     *keyLog
	apply      func(m *secretsNow) error
	follows    []*secret // all that come from elsewhere
	// owned by the control loop
	current *secretsNow
	warm    func() // to be called when all of them have been answered for; nil: nobody waits
}

// secretsNow is what a context works with until a secret changes.
type secretsNow struct {
	ids       []*identity
	validator *validator
	tickets   [][32]byte
}

// keyLog writes the secrets of some connections to a file (TlsKeyLog).
type keyLog struct {
	file          *logfile.File
	local, remote *match.CIDRs
}

func (c *context) parse(p *tlsv3.CommonTlsContext, server bool, env Env) (err error) {
	c.env = env
	factory := "client_ssl_socket_factory"
	if server {
		factory = "server_ssl_socket_factory"
	}
	if err := refuseCommon(p); err != nil {
		return err
	}
	if c.params, err = parseParams(p.GetTlsParams(), defaultParams(server)); err != nil {
		return fmt.Errorf("tls_params.%w", err)
	}
	if err := c.parseCertificates(p); err != nil {
		return err
	}
	if err := c.parseValidation(p); err != nil {
		return err
	}
	if c.alpn, err = parseALPN(p.GetAlpnProtocols()); err != nil {
		return err
	}
	if c.keyLog, err = newKeyLog(p.GetKeyLog(), env.Files); err != nil {
		return fmt.Errorf("key_log.%w", err)
	}
	c.counts = newCounts(env.Scope, factory)
	return nil
}

func refuseCommon(p *tlsv3.CommonTlsContext) error {
	const plugin = "certificate providers are not supported; use tls_certificates or SDS"
	for _, r := range []struct {
		set        bool
		field, why string
	}{
		{p.GetTlsCertificateProviderInstance() != nil, "tls_certificate_provider_instance", plugin},
		{p.GetTlsCertificateCertificateProvider() != nil, "tls_certificate_certificate_provider", plugin},
		{p.GetTlsCertificateCertificateProviderInstance() != nil, "tls_certificate_certificate_provider_instance", plugin},
		{p.GetValidationContextCertificateProvider() != nil, "validation_context_certificate_provider", plugin},
		{p.GetValidationContextCertificateProviderInstance() != nil, "validation_context_certificate_provider_instance", plugin},
		{p.GetCombinedValidationContext().GetValidationContextCertificateProvider() != nil, "combined_validation_context.validation_context_certificate_provider", plugin},
		{p.GetCombinedValidationContext().GetValidationContextCertificateProviderInstance() != nil, "combined_validation_context.validation_context_certificate_provider_instance", plugin},
		{p.GetCustomTlsCertificateSelector() != nil, "custom_tls_certificate_selector", "didn't find a registered implementation for '" + p.GetCustomTlsCertificateSelector().GetName() + "'"},
		{p.GetCustomHandshaker() != nil, "custom_handshaker", "didn't find a registered implementation for '" + p.GetCustomHandshaker().GetName() + "'"},
	} {
		if r.set {
			return fmt.Errorf("%s: %s", r.field, r.why)
		}
	}
	return nil
}

func parseALPN(l []string) ([]string, error) {
	for i, p := range l {
		if p == "" || len(p) > 255 {
			return nil, fmt.Errorf("alpn_protocols[%d]: Invalid ALPN protocol string", i)
		}
	}
	return l, nil
}

// parseCertificates loads those that are given and finds those that have names. If there are both, SDS is ignored, as the API says.
func (c *context) parseCertificates(p *tlsv3.CommonTlsContext) error {
	for i, t := range p.GetTlsCertificates() {
		id, err := loadIdentity(t)
		if err != nil {
			return fmt.Errorf("tls_certificates[%d].%w", i, err)
		}
		id.name = unnamed("cert", "")
		c.static = append(c.static, id)
	}
	if len(c.static) > 0 {
		return nil
	}
	for i, s := range p.GetTlsCertificateSdsSecretConfigs() {
		d, err := c.env.Secrets.find(s, certificateKind, c)
		if err != nil {
			return fmt.Errorf("tls_certificate_sds_secret_configs[%d].%w", i, err)
		}
		c.dynamic = append(c.dynamic, d)
	}
	return nil
}

func (c *context) parseValidation(p *tlsv3.CommonTlsContext) (err error) {
	path, sds := "validation_context_sds_secret_config", p.GetValidationContextSdsSecretConfig()
	c.validation = p.GetValidationContext()
	if combined := p.GetCombinedValidationContext(); combined != nil {
		c.validation = combined.GetDefaultValidationContext()
		path, sds = "combined_validation_context.validation_context_sds_secret_config", combined.GetValidationContextSdsSecretConfig()
	}
	if sds != nil {
		if c.trust, err = c.env.Secrets.find(sds, validationKind, c); err != nil {
			return fmt.Errorf("%s.%w", path, err)
		}
	}
	return nil
}

// errNotReady is a secret that has not come.
var errNotReady = errors.New("a secret is not there yet")

// load brings together what the secrets say now. errNotReady: one of them has said nothing yet.
func (c *context) load() (*secretsNow, error) {
	m := &secretsNow{ids: c.static}
	for _, d := range c.dynamic {
		if d.secret == nil {
			return nil, errNotReady
		}
		id, err := d.loaded()
		if err != nil {
			return nil, fmt.Errorf("%s.%w", d.key.name, err)
		}
		m.ids = append(m.ids, id)
	}
	v, name := c.validation, ""
	if c.trust != nil {
		if c.trust.secret == nil {
			return nil, errNotReady
		}
		name = c.trust.key.name
		v = proto.CloneOf(c.validation)
		if v == nil {
			v = &tlsv3.CertificateValidationContext{}
		}
		proto.Merge(v, c.trust.secret.GetValidationContext())
	}
	var err error
	if m.validator, err = newValidatorWith(v, c.trust.anchored()); err != nil {
		return nil, fmt.Errorf("validation_context.%w", err)
	}
	if m.validator != nil {
		m.validator.name = unnamed("ca_cert", name)
	}
	if c.tickets != nil {
		if c.tickets.secret == nil {
			return nil, errNotReady
		}
		if m.tickets, err = ticketKeys(c.tickets.secret.GetSessionTicketKeys()); err != nil {
			return nil, fmt.Errorf("session_ticket_keys.%w", err)
		}
	}
	return m, nil
}

// begin is the first update; secrets that are not there yet are no error.
func (c *context) begin() error {
	s := c.env.Secrets
	m, err := c.load()
	if err == nil {
		err = c.take(m)
	}
	if err != nil && !errors.Is(err, errNotReady) {
		s.release(c)
		return err
	}
	for other := range s.contexts {
		c.number = max(c.number, other.number+1)
	}
	s.contexts[c] = struct{}{}
	if c.env.Warm != nil && !c.answered() {
		c.warm = c.env.Warm()
	}
	return nil
}

// update is called when a secret has changed. On error what was before stays in force.
func (c *context) update() error {
	m, err := c.load()
	if errors.Is(err, errNotReady) {
		return nil
	}
	if err == nil {
		err = c.take(m)
	}
	if err == nil {
		c.counts.factory.Updates.Inc()
	}
	return err
}

func (c *context) take(m *secretsNow) error {
	if err := c.apply(m); err != nil {
		return err
	}
	c.current = m
	for _, id := range m.ids {
		c.counts.expiry(id.name, id.leaf.NotAfter)
	}
	if v := m.validator; v != nil && len(v.roots) > 0 {
		c.counts.expiry(v.name, v.roots[0].NotAfter)
	}
	return nil
}

func (c *context) use() Use {
	u := Use{}
	if c.current == nil {
		return u
	}
	if v := c.current.validator; v != nil {
		for _, r := range v.roots {
			u.CA = append(u.CA, Certificate{Path: v.path, Leaf: r})
		}
	}
	for _, id := range c.current.ids {
		k := Certificate{Path: id.path, Leaf: id.leaf}
		if id.staple != nil {
			k.Staple = &Staple{id.staple.ThisUpdate, id.staple.NextUpdate}
		}
		u.Chain = append(u.Chain, k)
	}
	return u
}

func newKeyLog(p *tlsv3.TlsKeyLog, files *logfile.Set) (*keyLog, error) {
	if p == nil {
		return nil, nil
	}
	k := &keyLog{}
	var err error
	if len(p.GetLocalAddressRange()) > 0 {
		if k.local, err = match.CompileCIDRs(p.GetLocalAddressRange()); err != nil {
			return nil, fmt.Errorf("local_address_range: %w", err)
		}
	}
	if len(p.GetRemoteAddressRange()) > 0 {
		if k.remote, err = match.CompileCIDRs(p.GetRemoteAddressRange()); err != nil {
			return nil, fmt.Errorf("remote_address_range: %w", err)
		}
	}
	if k.file, err = files.Open(p.GetPath()); err != nil {
		return nil, fmt.Errorf("path: %w", err)
	}
	return k, nil
}

// wants says whether a connection is logged.
func (k *keyLog) wants(w *wire) bool {
	return k != nil && (k.local == nil || k.local.Contains(w.raw.Local().Addr())) && (k.remote == nil || k.remote.Contains(w.raw.Remote().Addr()))
}

// keyLines writes to the key log on the worker of a connection.
type keyLines struct {
	*logfile.File

	worker int
}

func (k keyLines) Write(p []byte) (int, error) {
	k.File.Write(k.worker, p)
	return len(p), nil
}

const ticketKeyLength = 80

// ticketKeys reads keys for session tickets: 80 bytes each in BoringSSL's format. crypto/tls has keys of 32 bytes, which are derived,
// so that proxies of this kind resume each other's sessions.
func ticketKeys(p *tlsv3.TlsSessionTicketKeys) ([][32]byte, error) {
	var l [][32]byte
	for i, s := range p.GetKeys() {
		b, err := material(s)
		switch {
		case err != nil:
			return nil, fmt.Errorf("keys[%d].%w", i, err)
		case len(b) != ticketKeyLength:
			return nil, fmt.Errorf("keys[%d]: Incorrect TLS session ticket key length. Length %d, expected length %d.", i, len(b), ticketKeyLength)
		}
		l = append(l, sha256.Sum256(b))
	}
	return l, nil
}
