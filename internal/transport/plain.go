package transport

import (
	stdctx "context"
	"crypto/tls"
	"net"
)

// Dial shakes hands with a server on an ordinary goroutine, for clients of the proxy's own: Connect is for fibers. On error raw stays open.
func (c *Client) Dial(ctx stdctx.Context, raw net.Conn, o *Wish) (net.Conn, error) {
	st := c.state.Load()
	if st == nil {
		c.counts.factory.UpstreamNotReady.Inc()
		return nil, &Error{Reason: "TLS_error:Secret is not supplied by SDS", Err: errNotReady}
	}
	h := &session{counts: c.counts, id: st.id}
	config := c.configFor(st, o, h)
	if id := st.id; id != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &id.cert, nil }
	}
	t := tls.Client(raw, config)
	err := t.HandshakeContext(ctx)
	if err == nil {
		state := t.ConnectionState()
		h.counts.done(&state)
		return t, nil
	}
	reason, counts := words(err)
	h.counts.failed(h.verdict, false, counts)
	return nil, &Error{Reason: reason, Err: err}
}
