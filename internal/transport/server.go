package transport

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// Server is the downstream side of envoy.transport_sockets.tls. One value serves all workers; its secrets change below it.
type Server struct {
	context

	// set at construction
	require    bool
	noTickets  bool
	timeout    time.Duration // of sessions; 0: that of crypto/tls, 7 days
	policy     tlsv3.DownstreamTlsContext_OcspStaplePolicy
	fullScan   bool
	staticKeys [][32]byte
	// atomic
	state atomic.Pointer[serverState]
}

// serverState is what handshakes work with; it does not change.
type serverState struct {
	base      *tls.Config // what every handshake begins with; it has the ticket keys
	certs     []*serverCert
	exact     map[string][]*serverCert
	wild      map[string][]*serverCert // by what follows the first label: ".example.org"
	validator *validator
	asks      bool // for a client certificate
}

// serverCert is a certificate with the configurations that use it.
type serverCert struct {
	id      *identity
	config  *tls.Config
	without *tls.Config // without ALPN: nothing in common with the client
}

// NewServer builds a downstream context. Errors begin with the field. Close ends it.
func NewServer(p *tlsv3.DownstreamTlsContext, env Env) (*Server, error) {
	s := &Server{
		require: p.GetRequireClientCertificate().GetValue(), policy: p.GetOcspStaplePolicy(),
		noTickets: p.GetDisableStatelessSessionResumption(), timeout: p.GetSessionTimeout().AsDuration().Truncate(time.Second),
		fullScan: p.GetFullScanCertsOnSniMismatch().GetValue(),
	}
	s.apply = s.install
	if err := s.build(p, env); err != nil {
		env.Secrets.release(&s.context)
		return nil, err
	}
	return s, nil
}

func (s *Server) build(p *tlsv3.DownstreamTlsContext, env Env) error {
	c := p.GetCommonTlsContext()
	if err := s.parse(c, true, env); err != nil {
		return fmt.Errorf("common_tls_context.%w", err)
	}
	switch {
	case p.GetRequireSni().GetValue():
		return errors.New("require_sni: not implemented, in Envoy neither; use server_names in filter_chain_match")
	case len(c.GetTlsCertificates())+len(c.GetTlsCertificateSdsSecretConfigs()) == 0:
		return errors.New("common_tls_context: No TLS certificates found for server context")
	}
	var err error
	if k := p.GetSessionTicketKeys(); k != nil {
		if s.staticKeys, err = ticketKeys(k); err != nil {
			return fmt.Errorf("session_ticket_keys.%w", err)
		}
	}
	if k := p.GetSessionTicketKeysSdsSecretConfig(); k != nil {
		if s.tickets, err = env.Secrets.find(k, ticketKind, &s.context); err != nil {
			return fmt.Errorf("session_ticket_keys_sds_secret_config.%w", err)
		}
	}
	if err := s.begin(); err != nil {
		return fmt.Errorf("common_tls_context.%w", err)
	}
	return nil
}

// Close ends what follows secrets. Connections go on.
func (s *Server) Close() { s.env.Secrets.release(&s.context) }

// install makes m what handshakes work with from now on.
func (s *Server) install(m *secretsNow) error {
	st := &serverState{validator: m.validator, exact: map[string][]*serverCert{}, wild: map[string][]*serverCert{}}
	st.base = &tls.Config{SessionTicketsDisabled: s.noTickets, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) { return s.configFor(st, h) }}
	s.params.apply(st.base)
	if keys := slices.Concat(m.tickets, s.staticKeys); len(keys) > 0 {
		st.base.SetSessionTicketKeys(keys)
	}
	for i, id := range m.ids {
		if s.policy == tlsv3.DownstreamTlsContext_MUST_STAPLE && id.staple == nil {
			return errors.New("tls_certificates: OCSP response is required for this certificate because of ocsp_staple_policy MUST_STAPLE")
		}
		if id.must && id.staple == nil {
			return errors.New("tls_certificates: OCSP response is required for must-staple certificate")
		}
		c, err := s.certFor(st, id)
		if err != nil {
			return fmt.Errorf("tls_certificates[%d].%w", i, err)
		}
		st.certs = append(st.certs, c)
		if err := st.enter(c); err != nil {
			return err
		}
	}
	s.state.Store(st)
	return nil
}

// enter makes a certificate known under its names.
func (st *serverState) enter(c *serverCert) error {
	for _, n := range c.id.names {
		to, key := st.exact, n
		if strings.HasPrefix(n, "*.") {
			to, key = st.wild, n[1:]
		}
		if slices.ContainsFunc(to[key], func(o *serverCert) bool { return o.id.ecdsa == c.id.ecdsa && o != c }) && len(st.certs) > 1 {
			continue // Envoy: the first of a kind counts
		}
		to[key] = append(to[key], c)
	}
	return nil
}

