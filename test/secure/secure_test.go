package secure

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/test/harness"
)

const upstreamTLS = "{name: tls, typed_config: {'@type': " + types + "transport_sockets.tls.v3.UpstreamTlsContext%s}}"

// TestPool keeps connections to a TLS upstream, and resumes the session where it has to make another one.
func TestPool(t *testing.T) {
	var up, unknown *backend
	each(t, func(s *stage) string {
		c := s.ca.Issue(t, pkitest.Leaf{DNS: []string{"up.test"}})
		up, unknown = s.backend("up", c), s.backend("never", c)
		verified := fmt.Sprintf(", sni: up.test, common_tls_context: {validation_context: {trusted_ca: {inline_string: %q}}}", s.ca.Chain())
		return "  listeners:\n" + s.listener("in", "", "{match: {prefix: /never}, route: {cluster: never, prefix_rewrite: /close}}, {match: {prefix: /}, route: {cluster: up}}") + "  clusters:\n" +
			"  - {name: up, transport_socket: " + fmt.Sprintf(upstreamTLS, verified) + ", load_assignment: {cluster_name: up, endpoints: [{lb_endpoints: [" + endpoint(s.path("up"), "") + "]}]}}\n" +
			"  - {name: never, transport_socket: " + fmt.Sprintf(upstreamTLS, verified+", max_session_keys: 0") + ", load_assignment: {cluster_name: never, endpoints: [{lb_endpoints: [" + endpoint(s.path("never"), "") + "]}]}}\n"
	}, func(t *testing.T, s *stage) {
		for range 5 {
			if got := s.Get("in", "/"); got != "200 up" {
				t.Fatal(got)
			}
		}
		if n := up.handshakes.Load(); n != 1 {
			t.Errorf("%d handshakes for requests one after the other", n)
		}
		for range 3 {
			if got := s.Get("in", "/close"); got != "200 up" {
				t.Fatal(got)
			}
			if got := s.Get("in", "/never"); got != "200 never" {
				t.Fatal(got)
			}
		}
		if n, r := up.handshakes.Load(), up.resumed.Load(); n != 3 || r != 2 {
			t.Errorf("%d handshakes, %d of them resumed", n, r)
		}
		if n, r := unknown.handshakes.Load(), unknown.resumed.Load(); n != 3 || r != 0 {
			t.Errorf("%d handshakes, %d resumed without session keys", n, r)
		}
		if n, r := s.Stat("cluster.up.ssl.handshake"), s.Stat("cluster.up.ssl.session_reused"); n != 3 || r != 2 {
			t.Errorf("counted %d handshakes, %d resumed", n, r)
		}
	})
}

// TestTransportSocketMatches chooses the transport socket by the metadata of the host.
func TestTransportSocketMatches(t *testing.T) {
	var secure *backend
	each(t, func(s *stage) string {
		secure = s.backend("secure", s.ca.Issue(t, pkitest.Leaf{DNS: []string{"up.test"}}))
		s.backend("plain", nil)
		mark := ", metadata: {filter_metadata: {envoy.transport_socket_match: {mode: tls}}}"
		return "  listeners:\n" + s.listener("in", "", "{match: {prefix: /}, route: {cluster: up}}") + "  clusters:\n" +
			"  - name: up\n    transport_socket_matches:\n    - {name: tls, match: {mode: tls}, transport_socket: " + fmt.Sprintf(upstreamTLS, "") + "}\n" +
			"    - {name: rest, match: {}, transport_socket: {name: raw, typed_config: {'@type': " + types + "transport_sockets.raw_buffer.v3.RawBuffer}}}\n" +
			"    load_assignment: {cluster_name: up, endpoints: [{lb_endpoints: [" + endpoint(s.path("secure"), mark) + ", " + endpoint(s.path("plain"), "") + "]}]}\n"
	}, func(t *testing.T, s *stage) {
		seen := map[string]int{}
		for range 4 {
			seen[s.Get("in", "/")]++
		}
		if seen["200 secure"] != 2 || seen["200 plain"] != 2 || secure.handshakes.Load() != 1 {
			t.Errorf("%v, %d handshakes", seen, secure.handshakes.Load())
		}
	})
}

// TestTickets resumes sessions of clients by tickets, unless that is switched off, in both versions of TLS.
func TestTickets(t *testing.T) {
	each(t, func(s *stage) string {
		identity := "tls_certificates: [" + harness.Identity(t, s.ca.Issue(t, pkitest.Leaf{DNS: []string{"in.test"}})) + "]"
		return "  listeners:\n" + s.listener("in", "common_tls_context: {"+identity+"}", hello) +
			s.listener("never", "disable_stateless_session_resumption: true, common_tls_context: {"+identity+"}", hello)
	}, func(t *testing.T, s *stage) {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for name, want := range map[string]bool{"in": true, "never": false} {
				config := &tls.Config{ServerName: "in.test", MinVersion: version, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
				for i := range 3 {
					c, err := s.dial(t, name, config)
					if err != nil {
						t.Fatal(err)
					}
					if got, err := harness.Exchange(c, "/"); got != "200 ok" || err != nil { // which reads the ticket too
						t.Fatal(got, err)
					}
					if got := c.ConnectionState().DidResume; got != (want && i > 0) {
						t.Errorf("%s, %s, handshake %d: resumed: %v", name, tls.VersionName(version), i, got)
					}
					_ = c.Close()
				}
			}
		}
	})
}

