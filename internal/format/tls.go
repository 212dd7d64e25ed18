package format

import (
	"strings"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func downstreamTLS(s *stream.Stream) stream.TLSInfo { return s.Info.Conn.TLS }
func upstreamTLS(s *stream.Stream) stream.TLSInfo   { return s.Info.Upstream.TLS }

// tlsCommands are the operators that read a TLS connection. They have no value on a plain one.
func tlsCommands() map[string]command {
	all := map[string]command{
		"TLS_JA3_FINGERPRINT": text(func(s *stream.Stream) string { return s.Info.Conn.JA3 }),
		"TLS_JA4_FINGERPRINT": text(func(s *stream.Stream) string { return s.Info.Conn.JA4 }),
	}
	values := tlsValues()
	for name, value := range values {
		all["DOWNSTREAM_"+name] = ofTLS(downstreamTLS, value)
	}
	for _, name := range []string{
		"TLS_CIPHER", "TLS_GROUP", "TLS_VERSION", "TLS_SESSION_ID", "PEER_ISSUER", "PEER_CERT", "PEER_SUBJECT",
		"PEER_URI_SAN", "PEER_DNS_SAN", "PEER_IP_SAN", "LOCAL_URI_SAN", "LOCAL_DNS_SAN", "LOCAL_IP_SAN",
	} {
		all["UPSTREAM_"+name] = ofTLS(upstreamTLS, values[name])
	}
	for prefix, of := range map[string]func(*stream.Stream) stream.TLSInfo{"DOWNSTREAM_": downstreamTLS, "UPSTREAM_": upstreamTLS} {
		all[prefix+"PEER_CERT_V_START"] = timeCommand(false, validity(of, func(from, _ time.Time) time.Time { return from }))
		all[prefix+"PEER_CERT_V_END"] = timeCommand(false, validity(of, func(_, until time.Time) time.Time { return until }))
	}
	return all
}

func ofTLS(of func(*stream.Stream) stream.TLSInfo, value func(stream.TLSInfo) string) command {
	return text(func(s *stream.Stream) string {
		if t := of(s); t != nil {
			return value(t)
		}
		return ""
	})
}

func validity(of func(*stream.Stream) stream.TLSInfo, pick func(from, until time.Time) time.Time) func(*stream.Stream) time.Time {
	return func(s *stream.Stream) time.Time {
		if t := of(s); t != nil {
			return pick(t.PeerValidity())
		}
		return time.Time{}
	}
}

func tlsValues() map[string]func(t stream.TLSInfo) string {
	all := map[string]func(t stream.TLSInfo) string{
		"TLS_CIPHER":           stream.TLSInfo.Cipher,
		"TLS_VERSION":          stream.TLSInfo.Version,
		"PEER_SUBJECT":         stream.TLSInfo.PeerSubject,
		"LOCAL_SUBJECT":        stream.TLSInfo.LocalSubject,
		"PEER_FINGERPRINT_256": stream.TLSInfo.PeerFingerprint,
		"PEER_URI_SAN":         func(t stream.TLSInfo) string { return strings.Join(t.PeerURISANs(), ",") },
		"PEER_DNS_SAN":         func(t stream.TLSInfo) string { return strings.Join(t.PeerDNSSANs(), ",") },
		"LOCAL_URI_SAN":        func(t stream.TLSInfo) string { return strings.Join(t.LocalURISANs(), ",") },
	}
	for name, which := range map[string]stream.TLSText{
		"TLS_GROUP": stream.TLSGroup, "TLS_SESSION_ID": stream.TLSSessionID,
		"PEER_ISSUER": stream.PeerIssuer, "PEER_SERIAL": stream.PeerSerial, "PEER_CERT": stream.PeerCertificate,
		"PEER_FINGERPRINT_1": stream.PeerFingerprint1, "PEER_IP_SAN": stream.PeerIPSANs, "PEER_EMAIL_SAN": stream.PeerEmailSANs,
		"PEER_OTHERNAME_SAN": stream.PeerOtherNameSANs, "PEER_ISSUER_FINGERPRINT_256": stream.PeerIssuerFingerprint256,
		"PEER_ISSUER_SERIAL": stream.PeerIssuerSerial, "PEER_CHAIN_FINGERPRINTS_256": stream.PeerChainFingerprints256,
		"PEER_CHAIN_FINGERPRINTS_1": stream.PeerChainFingerprints1, "PEER_CHAIN_SERIALS": stream.PeerChainSerials,
		"LOCAL_DNS_SAN": stream.LocalDNSSANs, "LOCAL_IP_SAN": stream.LocalIPSANs, "LOCAL_EMAIL_SAN": stream.LocalEmailSANs,
		"LOCAL_OTHERNAME_SAN": stream.LocalOtherNameSANs,
	} {
		all[name] = func(t stream.TLSInfo) string { return t.Text(which) }
	}
	return all
}
