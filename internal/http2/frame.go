package http2

import "encoding/binary"

// frameType is the type of a frame (RFC 9113, 6).
type frameType uint8

const (
	frameData frameType = iota
	frameHeaders
	framePriority
	frameReset
	frameSettings
	framePush
	framePing
	frameGoAway
	frameUpdate
	frameContinuation
)

const (
	flagAck        = 1
	flagEndStream  = 1
	flagEndHeaders = 4
	flagPadded     = 8
	flagPriority   = 32
)

const (
	settingTableSize  = 1
	settingPush       = 2
	settingMaxStreams = 3
	settingWindow     = 4
	settingMaxFrame   = 5
	settingConnect    = 8
	frameHead         = 9         // bytes before the payload
	maxFrame          = 16 << 10  // that we take: SETTINGS_MAX_FRAME_SIZE is not sent
	maxWindow         = 1<<31 - 1 // of flow control
	initialWindow     = 65535
	maxID             = 1<<31 - 1
	maxContinuations  = 8  // as in nghttp2
	maxSettings       = 32 // entries of a frame, as in nghttp2
	maxInterim        = 64 // responses of a stream
	highWater         = 64 << 10
	headsWater        = 256 << 10
	rememberedResets  = 64
	maxFibers         = 128 // of streams that have come but not begun
)

// frame is the head of a frame.
type frame struct {
	length int
	kind   frameType
	flags  byte
	id     uint32
}

func parseFrame(b []byte) frame {
	return frame{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]), kind: frameType(b[3]), flags: b[4],
		id: binary.BigEndian.Uint32(b[5:]) & maxID,
	}
}

func appendFrame(b []byte, n int, k frameType, flags byte, id uint32) []byte {
	return append(b, byte(n>>16), byte(n>>8), byte(n), byte(k), flags, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

// unpad returns the payload without its padding (RFC 9113, 6.1).
func unpad(f frame, p []byte) (_ []byte, ok bool) {
	if f.flags&flagPadded == 0 {
		return p, true
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, false
	}
	return p[1 : len(p)-int(p[0])], true
}
