package format

import (
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// streamCommands are the operators that read what is known of the stream itself.
func streamCommands() map[string]command {
	zero := number(func(*stream.Stream) int64 { return 0 }) // of QUIC, which there is none of
	return map[string]command{
		"PROTOCOL":                                      text(func(s *stream.Stream) string { return s.Info.Protocol.String() }),
		"RESPONSE_CODE":                                 number(func(s *stream.Stream) int64 { return int64(s.Info.Status) }),
		"RESPONSE_CODE_DETAILS":                         {paramOptional, responseDetails},
		"CONNECTION_TERMINATION_DETAILS":                text(terminationDetails),
		"RESPONSE_FLAGS":                                flags(stream.Flags.String),
		"RESPONSE_FLAGS_LONG":                           flags(stream.Flags.Long),
		"BYTES_RECEIVED":                                number(func(s *stream.Stream) int64 { return s.Info.BytesIn }),
		"BYTES_SENT":                                    number(func(s *stream.Stream) int64 { return s.Info.BytesOut }),
		"BYTES_RETRANSMITTED":                           zero,
		"PACKETS_RETRANSMITTED":                         zero,
		"DOWNSTREAM_WIRE_BYTES_RECEIVED":                number(func(s *stream.Stream) int64 { return s.Info.WireIn }),
		"DOWNSTREAM_WIRE_BYTES_SENT":                    number(func(s *stream.Stream) int64 { return s.Info.WireOut }),
		"DOWNSTREAM_HEADER_BYTES_RECEIVED":              number(headerIn),
		"DOWNSTREAM_HEADER_BYTES_SENT":                  number(headerOut),
		"DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED": number(headerIn),
		"DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT":     number(headerOut),
		"ROUTE_NAME":                                    text(func(s *stream.Stream) string { return s.Info.Route }),
		"VIRTUAL_CLUSTER_NAME":                          text(func(s *stream.Stream) string { return s.Info.VirtualCluster }),
		"FILTER_CHAIN_NAME":                             text(func(s *stream.Stream) string { return s.Info.Conn.FilterChain }),
		"LISTENER_NAME":                                 text(func(s *stream.Stream) string { return s.Info.Conn.Listener }),
		"CONNECTION_ID":                                 number(func(s *stream.Stream) int64 { return int64(s.Info.Conn.ID) }),
		"STREAM_ID":                                     text(streamID),
		"TRACE_ID":                                      text(func(s *stream.Stream) string { return s.Info.TraceID }),
		"SPAN_ID":                                       text(func(s *stream.Stream) string { return s.Info.SpanID }),
		"CUSTOM_FLAGS":                                  textAlways(func(s *stream.Stream) string { return s.Info.CustomFlags }),
		"LOCAL_REPLY_BODY":                              textAlways(func(s *stream.Stream) string { return s.Info.LocalReplyBody }),
		"ACCESS_LOG_TYPE":                               textAlways(func(s *stream.Stream) string { return s.Info.LogType.String() }),
		"DOWNSTREAM_TRANSPORT_FAILURE_REASON":           text(func(s *stream.Stream) string { return underscores(s.Info.Conn.TransportFailure) }),
		"DOWNSTREAM_LOCAL_CLOSE_REASON":                 text(func(s *stream.Stream) string { return s.Info.Conn.LocalClose }),
		"DOWNSTREAM_DETECTED_CLOSE_TYPE":                text(func(s *stream.Stream) string { return closeType(s.Info.Conn.CloseType) }),
	}
}

func headerIn(s *stream.Stream) int64  { return s.Info.HeaderIn }
func headerOut(s *stream.Stream) int64 { return s.Info.HeaderOut }

func closeType(seen string) string {
	if seen == "" {
		return "Normal"
	}
	return seen
}

func terminationDetails(s *stream.Stream) string {
	if d := s.Info.ConnectionTermination; d != "" {
		return d
	}
	return s.Info.Conn.TerminationDetails
}

// streamID is the request id, which the connection manager keeps in Info and in the head.
func streamID(s *stream.Stream) string {
	if s.Info.RequestID != "" {
		return s.Info.RequestID
	}
	v, _ := s.Request.Header.Get("x-request-id")
	return v
}

// flags are the response flags, by their short or long names.
func flags(name func(stream.Flags) string) command {
	return appending(func(b []byte, s *stream.Stream) ([]byte, bool) { return s.Info.AppendFlags(b, name), true })
}

// responseDetails is %RESPONSE_CODE_DETAILS(X)%.
func responseDetails(c call) (*operator, error) {
	value := func(s *stream.Stream) string { return underscores(s.Info.Details) }
	if c.param == "ALLOW_WHITESPACES" {
		value = func(s *stream.Stream) string { return s.Info.Details }
	}
	return text(value).build(c)
}

// underscores replaces white space, which would split a field of a log line in two.
func underscores(s string) string {
	if !strings.ContainsAny(s, " \t\n\r\v\f") {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r < 0x80 && strings.IndexByte(" \t\n\r\v\f", byte(r)) >= 0 {
			return '_'
		}
		return r
	}, s)
}