func (s *Server) certFor(st *serverState, id *identity) (*serverCert, error) {
	p, err := parseParams(id.params, s.params)
	if err != nil {
		return nil, fmt.Errorf("tls_params.%w", err)
	}
	c := &tls.Config{SessionTicketsDisabled: s.noTickets, NextProtos: s.alpn, DynamicRecordSizingDisabled: true}
	p.apply(c)
	s.demand(st, c)
	s.limitSessions(st, c)
	if id.slow {
		c.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return id.awaited(h.Conn.(*wire).w), nil }
	} else {
		c.Certificates = []tls.Certificate{id.cert}
	}
	without := c.Clone()
	without.NextProtos = nil
	return &serverCert{id, c, without}, nil
}

// demand asks for a client certificate where there is something to hold it to.
func (s *Server) demand(st *serverState, c *tls.Config) {
	asks, requires := st.validator.demand()
	if !asks {
		return // Envoy: require_client_certificate means nothing without something to hold a certificate to
	}
	st.asks = true
	c.ClientAuth = tls.RequestClientCert
	if requires || s.require {
		c.ClientAuth = tls.RequireAnyClientCert
	}
	if v := st.validator; v != nil && len(v.roots) > 0 && !v.hideCAs {
		c.ClientCAs = x509.NewCertPool()
		for _, r := range v.roots {
			c.ClientCAs.AddCert(r)
		}
	}
}

// limitSessions lets sessions end at session_timeout: tickets carry the time of their making.
func (s *Server) limitSessions(st *serverState, c *tls.Config) {
	if s.timeout <= 0 || s.noTickets {
		return
	}
	c.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		ss.Extra = append(ss.Extra, binary.BigEndian.AppendUint64(nil, uint64(time.Now().Unix())))
		return st.base.EncryptTicket(cs, ss)
	}
	c.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		ss, err := st.base.DecryptTicket(ticket, cs)
		if err != nil || ss == nil || len(ss.Extra) == 0 || len(ss.Extra[len(ss.Extra)-1]) != 8 {
			return nil, err
		}
		made := time.Unix(int64(binary.BigEndian.Uint64(ss.Extra[len(ss.Extra)-1])), 0)
		if time.Since(made) > s.timeout {
			return nil, nil
		}
		ss.Extra = ss.Extra[:len(ss.Extra)-1]
		return ss, nil
	}
}

// session is a handshake under way.
type session struct {
	counts  *counts
	id      *identity
	verdict *verdict
}

// configFor chooses the certificate, and what goes with it, for a ClientHello. It runs on the connection's fiber.
func (s *Server) configFor(st *serverState, h *tls.ClientHelloInfo) (*tls.Config, error) {
	w := h.Conn.(*wire)
	c, err := s.choose(st, h)
	if err != nil {
		return nil, err
	}
	w.session.id = c.id
	config := c.config
	if len(s.alpn) > 0 && !slices.ContainsFunc(s.alpn, func(p string) bool { return slices.Contains(h.SupportedProtos, p) }) {
		config = c.without
	}
	staple := len(c.id.cert.OCSPStaple) > 0 && c.id.expired(time.Now())
	if !st.asks && !staple && !s.keyLog.wants(w) {
		return config, nil
	}
	config = config.Clone()
	if st.asks {
		config.VerifyConnection = func(cs tls.ConnectionState) error {
			return w.session.verify(st.validator, &cs, x509.ExtKeyUsageClientAuth, nil)
		}
	}
	if staple {
		bare := c.id.cert
		bare.OCSPStaple = nil
		config.Certificates, config.GetCertificate = []tls.Certificate{bare}, nil
	}
	if s.keyLog.wants(w) {
		config.KeyLogWriter = keyLines{s.keyLog.file, w.w.ID}
	}
	return config, nil
}

// verify judges the certificate of the peer, if there is one.
func (h *session) verify(v *validator, cs *tls.ConnectionState, usage x509.ExtKeyUsage, want []string) error {
	if len(cs.PeerCertificates) == 0 {
		return nil
	}
	if k := cs.PeerCertificates[0].KeyUsage; k != 0 && k&x509.KeyUsageDigitalSignature == 0 {
		return errKeyUsage // as BoringSSL, before anything else
	}
	if v == nil {
		v = &validator{}
	}
	h.verdict = v.verify(cs.PeerCertificates, usage, want, time.Now())
	h.counts.judged(h.verdict)
	return h.verdict.err
}

var errKeyUsage = errors.New("tls: the key usage of the certificate forbids digital signatures")

