package http2

import (
	"errors"
	"strconv"
)

// Code is why a stream or a connection ends early (RFC 9113, 7).
type Code uint32

// The error codes.
const (
	NoError Code = iota
	ProtocolError
	InternalError
	FlowControlError
	SettingsTimeout
	StreamClosed
	FrameSizeError
	RefusedStream
	Cancel
	CompressionError
	ConnectError
	EnhanceYourCalm
	InadequateSecurity
	HTTP11Required
	codes
)

var codeNames = [codes]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
	"REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

// String returns the name as RFC 9113 has it.
func (c Code) String() string {
	if c < codes {
		return codeNames[c]
	}
	return strconv.FormatUint(uint64(c), 10)
}

// Error is input that ends the connection, and with it every stream.
type Error struct {
	Code Code
	// Details is Envoy's response code details.
	Details string
	text    string
}

func (e *Error) Error() string { return "http/2 protocol error: " + e.text }

// Reset is the end of one stream before its message was whole.
type Reset struct { //nolint:errname // the protocol calls it so
	Code Code
	// Remote says that the peer did it; else its message was malformed.
	Remote bool
}

func (r *Reset) Error() string {
	if r.Remote {
		return "http/2 stream reset by the peer: " + r.Code.String()
	}
	return "http/2 stream reset: " + r.Code.String()
}

var (
	// ErrGone is a connection that ended under a stream.
	ErrGone = errors.New("http2: the connection ended")
	// ErrGoAway is a stream that the peer has not looked at and will not: it went away before. It is safe to try elsewhere.
	ErrGoAway = errors.New("http2: the peer has gone away")
	// ErrBodyLength is a body that is longer or shorter than the content-length it is sent with.
	ErrBodyLength = errors.New("http2: body differs from its content-length")
	// ErrKeepalive is a connection whose peer has not answered a PING in time.
	ErrKeepalive = errors.New("http2: keep-alive timeout")

	errField     = &Error{ProtocolError, "http2.invalid.header.field", "malformed field"}
	errMessage   = &Error{ProtocolError, "http2.violation.of.messaging.rule", "malformed message"}
	errUnderline = &Error{RefusedStream, "http2.unexpected_underscore", "underscore in a header name"}
	errTooMany   = &Error{EnhanceYourCalm, "http2.too_many_headers", "head has too many fields"}
	errTooLong   = &Error{EnhanceYourCalm, "http2.header_list_size_too_large", "head is too long"}
	errCompress  = &Error{CompressionError, "http2.remote_protocol_error", "header block cannot be decompressed"}
)

func fault(code Code, text string) *Error { return &Error{code, "http2.remote_protocol_error", text} }

// resets are made once: a reset costs nothing.
var resets = func() (t [2][codes]*Reset) {
	for c := range codes {
		t[0][c], t[1][c] = &Reset{Code: c}, &Reset{Code: c, Remote: true}
	}
	return t
}()

func resetBy(c Code, remote bool) *Reset {
	i := 0
	if remote {
		i = 1
	}
	if c < codes {
		return resets[i][c]
	}
	return &Reset{Code: c, Remote: remote}
}

// Refused says that the peer has not looked at the stream, so that it can safely be tried again.
func Refused(err error) bool {
	var r *Reset
	return errors.Is(err, ErrGoAway) || errors.As(err, &r) && r.Remote && r.Code == RefusedStream
}
