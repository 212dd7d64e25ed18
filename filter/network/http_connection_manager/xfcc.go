package hcm

import (
	"fmt"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

const xfcc = "x-forwarded-client-cert"

// certificateRule says what becomes of x-forwarded-client-cert.
type certificateRule struct {
	how    hcmv3.HttpConnectionManager_ForwardClientCertDetails
	fields *hcmv3.HttpConnectionManager_SetCurrentClientCertDetails
	tree   *match.Tree[*certificateRule] // chooses another rule; nil: there is this one only
}

func parseCertificateRule(p *hcmv3.HttpConnectionManager, env filter.Env) (*certificateRule, error) {
	r := &certificateRule{how: p.GetForwardClientCertDetails(), fields: p.GetSetCurrentClientCertDetails()}
	m := p.GetForwardClientCertMatcher()
	if m == nil {
		return r, nil
	}
	var err error
	r.tree, err = match.CompileTree(m, match.TreeEnv[*certificateRule]{Runtime: env.Runtime, Action: func(c *xdscorev3.TypedExtensionConfig) (*certificateRule, error) {
		a := &hcmv3.HttpConnectionManager_ForwardClientCertConfig{}
		if err := c.GetTypedConfig().UnmarshalTo(a); err != nil {
			return nil, fmt.Errorf("didn't find a registered implementation for '%s' with type URL: '%s'", c.GetName(), c.GetTypedConfig().GetTypeUrl())
		}
		return &certificateRule{how: a.GetForwardClientCertDetails(), fields: a.GetSetCurrentClientCertDetails()}, nil
	}})
	if err != nil {
		return nil, fmt.Errorf("forward_client_cert_matcher.%w", err)
	}
	return r, nil
}

// certificate treats x-forwarded-client-cert as forward_client_cert_details says.
func (x *exchange) certificate() {
	h, rule := &x.Request.Header, x.cfg.request.certificate
	if rule.tree != nil {
		if r, ok := rule.tree.Match(match.Data{Conn: x.Info.Conn, Stream: &x.Stream.Stream, Draw: x.Draw}); ok {
			rule = r
		}
	}
	if rule.how == hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY {
		return
	}
	if t := x.Info.Conn.TLS; rule.how == hcmv3.HttpConnectionManager_SANITIZE || t == nil || t.PeerFingerprint() == "" {
		if x.seen.certificate {
			h.Del(xfcc)
		}
		return
	}
	if rule.how == hcmv3.HttpConnectionManager_FORWARD_ONLY {
		return
	}
	v := x.d.peer(rule)
	if old, ok := h.Get(xfcc); ok && rule.how == hcmv3.HttpConnectionManager_APPEND_FORWARD {
		v = x.Text(old, ",", v)
	}
	h.Set(xfcc, v)
}

// peer says who the peer of a mutual TLS connection is; it is put together once for a connection.
func (d *conn) peer(rule *certificateRule) string {
	if d.peerRule != rule {
		d.peerRule, d.peerText = rule, describePeer(d.c.Info.TLS, rule.fields)
	}
	return d.peerText
}

func describePeer(t stream.TLSInfo, want *hcmv3.HttpConnectionManager_SetCurrentClientCertDetails) string {
	var parts []string
	add := func(name, value string) { parts = append(parts, name+"="+value) }
	quoted := func(on bool, name, value string) {
		if on && value != "" {
			add(name, `"`+value+`"`)
		}
	}
	for _, u := range t.LocalURISANs() {
		add("By", u)
	}
	add("Hash", t.PeerFingerprint())
	quoted(want.GetCert(), "Cert", t.Text(stream.PeerCertificate))
	quoted(want.GetChain(), "Chain", t.Text(stream.PeerCertificateChain))
	if want.GetSubject().GetValue() {
		add("Subject", `"`+t.PeerSubject()+`"`)
	}
	if want.GetUri() {
		for _, u := range t.PeerURISANs() {
			add("URI", u)
		}
		if len(t.PeerURISANs()) == 0 {
			add("URI", "")
		}
	}
	if want.GetDns() {
		for _, d := range t.PeerDNSSANs() {
			add("DNS", d)
		}
	}
	quoted(want.GetIssuer(), "Issuer", t.Text(stream.PeerIssuer))
	return strings.Join(parts, ";")
}