// TestCertificates shows each client the certificate of the name that it asks for, of the kind of key that it knows.
func TestCertificates(t *testing.T) {
	each(t, func(s *stage) string {
		var all []string
		for _, l := range []pkitest.Leaf{
			{Name: "a-rsa", DNS: []string{"a.test"}, RSA: true},
			{Name: "a-ecdsa", DNS: []string{"a.test"}},
			{Name: "b-rsa", DNS: []string{"b.test"}, RSA: true},
			{Name: "wild", DNS: []string{"*.c.test"}},
		} {
			all = append(all, harness.Identity(t, s.ca.Issue(t, l)))
		}
		return "  listeners:\n" + s.listener("in", "common_tls_context: {tls_certificates: ["+strings.Join(all, ", ")+"]}", hello)
	}, func(t *testing.T, s *stage) {
		rsaOnly := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		for _, c := range []struct {
			sni    string
			suites []uint16 // of TLS 1.2
			want   string
		}{
			{"a.test", nil, "a-ecdsa"},
			{"a.test", rsaOnly, "a-rsa"},
			{"A.Test", nil, "a-ecdsa"},
			{"b.test", nil, "b-rsa"},
			{"b.test", rsaOnly, "b-rsa"},
			{"x.c.test", nil, "wild"},
			{"x.y.c.test", nil, "a-rsa"},
			{"other.test", nil, "a-rsa"},
			{"", nil, "a-ecdsa"},
			{"", rsaOnly, "a-rsa"},
		} {
			config := &tls.Config{ServerName: c.sni}
			if c.suites != nil {
				config.CipherSuites, config.MaxVersion = c.suites, tls.VersionTLS12
			}
			conn, err := s.dial(t, "in", config)
			if err != nil {
				t.Errorf("%+v: %v", c, err)
				continue
			}
			if got := conn.ConnectionState().PeerCertificates[0].Subject.CommonName; got != c.want {
				t.Errorf("%q, suites %v: %s, not %s", c.sni, c.suites, got, c.want)
			}
		}
	})
}

// soon wants a certificate to be shown within a second, and what a machine may add on which everything is tested at once.
func soon(t *testing.T, want string, shown func() string) {
	t.Helper()
	const busy = 4 * time.Second
	for end := time.Now().Add(time.Second + busy); shown() != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s is shown, not %s", shown(), want)
		}
	}
}

// TestSwap changes the certificate of a listener: new connections have the new one within a second, a bad one changes nothing, and the
// connections of before go on.
func TestSwap(t *testing.T) {
	secret := func(s *stage, c *pkitest.Certificate, key string) (path string) {
		path = s.path("sds.json")
		harness.Put(s.t, path, fmt.Sprintf(`{"version_info": "v", "resources": [{"@type": "%stransport_sockets.tls.v3.Secret", "name": "cert",
			"tls_certificate": {"certificate_chain": {"inline_string": %q}, "private_key": {"inline_string": %q}}}]}`, types, c.Chain(), key))
		return path
	}
	each(t, func(s *stage) string {
		first := s.ca.Issue(t, pkitest.Leaf{Name: "first"})
		path := secret(s, first, first.KeyPEM(t))
		return "  listeners:\n" + s.listener("in", "common_tls_context: {tls_certificate_sds_secret_configs: [{name: cert, sds_config: {path_config_source: {path: "+path+"}}}]}", hello)
	}, func(t *testing.T, s *stage) {
		shown := func() string {
			c, err := s.dial(t, "in", &tls.Config{})
			if err != nil {
				return err.Error()
			}
			defer func() { _ = c.Close() }()
			return c.ConnectionState().PeerCertificates[0].Subject.CommonName
		}
		old, err := s.dial(t, "in", &tls.Config{})
		if err != nil {
			t.Fatal(err)
		}
		second, third := s.ca.Issue(t, pkitest.Leaf{Name: "second"}), s.ca.Issue(t, pkitest.Leaf{Name: "third", RSA: true})
		secret(s, second, second.KeyPEM(t))
		soon(t, "second", shown)
		secret(s, third, second.KeyPEM(t)) // not its key
		s.WaitStat("sds.cert.update_rejected", 1)
		if got := shown(); got != "second" {
			t.Error("after a bad one:", got)
		}
		secret(s, third, third.KeyPEM(t))
		soon(t, "third", shown)
		if got, err := harness.Exchange(old, "/"); got != "200 ok" || err != nil {
			t.Error("the connection of before:", got, err)
		}
	})
}
