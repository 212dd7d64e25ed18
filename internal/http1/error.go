package http1

import "errors"

// Error is input that the codec refuses. It is comparable: each one is a single value.
type Error struct {
	// Status is that of the local reply to a request; its body is the reason phrase of the status.
	Status int
	// Details is Envoy's response code details.
	Details string
	text    string
}

func (e *Error) Error() string { return "http/1.1 protocol error: " + e.text }

// What the codec refuses, with Envoy's details.
var (
	// ErrProtocol is input that is not HTTP/1.
	ErrProtocol = &Error{400, "http1.codec_error", "malformed message"}
	// ErrMethod is a method that is no token, or one that is not registered while CustomMethods is unset.
	ErrMethod = &Error{400, "http1.codec_error", "invalid method"}
	// ErrCharacters is a control character where none may be.
	ErrCharacters = &Error{400, "http1.invalid_characters", "header value contains invalid chars"}
	// ErrTooLarge is a head beyond its limit in bytes.
	ErrTooLarge = &Error{431, "http1.headers_too_large", "headers size exceeds limit"}
	// ErrTooMany is a head with too many fields.
	ErrTooMany = &Error{431, "http1.too_many_headers", "headers count exceeds limit"}
	// ErrTrailersTooMany is a trailer section with too many fields.
	ErrTrailersTooMany = &Error{431, "http1.too_many_trailers", "trailers count exceeds limit"}
	// ErrUnderscore is a header name with an underscore.
	ErrUnderscore = &Error{400, "http1.unexpected_underscore", "header name contains underscores"}
	// ErrChunkedLength is a message with both Content-Length and Transfer-Encoding.
	ErrChunkedLength = &Error{400, "http1.content_length_and_chunked_not_allowed", "both 'Content-Length' and 'Transfer-Encoding' are set"}
	// ErrTransferEncoding is a transfer coding other than chunked.
	ErrTransferEncoding = &Error{501, "http1.invalid_transfer_encoding", "unsupported transfer encoding"}
	// ErrBodyDisallowed is a CONNECT with a body.
	ErrBodyDisallowed = &Error{400, "http1.body_disallowed", "unsupported content length"}
	// ErrConnectionHeader is a Connection header that nominates what it must not.
	ErrConnectionHeader = &Error{400, "http1.connection_header_rejected", "invalid nominated headers in Connection"}
	// ErrURL is a request target that is none.
	ErrURL = &Error{400, "http1.invalid_url", "invalid url in request line"}
	// ErrScheme is a target in absolute form that is neither http nor https.
	ErrScheme = &Error{400, "http1.invalid_scheme", "invalid scheme"}
	// ErrAuthority is a Host with characters that no host has.
	ErrAuthority = &Error{400, "http.invalid_authority", "request headers failed spec compliance checks"}
	// ErrVersion is a request of HTTP/1.0 or HTTP/0.9 while AcceptHTTP10 is unset.
	ErrVersion = &Error{426, "low_version", "HTTP/1.0 is not accepted"}
	// ErrLengthNotAllowed is an interim or 204 response with a Content-Length.
	ErrLengthNotAllowed = &Error{502, "http1.content_length_not_allowed", "content length not allowed in 1xx or 204"}
	// ErrEncodingNotAllowed is an interim or 204 response with a Transfer-Encoding.
	ErrEncodingNotAllowed = &Error{502, "http1.transfer_encoding_not_allowed", "transfer encoding not allowed in 1xx or 204"}

	// ErrBodyLength is a body that is longer or shorter than the content-length it is sent with.
	ErrBodyLength = errors.New("http1: body differs from its content-length")
	// ErrNoResponse is a connection that ended before the first byte of a response.
	ErrNoResponse = errors.New("http1: connection ended before a response")
)
