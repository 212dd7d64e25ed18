package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// Client is the upstream side of envoy.transport_sockets.tls. One value serves all workers; its secrets change below it.
type Client struct {
	context

	// set at construction
	sni      string
	hostSNI  bool // auto_host_sni
	checkSNI bool // auto_sni_san_validation
	sessions int  // max_session_keys
	// atomic
	state atomic.Pointer[clientState]
}

// clientState is what handshakes work with; it does not change.
type clientState struct {
	config    *tls.Config
	id        *identity // nil: no client certificate
	validator *validator
}

// Wish is what a connection asks of the handshake beside the configuration.
type Wish struct {
	Host string   // hostname of the host, for auto_host_sni
	SNI  string   // replaces the configured one, if not empty
	SANs []string // replace the configured matchers, if there are any: one of them must be in the certificate
	ALPN []string // replace the configured ones, if there are any
	// FallbackALPN are for contexts that have none.
	FallbackALPN []string
}

// NewClient builds an upstream context. Errors begin with the field. Close ends it.
func NewClient(p *tlsv3.UpstreamTlsContext, env Env) (*Client, error) {
	c := &Client{sni: p.GetSni(), hostSNI: p.GetAutoHostSni(), checkSNI: p.GetAutoSniSanValidation(), sessions: 1}
	if n := p.GetMaxSessionKeys(); n != nil {
		c.sessions = int(n.GetValue())
	}
	c.apply = c.install
	if err := c.build(p, env); err != nil {
		env.Secrets.release(&c.context)
		return nil, err
	}
	return c, nil
}

func (c *Client) build(p *tlsv3.UpstreamTlsContext, env Env) error {
	if err := c.parse(p.GetCommonTlsContext(), false, env); err != nil {
		return fmt.Errorf("common_tls_context.%w", err)
	}
	switch {
	case p.GetAllowRenegotiation():
		return errors.New("allow_renegotiation: is not supported: it is not safe")
	case len(c.static)+len(c.dynamic) > 1:
		return errors.New("common_tls_context: Multiple TLS certificates are not supported for client contexts")
	case len(c.sni) > 255:
		return errors.New("sni: is longer than 255 bytes")
	}
	if err := c.begin(); err != nil {
		return fmt.Errorf("common_tls_context.%w", err)
	}
	if c.checkSNI && (c.validation == nil || c.validation.GetTrustedCa() == nil && c.validation.GetSystemRootCerts() == nil && c.validation.GetCustomValidatorConfig() == nil) && c.trust == nil {
		c.Close()
		return errors.New("auto_sni_san_validation: 'auto_sni_san_validation' was configured without configuring a trusted CA")
	}
	return nil
}

// Close ends what follows secrets. Connections go on.
func (c *Client) Close() { c.env.Secrets.release(&c.context) }

func (c *Client) install(m *secretsNow) error {
	st := &clientState{validator: m.validator}
	st.config = &tls.Config{
		InsecureSkipVerify:          true, //nolint:gosec // VerifyConnection verifies, as the configuration says
		NextProtos:                  c.alpn,
		DynamicRecordSizingDisabled: true,
	}
	c.params.apply(st.config)
	if c.sessions > 0 {
		st.config.ClientSessionCache = tls.NewLRUClientSessionCache(c.sessions)
	}
	if len(m.ids) > 0 {
		st.id = m.ids[0]
	}
	c.state.Store(st)
	return nil
}

// Ready says whether all secrets are there.
func (c *Client) Ready() bool { return c.state.Load() != nil }

// ServerName is the SNI for a wish.
func (c *Client) ServerName(o *Wish) string {
	switch {
	case o.SNI != "":
		return o.SNI
	case c.hostSNI && o.Host != "":
		return o.Host
	}
	return c.sni
}

// Connect shakes hands with a server, on the current fiber. What is known of the peer is returned also when it fails.
func (c *Client) Connect(w *fiber.Worker, raw fiber.Conn, o *Wish) (fiber.Conn, *Info, error) {
	st := c.state.Load()
	if st == nil {
		c.counts.factory.UpstreamNotReady.Inc()
		return nil, nil, &Error{Reason: "TLS_error:Secret is not supplied by SDS", Err: errNotReady}
	}
	n := newConn(w, raw)
	h := &n.wire.session
	*h = session{counts: c.counts, id: st.id}
	config := c.configFor(st, o, h)
	if id := st.id; id != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if id.slow {
				return id.awaited(w), nil
			}
			return &id.cert, nil
		}
	}
	if c.keyLog.wants(&n.wire) {
		config.KeyLogWriter = keyLines{c.keyLog.file, w.ID}
	}
	n.tls = tls.Client(&n.wire, config)
	return n.shake()
}

// configFor is what a handshake is made with, but for the certificate.
func (c *Client) configFor(st *clientState, o *Wish, h *session) *tls.Config {
	config := st.config.Clone()
	config.ServerName = c.ServerName(o)
	switch {
	case len(o.ALPN) > 0:
		config.NextProtos = o.ALPN
	case len(config.NextProtos) == 0:
		config.NextProtos = o.FallbackALPN
	}
	if verify := c.verification(st, o, config.ServerName); verify != nil {
		config.VerifyConnection = func(cs tls.ConnectionState) error { return verify(h, &cs) }
	}
	return config
}

// verification is how the server's certificate is judged; nil: not at all, which is Envoy's default.
func (c *Client) verification(st *clientState, o *Wish, sni string) func(*session, *tls.ConnectionState) error {
	asks, _ := st.validator.demand()
	if !asks && len(o.SANs) == 0 {
		return nil
	}
	want := o.SANs
	if c.checkSNI && sni != "" {
		want = []string{sni}
	}
	return func(h *session, cs *tls.ConnectionState) error {
		return h.verify(st.validator, cs, x509.ExtKeyUsageServerAuth, want)
	}
}
