package http1

// Case is how a header name is written on the wire (core.v3.Http1ProtocolOptions.HeaderKeyFormat).
type Case uint8

// The cases. Names are in lower case everywhere inside of the proxy.
const (
	LowerCase  Case = iota
	ProperCase      // proper_case_words: the first letter, and each one behind what is no letter or digit, is upper case
)

// Underscores is what happens to a request with an underscore in a header name
// (core.v3.HttpProtocolOptions.headers_with_underscores_action).
type Underscores uint8

// The actions on underscores.
const (
	AllowUnderscores Underscores = iota
	RejectUnderscores
	DropUnderscores
)

// Options is core.v3.Http1ProtocolOptions with those of core.v3.HttpProtocolOptions that the codec needs. Start from Defaults.
type Options struct {
	// NoAbsoluteURL leaves a target in absolute form as it is (allow_absolute_url: false).
	NoAbsoluteURL bool
	// AcceptHTTP10 takes HTTP/1.0 and HTTP/0.9 requests, which are refused with 426 otherwise (accept_http_10).
	AcceptHTTP10 bool
	// DefaultHost is the authority of an HTTP/1.0 request without one (default_host_for_http_10).
	DefaultHost string
	// Trailers passes trailers on; they are dropped otherwise (enable_trailers).
	Trailers bool
	// ChunkedLength takes a message with both Transfer-Encoding and Content-Length and drops the latter (allow_chunked_length).
	ChunkedLength bool
	// FullURL sends request targets in absolute form (send_fully_qualified_url).
	FullURL bool
	// CustomMethods takes any token as a method; others than the registered ones are refused otherwise (allow_custom_methods).
	CustomMethods bool
	// IgnoreUpgrade says that a request to upgrade to this protocol is treated as if it did not ask (ignore_http_11_upgrade);
	// nil: none. h2c is never taken up.
	IgnoreUpgrade func(protocol string) bool
	// Underscores is the action on header names with an underscore.
	Underscores Underscores
	// OnUnderscore is told of each such header that is dropped, or of the request that is refused; nil: nobody.
	OnUnderscore func(dropped bool)
	// HeadLimit bounds the bytes of a head: names, values and the target (max_request_headers_kb: 60 KiB; of a
	// response, max_response_headers_kb: 80 KiB).
	HeadLimit int
	// FieldLimit bounds the number of header fields, and of trailer fields (max_headers_count; 100).
	FieldLimit int

	// Case is how names are written that have no case of their own (proper_case_words).
	Case Case
	// KeepCase remembers the case of received names, and writes them so on the other side (stateful_formatter: preserve_case).
	KeepCase bool
	// KeepReason passes the reason phrase of a response on, if KeepCase (forward_reason_phrase).
	KeepReason bool
	// OwnCase is, if KeepCase, how names are written that the proxy added (formatter_type_on_envoy_headers).
	OwnCase Case
}

// Defaults returns Envoy's default options.
func Defaults() Options { return Options{HeadLimit: 60 << 10, FieldLimit: 100} }

// UpstreamDefaults returns those for the upstream side, where a head may have 80 KiB.
func UpstreamDefaults() Options { return Options{HeadLimit: 80 << 10, FieldLimit: 100} }

var defaults, upstreamDefaults = Defaults(), UpstreamDefaults()
