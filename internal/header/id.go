package header

import "unsafe"

// ID stands for a well-known name: one that the codecs act on, or of which Envoy holds only one field per message.
type ID uint8

// The well-known names that code asks for by ID; the rest of the table is only there to be joined.
const (
	Other ID = iota // not well-known
	Host
	ContentLength
	TransferEncoding
	Connection
	KeepAlive
	ProxyConnection
	Upgrade
	TE
	Expect
	ContentType
	Date
	Server
	UserAgent
	Accept
	AcceptEncoding
	Authorization
	CacheControl
	Via
	RequestID
	ForwardedFor
	ForwardedProto
	ForwardedHost
	Location
	GRPCStatus
	HTTP2Settings
)

// names are those of the IDs; how they are joined was recorded from Envoy 1.40.
var names = func() []entry {
	const rq, rs = 1 << Request, 1 << Response
	all := []entry{
		Other: {}, Host: {"host", rq}, ContentLength: {"content-length", 0}, TransferEncoding: {"transfer-encoding", 0},
		Connection: {"connection", rq | rs}, KeepAlive: {"keep-alive", rq | rs}, ProxyConnection: {"proxy-connection", rq | rs},
		Upgrade: {"upgrade", rq | rs}, TE: {"te", rq}, Expect: {"expect", rq}, ContentType: {"content-type", rq | rs},
		Date: {"date", rs}, Server: {"server", rs}, UserAgent: {"user-agent", rq}, Accept: {"accept", rq},
		AcceptEncoding: {"accept-encoding", rq}, Authorization: {"authorization", rq}, CacheControl: {"cache-control", rq | rs},
		Via: {"via", rq | rs}, RequestID: {"x-request-id", rq | rs}, ForwardedFor: {"x-forwarded-for", rq},
		ForwardedProto: {"x-forwarded-proto", rq}, ForwardedHost: {"x-forwarded-host", rq}, Location: {"location", rs},
		GRPCStatus: {"grpc-status", rs}, HTTP2Settings: {"http2-settings", 0},
	}
	for _, n := range []string{
		"x-client-trace-id", "x-envoy-downstream-service-cluster", "x-envoy-downstream-service-node", "x-envoy-external-address",
		"x-envoy-force-trace", "x-envoy-hedge-on-per-try-timeout", "x-envoy-internal", "x-envoy-ip-tags", "x-envoy-max-retries",
		"x-envoy-original-path", "x-envoy-original-host", "x-envoy-original-url", "x-envoy-retry-on", "x-envoy-retry-grpc-on",
		"x-envoy-retriable-header-names", "x-envoy-retriable-status-codes", "x-envoy-is-timeout-retry",
		"x-envoy-upstream-stream-duration-ms", "x-forwarded-client-cert", "x-forwarded-port", "x-envoy-expected-rq-timeout-ms",
		"x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-alt-stat-name",
		"grpc-timeout", "grpc-accept-encoding", "access-control-request-method", "access-control-request-headers",
		"access-control-request-private-network", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since",
		"if-range", "origin", "pragma", "referer",
	} {
		all = append(all, entry{n, rq})
	}
	for _, n := range []string{"content-encoding", "proxy-status", "x-envoy-attempt-count", "x-envoy-decorator-operation"} {
		all = append(all, entry{n, rq | rs})
	}
	for _, n := range []string{
		"vary", "etag", "age", "expires", "last-modified", "grpc-message", "access-control-allow-origin", "access-control-allow-headers",
		"access-control-allow-methods", "access-control-allow-credentials", "access-control-expose-headers", "access-control-max-age",
		"access-control-allow-private-network", "x-envoy-degraded", "x-envoy-immediate-health-check-fail", "x-envoy-ratelimited",
		"x-envoy-upstream-healthchecked-cluster", "x-envoy-upstream-service-time", "x-envoy-upstream-canary",
	} {
		all = append(all, entry{n, rs})
	}
	return all
}()

type entry struct {
	name  string
	joins uint8 // a bit per role
}

// joined[id] has a bit for each role in which id is held once.
var joined = func() (t [256]uint8) {
	for i, e := range names {
		t[i] = e.joins
	}
	return t
}()

// table finds the ID of a name by a hash of its length and three of its letters, which has few collisions over names; the
// name is compared, and a slot that is taken goes to the next one.
var table = func() (t [1024]ID) {
	for i := 1; i < len(names); i++ {
		h := hash(names[i].name)
		for t[h] != Other {
			h = (h + 1) % uint32(len(t))
		}
		t[h] = ID(i)
	}
	return t
}()

func hash(s string) uint32 {
	n := len(s)
	return (uint32(n)*37 + uint32(s[0])*131 + uint32(s[n/2])*29 + uint32(s[n-1])*521 + uint32(s[n-2])*7) % 1024
}

// Lookup returns the ID of a name in lower case (5 ns).
func Lookup(name string) ID {
	if len(name) < 2 {
		return Other
	}
	for h := hash(name); ; h = (h + 1) % 1024 {
		id := table[h]
		if id == Other || names[id].name == name {
			return id
		}
	}
}

// Name returns the name of id.
func (id ID) Name() string { return names[id].name }

func raw(ids []ID) []byte { return unsafe.Slice((*byte)(unsafe.SliceData(ids)), len(ids)) }

// ProperCase appends name with a capital at its beginning and behind each character that is no letter or digit
// (Envoy: proper_case_words).
func ProperCase(b []byte, name string) []byte {
	start := true
	for i := 0; i < len(name); i++ {
		c := name[i]
		letter := c >= 'a' && c <= 'z'
		if start && letter {
			c -= 'a' - 'A'
		}
		start = !letter && (c < '0' || c > '9') && (c < 'A' || c > 'Z')
		b = append(b, c)
	}
	return b
}
