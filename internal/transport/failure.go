package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"syscall"
)

// Codes of BoringSSL (include/openssl/ssl.h): operators look for these texts.
const (
	codeVerifyFailed  = "268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED"
	codeNoCertificate = "268435648:SSL routines:OPENSSL_internal:PEER_DID_NOT_RETURN_A_CERTIFICATE:peer did not provide required client certificate"
	codeHTTP          = "268435612:SSL routines:OPENSSL_internal:HTTP_REQUEST"
	codeHTTPProxy     = "268435611:SSL routines:OPENSSL_internal:HTTPS_PROXY_REQUEST"
	codeWrongVersion  = "268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER"
	codeUnsupported   = "268435696:SSL routines:OPENSSL_internal:UNSUPPORTED_PROTOCOL"
	codeNoCipher      = "268435640:SSL routines:OPENSSL_internal:NO_SHARED_CIPHER"
	codeNoGroup       = "268435728:SSL routines:OPENSSL_internal:NO_SHARED_GROUP"
	codeNoALPN        = "268435694:SSL routines:OPENSSL_internal:NO_APPLICATION_PROTOCOL"
	codeKeyUsage      = "268435758:SSL routines:OPENSSL_internal:KEY_USAGE_BIT_INCORRECT"
	codeNoSigAlg      = "268435709:SSL routines:OPENSSL_internal:NO_COMMON_SIGNATURE_ALGORITHMS"
)

// alerts are the names of the alerts of TLS (RFC 8446 section 6) as BoringSSL has them.
var alerts = func() map[uint64]string {
	m := map[uint64]string{
		10: "SSLV3_ALERT_UNEXPECTED_MESSAGE", 20: "SSLV3_ALERT_BAD_RECORD_MAC", 21: "TLSV1_ALERT_DECRYPTION_FAILED",
		22: "TLSV1_ALERT_RECORD_OVERFLOW", 30: "SSLV3_ALERT_DECOMPRESSION_FAILURE", 40: "SSLV3_ALERT_HANDSHAKE_FAILURE", 41: "SSLV3_ALERT_NO_CERTIFICATE",
		42: "SSLV3_ALERT_BAD_CERTIFICATE", 43: "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", 44: "SSLV3_ALERT_CERTIFICATE_REVOKED",
		45: "SSLV3_ALERT_CERTIFICATE_EXPIRED", 46: "SSLV3_ALERT_CERTIFICATE_UNKNOWN", 47: "SSLV3_ALERT_ILLEGAL_PARAMETER", 48: "TLSV1_ALERT_UNKNOWN_CA",
		49: "TLSV1_ALERT_ACCESS_DENIED", 50: "TLSV1_ALERT_DECODE_ERROR", 51: "TLSV1_ALERT_DECRYPT_ERROR", 70: "TLSV1_ALERT_PROTOCOL_VERSION",
		71: "TLSV1_ALERT_INSUFFICIENT_SECURITY", 80: "TLSV1_ALERT_INTERNAL_ERROR", 86: "TLSV1_ALERT_INAPPROPRIATE_FALLBACK",
		90: "TLSV1_ALERT_USER_CANCELLED", 100: "TLSV1_ALERT_NO_RENEGOTIATION", 110: "TLSV1_ALERT_UNSUPPORTED_EXTENSION",
		111: "TLSV1_ALERT_CERTIFICATE_UNOBTAINABLE", 112: "TLSV1_ALERT_UNRECOGNIZED_NAME", 113: "TLSV1_ALERT_BAD_CERTIFICATE_STATUS_RESPONSE",
		114: "TLSV1_ALERT_BAD_CERTIFICATE_HASH_VALUE", 115: "TLSV1_ALERT_UNKNOWN_PSK_IDENTITY", 116: "TLSV1_ALERT_CERTIFICATE_REQUIRED",
		120: "TLSV1_ALERT_NO_APPLICATION_PROTOCOL", 121: "TLSV1_ALERT_ECH_REQUIRED",
	}
	return m
}()

// firstAlert is the code of alert 0: BoringSSL adds 1000 to the number, in the library SSL.
const firstAlert = 16<<24 + 1000

// local are errors that crypto/tls has no type for, by their text.
var local = []struct{ text, code string }{
	{errKeyUsage.Error(), codeKeyUsage},
	{"client didn't provide a certificate", codeNoCertificate},
	{"unsupported versions", codeUnsupported},
	{"unsupported protocol version", codeUnsupported},
	{"no cipher suite supported by both", codeNoCipher},
	{"unsupported application protocol", codeNoALPN},
	{"no ECDHE curve supported by both", codeNoGroup},
	{"no supported elliptic curves", codeNoGroup},
	{"no key exchanges supported by both", codeNoGroup},
	{"peer doesn't support any of the certificate's signature algorithms", codeNoSigAlg},
}

// words tells why a handshake has failed as Envoy's transport_failure_reason does, and whether it counts as a connection_error.
func words(err error) (text string, counts bool) {
	var f *failure
	var record tls.RecordHeaderError
	var op *net.OpError
	var errno syscall.Errno
	switch {
	case errors.As(err, &f):
		return wrap(codeVerifyFailed + ":" + f.text), false
	case errors.As(err, &record):
		return wrap(notTLS(record.RecordHeader)), true
	case errors.As(err, &op) && op.Op == "remote error":
		if v := reflect.ValueOf(op.Err); v.Kind() == reflect.Uint8 {
			return wrap(alertText(v.Uint())), true
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "", false
	case errors.As(err, &errno):
		return wrap(fmt.Sprintf("%d:system library:OPENSSL_internal:%s%s", 2<<24+int(errno), strings.ToUpper(errno.Error()[:1]), errno.Error()[1:])), false
	}
	for _, l := range local {
		if strings.Contains(err.Error(), l.text) {
			return wrap(l.code), l.code != codeNoCertificate
		}
	}
	if after, ok := strings.CutPrefix(err.Error(), "tls: "); ok {
		return wrap("268435456:SSL routines:crypto_tls:" + after), true
	}
	return err.Error(), false // a limit, or the end of the process
}

func wrap(text string) string { return "TLS_error:|" + text + ":TLS_error_end" }

func alertText(n uint64) string {
	name := alerts[n]
	if name == "" {
		name = fmt.Sprintf("UNKNOWN_ALERT_%d", n)
	}
	return fmt.Sprintf("%d:SSL routines:OPENSSL_internal:%s", firstAlert+n, name)
}

// notTLS tells what a peer speaks instead of TLS.
func notTLS(header [5]byte) string {
	switch string(header[:4]) {
	case "GET ", "POST", "HEAD", "PUT ":
		return codeHTTP
	case "CONN":
		return codeHTTPProxy
	}
	return codeWrongVersion
}