var errStaple = errors.New("tls: no certificate has a valid OCSP response")

// choose is Envoy's choice: by server name, then by key type; with a client that knows ECDSA, an ECDSA certificate before another.
func (s *Server) choose(st *serverState, h *tls.ClientHelloInfo) (*serverCert, error) {
	c := s.candidate(st, h)
	if c == nil {
		s.counts.StapleFailed.Inc()
		return nil, errStaple
	}
	if slices.Contains(h.Extensions, 5) { // status_request
		s.counts.StapleRequests.Inc()
		if c.id.staple != nil && !c.id.expired(time.Now()) {
			s.counts.StapleResponses.Inc()
		} else {
			s.counts.StapleOmitted.Inc()
		}
	}
	return c, nil
}

func (s *Server) candidate(st *serverState, h *tls.ClientHelloInfo) *serverCert {
	if len(st.certs) == 1 && s.fit(st.certs[0]) {
		return st.certs[0]
	}
	ecdsa := knowsECDSA(h)
	if h.ServerName != "" {
		name := strings.ToLower(h.ServerName)
		if c := s.preferred(st.exact[name], ecdsa); c != nil {
			return c
		}
		if at := strings.IndexByte(name, '.'); at >= 0 {
			if c := s.preferred(st.wild[name[at:]], ecdsa); c != nil {
				return c
			}
		}
		if !s.fullScan {
			return s.first(st)
		}
	}
	if c := s.preferred(st.certs, ecdsa); c != nil {
		return c
	}
	return s.first(st)
}

func (s *Server) first(st *serverState) *serverCert {
	if s.fit(st.certs[0]) {
		return st.certs[0]
	}
	return nil
}

// preferred is the first certificate of the kind that the client prefers, else the first that it can use.
func (s *Server) preferred(l []*serverCert, ecdsa bool) *serverCert {
	var second *serverCert
	for _, c := range l {
		switch {
		case !s.fit(c):
		case c.id.ecdsa == ecdsa:
			return c
		case ecdsa && second == nil:
			second = c
		}
	}
	return second
}

// fit says whether the staple, or its absence, allows a certificate to be used.
func (s *Server) fit(c *serverCert) bool {
	return s.policy == tlsv3.DownstreamTlsContext_LENIENT_STAPLING || !c.id.expired(time.Now())
}

// knowsECDSA says whether a client takes an ECDSA certificate.
func knowsECDSA(h *tls.ClientHelloInfo) bool {
	scheme := slices.ContainsFunc(h.SignatureSchemes, func(s tls.SignatureScheme) bool {
		return s == tls.ECDSAWithP256AndSHA256 || s == tls.ECDSAWithP384AndSHA384 || s == tls.ECDSAWithP521AndSHA512 || s == tls.ECDSAWithSHA1
	})
	if slices.Contains(h.SupportedVersions, tls.VersionTLS13) {
		return scheme
	}
	return slices.ContainsFunc(h.CipherSuites, func(id uint16) bool { return strings.HasPrefix(cipherName(id), "ECDHE-ECDSA-") }) &&
		slices.Contains(h.SupportedCurves, tls.CurveP256)
}

// Accept shakes hands with a client, on the fiber of the connection. What is known of the peer is returned also when it fails.
func (s *Server) Accept(w *fiber.Worker, raw fiber.Conn) (fiber.Conn, *Info, error) {
	st := s.state.Load()
	if st == nil {
		s.counts.factory.DownstreamNotReady.Inc()
		return nil, nil, &Error{Reason: "TLS_error:Secret is not supplied by SDS", Err: errNotReady}
	}
	c := newConn(w, raw)
	c.wire.session = session{counts: s.counts}
	c.tls = tls.Server(&c.wire, st.base)
	return c.shake()
}

// shake runs the handshake and tells what has come of it.
func (c *conn) shake() (fiber.Conn, *Info, error) {
	h := &c.wire.session
	err := c.handshake()
	state := c.tls.ConnectionState()
	info := newInfo(&state, h.id, h.verdict)
	if err == nil {
		h.counts.done(&state)
		if len(state.PeerCertificates) == 0 {
			h.counts.NoCertificate.Inc()
		}
		c.wire.session = session{}
		return c, info, nil
	}
	reason, counts := words(err)
	h.counts.failed(h.verdict, strings.Contains(reason, "PEER_DID_NOT_RETURN_A_CERTIFICATE"), counts)
	c.shut()
	return nil, info, &Error{Reason: reason, Err: err}
}

// Error is a handshake that has failed.
type Error struct {
	Reason string // in Envoy's words; empty where it has none, as for a connection that the peer closes
	Err    error
}

func (e *Error) Error() string {
	if e.Reason != "" {
		return e.Reason
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
