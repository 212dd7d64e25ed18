// Package http2 multiplexes streams over a connection, on both sides of the proxy (RFC 9113), with its own header compression
// (RFC 7541).
//
// A Conn is one socket of one worker. While nothing comes in it has no fiber and no buffer; when bytes come, a fiber reads frames and
// puts what they carry into their streams. A server's stream is served by a fiber of its own; a client's is used by whichever fiber
// opened it. What streams write is gathered and goes out in one write per turn of the loop.
//
// It is strict where RFC 9113 leaves a choice and two parsers could come to see two messages: a head that is malformed ends the
// connection (Envoy's default) or its stream, and never reaches HTTP/1. What a peer may make us keep or do is bounded, with
// Envoy's limits (flood.go).
package http2

import "time"

// Preface is what a client sends first (RFC 9113, 3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Underscores is what happens to a request with an underscore in a header name
// (core.v3.HttpProtocolOptions.headers_with_underscores_action).
type Underscores uint8

// The actions on underscores.
const (
	AllowUnderscores Underscores = iota
	RejectUnderscores
	DropUnderscores
)

// Options is core.v3.Http2ProtocolOptions with what the codec needs beside it. Start from Defaults. It must not change while a connection uses it.
type Options struct {
	// TableSize bounds the dynamic tables of both directions in bytes (hpack_table_size: 4096).
	TableSize uint32
	// MaxStreams bounds the streams of a connection at a time (max_concurrent_streams: 1024).
	MaxStreams uint32
	// StreamWindow and ConnWindow are how many bytes a peer may send before somebody has read them (initial_stream_window_size:
	// 16 MiB, initial_connection_window_size: 24 MiB; at least 65535).
	StreamWindow, ConnWindow uint32
	// FirstWindow and FirstConn are what a stream and a connection begin with (64 KiB and 8 MiB; StreamWindow and ConnWindow where they
	// are configured). They grow to those where they limit what comes: it is read at once, and half a window in less than two round
	// trips. So slow readers cost no more than this.
	FirstWindow, FirstConn uint32
	// Connect takes extended CONNECT (RFC 8441; allow_connect).
	Connect bool
	// MaxFrames and MaxControl bound the frames that wait to be written, and those of them that answer a peer's (max_outbound_frames:
	// 10000, max_outbound_control_frames: 1000).
	MaxFrames, MaxControl uint32
	// MaxEmpty bounds consecutive frames with no payload that end nothing (max_consecutive_inbound_frames_with_empty_payload: 1).
	MaxEmpty uint32
	// MaxPriority bounds PRIORITY frames per stream (max_inbound_priority_frames_per_stream: 100).
	MaxPriority uint32
	// MaxUpdates bounds WINDOW_UPDATE frames per DATA frame sent (max_inbound_window_update_frames_per_data_frame_sent: 10).
	MaxUpdates uint32
	// ResetBurst and ResetRate are the token bucket of RST_STREAM frames that a server takes (stream_reset_burst: 1000,
	// stream_reset_rate: 33 per second).
	ResetBurst, ResetRate uint64
	// StreamErrors resets only the stream when its message is malformed (override_stream_error_on_invalid_http_message).
	StreamErrors bool
	// NoHuffman writes strings as they are (enable_huffman_encoding: false); AlwaysHuffman compresses those too that are sent but once.
	NoHuffman, AlwaysHuffman bool
	// Underscores is the action on header names with an underscore.
	Underscores Underscores
	// HeadLimit bounds the bytes of the names and values of a head (max_request_headers_kb: 60 KiB; of a response,
	// max_response_headers_kb: 80 KiB).
	HeadLimit int
	// FieldLimit bounds the number of header fields, and of trailer fields (max_headers_count; 100).
	FieldLimit int
	// TextLimit bounds the bytes of a name or a value as it comes, compressed (max_header_field_size_kb: 64 KiB).
	TextLimit uint32
	// NoObsText refuses values with bytes beyond ASCII (disallow_obs_text).
	NoObsText bool
	// Extra are further SETTINGS, as they are sent (custom_settings_parameters).
	Extra string
	// Linger is how long a connection that we end waits for the peer to have read why (delayed_close_timeout; 1 s).
	Linger time.Duration
	// Keepalive is connection_keepalive; the zero value sends no PING.
	Keepalive Keepalive
	// FlushTimeout is how long a peer may take nothing of what we write (5 min).
	FlushTimeout time.Duration
	// Stats are counted into.
	Stats *Stats
}

// Keepalive is core.v3.KeepaliveSettings.
type Keepalive struct {
	Interval time.Duration // between PINGs; 0: none
	Timeout  time.Duration // in which the answer, or any frame, must come
	Jitter   float64       // percent by which an interval may be longer; 15
	Idle     time.Duration // a connection that was idle for so long sends a PING ahead of a new stream; 0: none
}

// Defaults returns Envoy's default options of a server.
func Defaults() Options {
	return Options{
		TableSize: 4096, MaxStreams: 1024, StreamWindow: 16 << 20, ConnWindow: 24 << 20, FirstWindow: 64 << 10, FirstConn: 8 << 20, MaxFrames: 10000, MaxControl: 1000, MaxEmpty: 1,
		MaxPriority: 100, MaxUpdates: 10, ResetBurst: 1000, ResetRate: 33, HeadLimit: 60 << 10, FieldLimit: 100, TextLimit: 64 << 10, Linger: time.Second,
		FlushTimeout: 5 * time.Minute, Stats: &Stats{},
	}
}

// UpstreamDefaults returns those of a client, where a head may have 80 KiB.
func UpstreamDefaults() Options {
	o := Defaults()
	o.HeadLimit, o.Linger = 80<<10, 0
	return o
}
